package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	if d.identity, err = d.host.Identity(); err != nil {
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
	if err := d.takeOff(t.Context(), f, 0, f.writeDown); err != nil {
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

// TestFlight_isAuditedAtItsEnd with what came of it, once, also when the control plane was killed before the trail had it.
func TestFlight_isAuditedAtItsEnd(t *testing.T) {
	d := newLedger(t)
	trail := func() (results []string) {
		t.Helper()
		all, err := d.Store().AuditTrail(t.Context(), store.AuditFilter{Subject: "deploy 2.0"})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			results = append(results, a.Action+", "+a.Who+", "+a.Result)
		}
		return results
	}
	f := takeOffNow(t, d, "2.0")
	if told := trail(); len(told) != 0 {
		t.Errorf("while the release runs the trail says %q", told)
	}
	f.end(d.ctx, errors.New("it does not start\nits last log lines"))
	failed := fmt.Sprintf("release, test, failed: release %d: it does not start", f.release().ID)
	testkit.Eventually(t, 10*time.Second, "the trail tells", func() bool { return slices.Equal(trail(), []string{failed}) })

	f = takeOffNow(t, d, "2.0")
	ended := f.record
	ended.Release.State, ended.Release.FinishedAt = controlplane.ReleaseDone, time.Now()
	for range 2 { // the second as after a kill when the trail had it, and host.db did not know
		if err := errors.Join(d.host.PutEnd(ended, auditRelease(ended)), d.closeLedger(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	done := fmt.Sprintf("release, test, done: release %d", ended.Release.ID)
	if told := trail(); !slices.Equal(told, []string{done, failed}) {
		t.Errorf("the trail says %q, want %q", told, []string{done, failed})
	}
}

// TestFlight_tellsTheStepThatRuns to who follows, be it from before or from its middle: a step may take minutes.
func TestFlight_tellsTheStepThatRuns(t *testing.T) {
	d := newLedger(t)
	f := takeOffNow(t, d, "2.0")
	follow := func() <-chan controlplane.Event {
		told, err := d.Events(t.Context(), controlplane.EventQuery{Release: f.release().ID, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	is := func(who string, told <-chan controlplane.Event, want string) {
		t.Helper()
		select {
		case ev := <-told:
			if ev.Step == nil || ev.Step.Name+" "+ev.Step.State != want || ev.Message != want {
				t.Errorf("%s is told %+v, want %q", who, ev, want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s is told nothing, want %q", who, want)
		}
	}
	first, second := follow(), (<-chan controlplane.Event)(nil)
	err := f.step("check", func() (string, error) {
		is("who follows", first, "check running")
		second = follow()
		is("who comes later", second, "check running")
		return "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	is("who follows", first, "check done")
	is("who comes later", second, "check done")
	is("who comes last", follow(), "check done")
	f.end(d.ctx, nil)
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

// TestLease_ofTheDead ends by itself when it is another host's, and is no obstacle when it is our own.
func TestLease_ofTheDead(t *testing.T) {
	d := newLedger(t)
	lease := func(version, holder string, ttl time.Duration) {
		t.Helper()
		err := d.Store().AcquireLease(t.Context(), store.LeaseClaim{Name: leaseName(version), Holder: holder, Purpose: "deploy of " + version, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
	}
	if ttl := d.leaseClaim("f", controlplane.Release{Version: "2.0"}).TTL; ttl != 30*time.Second {
		t.Errorf("leases are taken for %s", ttl)
	}
	lease("2.0", "elsewhere/home/f", time.Second)
	q := controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: "2.0"}
	begin := func(wait time.Duration) error {
		f := d.newFlight(hostdb.Flight{ID: "f", Release: controlplane.Release{Kind: q.Kind, Version: q.Version, State: controlplane.ReleaseRunning, StartedAt: time.Now()}})
		defer f.cancel(nil)
		if err := d.claim(t.Context(), f, 0); err != nil {
			return err
		}
		defer d.unclaim(f)
		return d.acquire(t.Context(), f, wait)
	}
	if err := leaseHeld("2.0", begin(0)); err == nil || !strings.Contains(err.Error(), "the control plane of elsewhere holds the lease for deploy of 2.0") {
		t.Errorf("beside another host's lease: %v", err)
	}
	began := time.Now()
	if err := begin(20 * time.Second); err != nil || time.Since(began) > 15*time.Second {
		t.Errorf("after %s beside a dead holder's lease: %v", time.Since(began), err)
	}
	lease("3.0", d.holder("killed"), time.Hour)
	takeOffNow(t, d, "3.0")
}

// TestFollow_outlivesAKill: a queued rollback was superseded, and the control plane killed before this host followed. What keeps it from
// that is told, once in the log and as long as it lasts in status.
func TestFollow_outlivesAKill(t *testing.T) {
	d := newLedger(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.log = slog.New(slog.NewTextHandler(log, nil))
	began := time.Now().Add(-time.Minute)
	queued := hostdb.Flight{ID: "f", Queued: true, Release: controlplane.Release{
		Kind: controlplane.KindRollback, Version: "2.0", Build: "old", State: controlplane.ReleaseDone, Node: d.node, StartedAt: began, FinishedAt: began}}
	if err := d.host.PutFlight(queued); err != nil {
		t.Fatal(err)
	}
	_, err = d.Store().PutRelease(t.Context(), store.Release{Version: "2.0", Build: "new", Kind: store.ReleaseDeploy, State: store.ReleaseDone, Node: "elsewhere",
		StartedAt: began.Add(time.Second), FinishedAt: began.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as after the kill
		if err := d.enter(t.Context(), queued); err != nil {
			t.Fatal(err)
		}
		err := d.closeLedger(t.Context()) // which cannot succeed: nobody has the build
		records, _ := d.host.Flights()
		if err == nil || !strings.Contains(err.Error(), "cannot follow release") || len(records) != 1 || records[0].Release.State != controlplane.ReleaseSuperseded {
			t.Fatalf("%v, and host.db has %+v", err, records)
		}
	}
	isStuck := func() *controlplane.Error {
		return d.versionInfo(hostdb.Route{Version: "2.0", State: controlplane.Live}).Stuck
	}
	testkit.Eventually(t, 10*time.Second, "it was told once", func() bool {
		said, err := os.ReadFile(log.Name())
		e := isStuck()
		return err == nil && strings.Count(string(said), "level=WARN") == 1 && strings.Contains(string(said), "kmsctl build list") &&
			e != nil && e.Hint == "kmsctl build list" && strings.Contains(e.Message, "cannot follow release")
	})
	rows, err := d.Store().Releases(t.Context(), "2.0", 10)
	if err != nil || len(rows) != 2 || rows[0].State != store.ReleaseSuperseded {
		t.Errorf("the ledger has %+v, %v", rows, err)
	}
	if err := d.host.DeleteFlight("f"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "nothing is owed any more", func() bool { return d.closeLedger(t.Context()) == nil && isStuck() == nil })
}
