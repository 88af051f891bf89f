package daemon

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestPurge_oneHostAtATime: what a tenant no longer keeps goes by itself, once no other host is at it.
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
	ch := oldMessage(t, st)
	other := store.LeaseClaim{Name: purgeLease, Holder: "elsewhere/home/purge", TTL: time.Minute}
	if err := st.AcquireLease(ctx, other); err != nil {
		t.Fatal(err)
	}
	d.purgeOnce()
	if now, err := st.Channel(ctx, "dragon", "lobby"); err != nil || now.First != 1 {
		t.Errorf("first %d, %v, while another host has the lease", now.First, err)
	}
	if err := st.ReleaseLease(ctx, other.Name, other.Holder); err != nil {
		t.Fatal(err)
	}
	d.work.Go(d.purge)
	testkit.Eventually(t, 20*time.Second, "the old message goes, and the lease", func() bool {
		now, err := st.Channel(ctx, "dragon", "lobby")
		leases, err2 := st.Leases(ctx)
		return err == nil && err2 == nil && now.PK == ch.PK && now.First == 2 && len(leases) == 0
	})
}

// oldMessage makes a tenant that keeps messages for an hour, with one that is older.
func oldMessage(t *testing.T, st *store.Store) store.Channel {
	t.Helper()
	ctx := t.Context()
	if err := st.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateTenant(ctx, store.Tenant{ID: "dragon"}); err != nil {
		t.Fatal(err)
	}
	if err := st.SetTenantRetention(ctx, "dragon", time.Hour); err != nil {
		t.Fatal(err)
	}
	ch, err := st.CreateChannel(ctx, store.Channel{Tenant: "dragon", ID: "lobby"})
	if err != nil {
		t.Fatal(err)
	}
	err = st.Write(ctx, func(tx *store.Tx) error {
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
	return ch
}
