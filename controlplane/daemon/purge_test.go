package daemon

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestPurge_oneHostAtATime: what a tenant no longer keeps, the probe's among them, goes by itself, once no other host is at it.
func TestPurge_oneHostAtATime(t *testing.T) {
	ctx := t.Context()
	url := "sqlite:" + filepath.Join(t.TempDir(), "kms.db")
	cfg, err := config.Load("", nil, map[string]string{"home": t.TempDir(), "store": url, "purge.every": "100ms"})
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(Options{Config: cfg, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	d.identity = "here"
	var stop context.CancelFunc
	d.ctx, stop = context.WithCancel(context.Background())
	defer d.work.Wait()
	defer stop()
	if err := d.openShared(ctx); err != nil {
		t.Fatal(err)
	}
	st := d.Store()
	t.Cleanup(func() { st.Close() })
	if err := st.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if d.home, err = openHome(cfg.Paths()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.home.close)
	if err := d.ensureProbe(ctx); err != nil {
		t.Fatal(err)
	}
	oldMessage(t, st, names.ProbeTenant, probeChannel)
	other := store.LeaseClaim{Name: purgeLease, Holder: "elsewhere/home/purge", TTL: time.Minute}
	if err := st.AcquireLease(ctx, other); err != nil {
		t.Fatal(err)
	}
	d.purgeOnce()
	if now, err := st.Channel(ctx, names.ProbeTenant, probeChannel); err != nil || now.First != 1 {
		t.Errorf("first %d, %v, while another host has the lease", now.First, err)
	}
	if err := st.ReleaseLease(ctx, other.Name, other.Holder); err != nil {
		t.Fatal(err)
	}
	d.work.Go(d.purge)
	testkit.Eventually(t, 20*time.Second, "the old message goes, and the lease", func() bool {
		now, err := st.Channel(ctx, names.ProbeTenant, probeChannel)
		leases, err2 := st.Leases(ctx)
		return err == nil && err2 == nil && now.First == 2 && len(leases) == 0
	})
}

// oldMessage puts a message of long ago into an empty channel.
func oldMessage(t *testing.T, st *store.Store, tenant, channel string) {
	t.Helper()
	ch, err := st.Channel(t.Context(), tenant, channel)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO messages (channel_pk, seq, id, user, kind, at, body)
			VALUES (?, 1, '01JD3V4N8ZQ0X5T6Y7W8R9S0AB', '', 'system', 0, '{"v":1,"k":"system","x":"hi"}')`, ch.PK); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE channels SET head = 1 WHERE pk = ?`, ch.PK)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
