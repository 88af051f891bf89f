package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestBackup_removesWhatKilledOnesLeft of this home beside its file, but not while another is written.
func TestBackup_removesWhatKilledOnesLeft(t *testing.T) {
	d := newLedger(t)
	dir := t.TempDir()
	killed, other := filepath.Join(dir, d.halfBackup()+"1"), filepath.Join(dir, ".kms-backup-another-1")
	for _, path := range []string{killed, killed + "-journal", other} {
		if err := os.WriteFile(path, []byte("half of it"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backup := func(name string, want ...string) {
		t.Helper()
		if err := d.Backup(t.Context(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		var left []string
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				left = append(left, filepath.Join(dir, e.Name()))
			}
		}
		if err != nil || !slices.Equal(left, want) {
			t.Errorf("beside %s there are %q, %v, want %q", name, left, err, want)
		}
	}
	d.copying.RLock() // as a backup does as long as it is written
	both := []string{other, killed, killed + "-journal"}
	slices.Sort(both)
	backup("first.db", both...)
	d.copying.RUnlock()
	backup("second.db", other)
}

// TestFinishRestore_withoutItsFile: SQLite's store is whole all the while and goes on, MySQL's may be half of two.
func TestFinishRestore_withoutItsFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		url    func(*testing.T) string
		starts bool
	}{
		{"sqlite", func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "kms.db") }, true},
		{"mysql", func(t *testing.T) string { return testkit.MySQL(t) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := config.Load("", []string{"KMS_STORE=" + c.url(t)}, map[string]string{"home": t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			d := newDaemon(Options{Config: cfg, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			var stop context.CancelFunc
			d.ctx, stop = context.WithCancel(context.Background())
			defer stop()
			if d.host, err = hostdb.Open(t.Context(), filepath.Join(t.TempDir(), "host.db")); err != nil {
				t.Fatal(err)
			}
			defer d.host.Close()
			if err := d.openShared(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer d.Store().Close()
			if err := d.host.PutRestore(hostdb.Restore{Path: filepath.Join(t.TempDir(), "gone")}); err != nil {
				t.Fatal(err)
			}
			if err := d.finishRestore(t.Context()); (err == nil) != c.starts {
				t.Errorf("starts: %v", err)
			}
			if left, err := d.host.Restore(); err != nil || (left == nil) != c.starts {
				t.Errorf("%+v is left, %v", left, err)
			}
		})
	}
}
