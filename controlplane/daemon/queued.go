package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
)

// queuedText is what a step of a rollback says that the shared database does not know of yet.
const queuedText = "queued: the shared database is away"

func (f *flight) isQueued() bool {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.record.Queued
}

// rollBackAlone goes back to a warm set from host.db alone, while the shared database is away: without a lease, and without a number
// until the ledger has it. It has ended when it returns; one that failed comes with its error.
func (d *Daemon) rollBackAlone(ctx context.Context, r controlplane.ReleaseRequest, away error) (*controlplane.Release, error) {
	serving := d.servingSet(r.Version)
	if serving == nil || !d.routed(r.Version) {
		return nil, d.unknownVersion(r.Version)
	}
	target := d.warmTarget(r)
	if target == nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot roll back version %s: the shared database is away, and no set that it could go back to is warm: %v",
			r.Version, away).WithHint("kmsctl status %s", r.Version)
	}
	f := d.newFlight(hostdb.Flight{ID: ulid.Make().String(), Queued: true, Release: controlplane.Release{
		Kind: r.Kind, Version: r.Version, Build: target.Build, Label: target.Label, Previous: serving.Build, State: controlplane.ReleaseRunning,
		Who: r.Who, Message: r.Message, Node: d.node, StartedAt: time.Now(), Steps: []controlplane.Step{}, Queued: true,
	}})
	defer f.cancel(nil)
	f.asked = r.Build
	if err := d.claim(ctx, f, 0); err != nil {
		return nil, err
	}
	if err := d.host.PutFlight(f.record); err != nil {
		d.unclaim(f)
		return nil, err
	}
	f.end(d.ctx, f.runAlone(f.ahead))
	release := f.release()
	if release.Error != nil {
		return &release, release.Error
	}
	return &release, nil
}

// runAlone swaps to the warm set, unless what was taken over is undone and that is enough.
func (f *flight) runAlone(ctx context.Context) error {
	r := f.release()
	if f.d.serves(r.Version, r.Build) {
		return nil
	}
	warm := f.d.warmSet(r.Version, r.Build)
	if warm == nil {
		return f.kept(fmt.Errorf("no set of build %.12s is warm any more", r.Build), nil)
	}
	return f.swapToWarm(ctx, warm)
}

// warmTarget is the set that a rollback can go to without asking anybody: of the build that is named, of the one that the deploy
// under way replaces, or else the one that served last.
func (d *Daemon) warmTarget(r controlplane.ReleaseRequest) *set {
	build := r.Build
	if build == "" {
		build = d.replacedNow(r.Version)
	}
	var found *set
	for _, s := range d.setsOf(r.Version) {
		d.mu.Lock()
		h, serves := s.Set, d.routes[s.Version].Stable == s.ID
		d.mu.Unlock()
		kept := serves && build != "" || h.State == controlplane.SetWarm || h.State == controlplane.SetDraining
		if !kept || build != "" && h.Build != build || !s.running() {
			continue
		}
		if found == nil || h.DrainingSince.After(found.DrainingSince) {
			found = s
		}
	}
	return found
}

// replacedNow is the build that the deploy under way replaces, empty when there is none: what a rollback without a build goes to.
func (d *Daemon) replacedNow(version string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.flights[version]; f != nil && f.record.Release.Kind == controlplane.KindDeploy {
		return f.record.Release.Previous
	}
	return ""
}

