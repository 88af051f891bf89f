package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/runtime/testkit"
)

// onStore makes the host use another shared database, with everything else as it was.
func (h *host) onStore(url string) {
	h.t.Helper()
	flags := map[string]string{}
	for _, s := range h.config.Settings() {
		if strings.HasPrefix(s.Source, "flag") {
			flags[s.Key] = s.Value
		}
	}
	cfg, err := config.Load("", []string{"KMS_STORE=" + url}, flags)
	if err != nil {
		h.t.Fatal(err)
	}
	h.config = cfg
}

// TestBackup_mysqlThereAndBack holds what docs/operations.md says of MariaDB: the same two commands, through its own programs.
func TestBackup_mysqlThereAndBack(t *testing.T) {
	testkit.Need(t, "mariadb-dump")
	url := testkit.MySQL(t)
	h := newHost(t)
	h.onStore(url)
	h.up()
	ctx := t.Context()
	backup := filepath.Join(h.dir, "kms.sql")
	if err := h.client.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
	before := h.epoch()
	text, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(h.dir, "cut.sql")
	if err := os.WriteFile(cut, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.client.Restore(ctx, cut); controlplane.AsError(err).Kind != controlplane.Usage || h.epoch() != before {
		t.Errorf("a dump that is cut off: %v", err)
	}
	if err := h.client.Restore(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if after := h.epoch(); after == before || after == "" {
		t.Errorf("the epoch was %q and is %q", before, after)
	}
	if left, _ := filepath.Glob(filepath.Join(h.config.Paths().State, ".*.cnf")); len(left) > 0 {
		t.Errorf("a file with the password is left: %v", left)
	}
}
