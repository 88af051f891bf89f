package daemon

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// newLedger is a control plane with its two databases and nothing that runs.
func newLedger(t *testing.T) *Daemon {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Load("", nil, map[string]string{"home": dir, "node": "here"})
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(Options{Config: cfg, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	d.ctx = ctx
	if d.host, err = hostdb.Open(ctx, filepath.Join(dir, "host.db")); err != nil {
		t.Fatal(err)
	}
	shared, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "kms.db"), store.Options{})
	if err == nil {
		err = shared.Migrate(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.store.Store(shared)
	t.Cleanup(func() {
		cancel()
		d.work.Wait()
		shared.Close()
		d.host.Close()
	})
	return d
}

// takeOffNow makes a release that has its version, its lease and its entry in the ledger.
func takeOffNow(t *testing.T, d *Daemon, version string) *flight {
	t.Helper()
	r := controlplane.Release{Kind: controlplane.KindDeploy, Version: version, State: controlplane.ReleaseRunning, Who: "test", StartedAt: time.Now()}
	f := d.newFlight(hostdb.Flight{ID: "flight of " + version, Release: r})
	if err := d.takeOff(t.Context(), f, controlplane.ReleaseRequest{Kind: r.Kind, Version: version}); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFlight_runsUntilTheNextMayBegin: whoever is told that a release has ended can begin the next one at once.
func TestFlight_runsUntilTheNextMayBegin(t *testing.T) {
	d := newLedger(t)
	f := takeOffNow(t, d, "2.0")
	id := f.release().ID
	locked, unlock := make(chan struct{}), make(chan struct{})
	go d.Store().Write(t.Context(), func(*store.Tx) error { close(locked); <-unlock; return nil })
	<-locked
	go f.end(d.ctx, nil)
	testkit.Eventually(t, 10*time.Second, "the outcome is in host.db", func() bool {
		records, err := d.host.Flights()
		return err == nil && len(records) == 1 && records[0].Release.Ended()
	})
	if r, err := d.Release(t.Context(), id); err != nil || r.Ended() {
		t.Errorf("before its lease is free the release is %+v, %v", r, err)
	}
	told, err := d.Events(t.Context(), controlplane.EventQuery{Release: id, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-told:
		t.Errorf("before its lease is free a follower is told %+v", ev)
	case <-time.After(20 * time.Millisecond):
	}
	close(unlock)
	for ev := range told {
		if ev.Ended == nil || ev.Ended.State != controlplane.ReleaseDone {
			t.Errorf("a follower is told %+v", ev)
		}
	}
	takeOffNow(t, d, "2.0")
}

// TestRelease_isKnownBeforeTheLedgerKnows: a follower who comes after the end of a release that the ledger is owed hears of it.
func TestRelease_isKnownBeforeTheLedgerKnows(t *testing.T) {
	d := newLedger(t)
	id := takeOffNow(t, d, "2.0").release().ID
	record, err := d.host.Flights()
	if err != nil {
		t.Fatal(err)
	}
	delete(d.flights, "2.0")
	record[0].Release.State = controlplane.ReleaseDone
	if err := d.host.PutFlight(record[0]); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Release(t.Context(), id); err != nil || r.State != controlplane.ReleaseDone {
		t.Errorf("a release that is owed to the ledger is %+v, %v", r, err)
	}
}