// enterOwed enters what the ledger does not have yet of a version's earlier releases; the lease is ours.
func (d *Daemon) enterOwed(ctx context.Context, version string) error {
	records, err := d.host.Flights()
	if err != nil {
		return err
	}
	for _, f := range records {
		if f.Release.Version == version && f.Release.Ended() && f.Release.State != controlplane.ReleaseSuperseded {
			if err := d.enter(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// enter writes a release that has ended into the ledger.
func (d *Daemon) enter(ctx context.Context, f hostdb.Flight) error {
	if f.Queued {
		return d.enterQueued(ctx, f)
	}
	return d.entered(ctx, f)
}

// claimAndEnter enters a queued release when nothing else is under way.
func (d *Daemon) claimAndEnter(ctx context.Context, record hostdb.Flight) error {
	f := d.newFlight(hostdb.Flight{ID: record.ID, Release: record.Release})
	defer f.cancel(nil)
	if err := d.claim(ctx, f, 0); err != nil {
		return err // that one enters it
	}
	defer d.unclaim(f)
	ctx, cancel := asking(ctx)
	defer cancel()
	if err := d.Store().AcquireLease(ctx, d.leaseClaim(record.ID, record.Release)); err != nil {
		return err
	}
	defer func() {
		d.logError("release the lease", d.Store().ReleaseLease(ctx, leaseName(record.Release.Version), d.holder(record.ID)))
	}()
	return d.enterQueued(ctx, record)
}

// enterQueued makes a queued rollback the newest release, unless one was done after it; then that one wins, and the record stays until
// this host follows it.
func (d *Daemon) enterQueued(ctx context.Context, f hostdb.Flight) error {
	r := f.Release
	rows, err := d.Store().Releases(ctx, r.Version, 50)
	if err != nil {
		return err
	}
	superseded := false
	for _, row := range rows {
		switch {
		case row.ID == r.ID || row.Node == r.Node && row.StartedAt.UnixMilli() == r.StartedAt.UnixMilli():
			r.ID = row.ID // it was entered, and we were killed before we knew
		case row.State == store.ReleaseDone && row.StartedAt.After(r.StartedAt):
			superseded = true
		}
	}
	if superseded = superseded && r.State == controlplane.ReleaseDone; superseded {
		r.State = controlplane.ReleaseSuperseded
	}
	if err := d.writeLedger(ctx, &r); err != nil {
		return err
	}
	if r.State == controlplane.ReleaseDone {
		if err := d.Store().PutVersion(ctx, store.Version{Name: r.Version, State: store.VersionLive, Build: r.Build}); err != nil {
			return err
		}
	}
	d.log.Info("a queued release is in the ledger", "release", r.ID, "version", r.Version, "state", r.State)
	if !superseded {
		return d.host.DeleteFlight(f.ID)
	}
	f.Release = r
	err = d.host.PutFlight(f)
	d.work.Go(d.settleLedger) // which follows
	return err
}

// stuckBy is what an operator has to know of a release that could not be followed; nil when that needs only time.
func (d *Daemon) stuckBy(version string, err error) *controlplane.Error {
	if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	e := *controlplane.AsError(err)
	if e.Kind == controlplane.LeaseHeld {
		return nil
	}
	e.Message = err.Error()
	if e.Hint == "" {
		e.Hint = "kmsctl history " + version
	}
	return &e
}

// setStuck keeps what status and doctor tell until it is over, and tells the log of what is new.
func (d *Daemon) setStuck(stuck map[string]*controlplane.Error) {
	d.mu.Lock()
	before := d.stuck
	d.stuck = stuck
	d.mu.Unlock()
	for version, e := range stuck {
		if known := before[version]; known == nil || known.Message != e.Message {
			d.log.Warn("tried again until it works", "version", version, "error", e.Message, "next", e.Hint)
		}
	}
}

// follow brings this host to the release that superseded a queued one, and forgets that one as soon as the way there is written down.
func (d *Daemon) follow(ctx context.Context, queued hostdb.Flight) error {
	rows, err := d.Store().Releases(ctx, queued.Release.Version, 50)
	if err != nil {
		return err
	}
	newest := slices.IndexFunc(rows, func(row store.Release) bool { return row.State == store.ReleaseDone })
	if newest < 0 {
		return d.host.DeleteFlight(queued.ID)
	}
	row := rows[newest]
	r := controlplane.ReleaseRequest{
		Kind: controlplane.KindDeploy, Version: row.Version, Build: row.Build, Who: "control plane", Force: true, Wait: time.Minute,
		Message: fmt.Sprintf("release %d is newer than the rollback that was queued here", row.ID),
	}
	if row.Kind == store.ReleaseRetire {
		if r.Kind, r.Build = controlplane.KindRetire, ""; !d.routed(row.Version) {
			return d.host.DeleteFlight(queued.ID)
		}
	}
	if _, err := d.Start(ctx, r); err != nil {
		return fmt.Errorf("cannot follow release %d: %w", row.ID, err)
	}
	return d.host.DeleteFlight(queued.ID)
}
