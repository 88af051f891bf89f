package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	leaseTTL   = 30 * time.Second
	leaseRenew = leaseTTL / 3
	leasePoll  = 100 * time.Millisecond // while another host has what we wait for
	// takeOverWithin is how long a release that is told to end may take to do so.
	takeOverWithin = 10 * time.Second
)

func leaseName(version string) string { return "version/" + version }

// owner is this home as leases name it: hosts may have one name by mistake, or a host two homes.
func (d *Daemon) owner() string { return d.node + "/" + d.identity }

// holder is a flight as leases name it, so that what a dead one still sends ends nobody else's lease.
func (d *Daemon) holder(flight string) string { return d.owner() + "/" + flight }

func (d *Daemon) leaseClaim(flight string, r controlplane.Release) store.LeaseClaim {
	return store.LeaseClaim{
		Name: leaseName(r.Version), Holder: d.holder(flight), Purpose: fmt.Sprintf("%s of %s by %s", r.Kind, r.Version, r.Who), TTL: leaseTTL,
		Ahead: r.Kind == controlplane.KindRollback,
	}
}

// takeOff takes the version and its lease, and has the flight written down. It waits for the lease up to wait, behind whoever
// came before; a rollback waits for nobody on this host and ends what is in its way.
func (d *Daemon) takeOff(ctx context.Context, f *flight, wait time.Duration, writeDown func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, max(wait, takeOverWithin))
	defer cancel()
	defer context.AfterFunc(f.ahead, cancel)()
	if err := d.claim(waiting, f, wait); err != nil {
		return err
	}
	failpoint.Reach(failpoint.BeforeLease)
	err := d.acquire(waiting, f, wait)
	if err == nil {
		failpoint.Reach(failpoint.LeaseTaken)
		if err = writeDown(ctx); err == nil {
			return nil
		}
		releasing, cancel := asking(context.WithoutCancel(ctx))
		defer cancel()
		d.giveBack(releasing, f)
	}
	d.unclaim(f)
	d.work.Go(d.settleLedger) // of what this one took over
	if cause := f.overtaken(); cause != nil {
		return cause
	}
	return leaseHeld(f.record.Release.Version, err)
}

// giveBack ends a flight's lease, which otherwise ends by itself.
func (d *Daemon) giveBack(ctx context.Context, f *flight) {
	d.logError("release the lease", d.Store().ReleaseLease(ctx, leaseName(f.record.Release.Version), d.holder(f.record.ID)))
}

// enlist writes a release down that has the lease. What was owed to the ledger comes before it; what happened while it waited may
// leave it nothing to do.
func (d *Daemon) enlist(ctx context.Context, f *flight, r controlplane.ReleaseRequest) error {
	ctx, cancel := patiently(ctx, r.Kind)
	defer cancel()
	if err := d.enterOwed(ctx, r.Version); err != nil {
		return err
	}
	if r.Wait > 0 {
		if plan, err := d.Plan(ctx, r); err != nil {
			return err
		} else if len(plan.Steps) == 0 {
			return errNothingToDo
		}
	}
	return f.writeDown(ctx)
}

// leaseHeld says who has the lease.
func leaseHeld(version string, err error) error {
	var held *store.LeaseHeldError
	if !errors.As(err, &held) {
		return err
	}
	node, _, _ := strings.Cut(held.Lease.Holder, "/")
	what := "holds the lease"
	if held.Waiting {
		what = "is the next to have the lease"
	}
	return controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed: the control plane of %s %s for %s, until %s unless it is renewed",
		version, node, what, held.Lease.Purpose, held.Lease.Expires.Local().Format(time.TimeOnly)).
		WithHint("kmsctl history %s; --wait-for-lease waits", version)
}

// acquire takes the lease, when waiting as soon as it is this host's turn.
func (d *Daemon) acquire(ctx context.Context, f *flight, wait time.Duration) error {
	claim := d.leaseClaim(f.record.ID, f.release())
	for {
		asking, cancel := patiently(ctx, f.record.Release.Kind)
		err := d.Store().AcquireLease(asking, claim)
		cancel()
		var held *store.LeaseHeldError
		if wait <= 0 || !errors.As(err, &held) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leasePoll):
		}
	}
}

// writeDown begins the ledger's entry, then the flight here. An entry without a flight is closed by closeLedger.
func (f *flight) writeDown(ctx context.Context) error {
	release := f.release()
	if err := f.d.writeLedger(ctx, &release); err != nil {
		return err
	}
	failpoint.Reach(failpoint.LedgerBegun)
	f.d.mu.Lock()
	f.record.Release.ID = release.ID
	record := f.record
	f.d.mu.Unlock()
	if err := f.d.host.PutFlight(record); err != nil {
		return err
	}
	failpoint.Reach(failpoint.FlightWritten)
	return nil
}

// claim makes sure of one flight per version in this process, before the lease does so between hosts.
func (d *Daemon) claim(ctx context.Context, f *flight, wait time.Duration) error {
	version := f.record.Release.Version
	d.mu.Lock()
	other := d.flights[version]
	switch {
	case d.restoring:
		d.mu.Unlock()
		return controlplane.Errorf(controlplane.LeaseHeld, "the shared database is being restored").WithHint("kmsctl status, then try again")
	case other == nil:
		d.hold(f)
		d.mu.Unlock()
		return nil
	case f.takesOver(other):
		other.successor = f
		d.mu.Unlock()
		return d.takeOver(ctx, f, other)
	case wait <= 0:
		busy := d.busy(other)
		d.mu.Unlock()
		return busy
	}
	d.queues[version] = append(d.queues[version], f)
	d.mu.Unlock()
	return d.awaitTurn(ctx, f)
}

// hold gives a version to a flight; d.mu is held.
func (d *Daemon) hold(f *flight) {
	r := &f.record.Release
	f.record.Before = d.routes[r.Version]
	if s := d.sets[f.record.Before.Stable]; s != nil {
		r.Previous = s.Build // another release may have ended since this one was planned
	}
	d.flights[r.Version] = f
	close(f.turn)
}

// busy names what is in the way; d.mu is held.
func (d *Daemon) busy(other *flight) *controlplane.Error {
	r := other.record.Release
	follow := "kmsctl events -f"
	if r.ID != 0 {
		follow = fmt.Sprintf("kmsctl attach %d", r.ID)
	}
	return controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed: %s by %s, for %s",
		r.Version, r.Name(), r.Who, time.Since(r.StartedAt).Round(time.Second)).WithHint("%s; --wait-for-lease waits", follow)
}

// awaitTurn stands in this host's queue, and for the hosts in the database's, until the version is ours here.
func (d *Daemon) awaitTurn(ctx context.Context, f *flight) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	d.work.Go(func() { d.keepPlace(waiting, f) })
	select {
	case <-f.turn:
		return nil
	case <-ctx.Done():
	}
	r := f.record.Release
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flights[r.Version] == f {
		return nil // it came in the same moment; whoever asks next finds ctx ended
	}
	d.queues[r.Version] = slices.DeleteFunc(d.queues[r.Version], func(other *flight) bool { return other == f })
	d.work.Go(func() {
		leaving, cancel := asking(d.ctx)
		defer cancel()
		d.logError("leave the queue", d.Store().LeaveQueue(leaving, leaseName(r.Version), d.holder(f.record.ID)))
	})
	if other := d.flights[r.Version]; other != nil {
		return d.busy(other)
	}
	return controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed", r.Version)
}

// keepPlace takes a place in the database's queue and keeps it until ctx ends. Without the database only this host's order counts.
func (d *Daemon) keepPlace(ctx context.Context, f *flight) {
	claim := d.leaseClaim(f.record.ID, f.record.Release)
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		if err := d.Store().QueueForLease(ctx, claim); ctx.Err() == nil {
			d.logError("queue for the lease", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// takesOver reports whether f may end what is in its way: a rollback ends all but a retirement, and another rollback only to go
// elsewhere; a withdrawal ends the canary that begins. d.mu is held.
func (f *flight) takesOver(other *flight) bool {
	if other.successor != nil {
		return false
	}
	kind := other.record.Release.Kind
	switch f.record.Release.Kind {
	case controlplane.KindWithdraw:
		return kind == controlplane.KindCanary
	case controlplane.KindRollback:
		elsewhere := f.asked != "" && f.asked != other.record.Release.Build
		return kind != controlplane.KindRetire && (kind != controlplane.KindRollback || elsewhere)
	}
	return false
}

// takeOver ends the release in the way, which undoes what it did unless it is done already, and gets its version and its lease.
func (d *Daemon) takeOver(ctx context.Context, f, other *flight) error {
	r := f.release()
	other.cancel(controlplane.Errorf(controlplane.Failed, "a %s by %s took over", r.Kind, r.Who))
	ctx, cancel := context.WithTimeout(ctx, takeOverWithin)
	defer cancel()
	select {
	case <-f.turn:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flights[r.Version] == f {
		return nil
	}
	other.successor = nil
	return d.busy(other)
}

// unclaim gives the version to who takes it over, or has waited longest.
func (d *Daemon) unclaim(f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unclaimLocked(f)
}

func (d *Daemon) unclaimLocked(f *flight) {
	version := f.record.Release.Version
	delete(d.flights, version)
	if f.successor != nil {
		d.hold(f.successor)
		return
	}
	if queue := d.queues[version]; len(queue) > 0 {
		d.queues[version] = queue[1:]
		d.hold(queue[0])
	}
	if len(d.queues[version]) == 0 {
		delete(d.queues, version)
	}
}

// waitingLocked are the releases, pins and canaries that wait on this host for another to end, or take it over; d.mu is held.
func (d *Daemon) waitingLocked() (waiting []*flight) {
	for _, queue := range d.queues {
		waiting = append(waiting, queue...)
	}
	for _, f := range d.flights {
		if f.successor != nil {
			waiting = append(waiting, f.successor)
		}
	}
	return waiting
}

// keepLease renews a lease until ctx ends, and tells each time that it could not.
func (d *Daemon) keepLease(ctx context.Context, name, holder string, failed func(error)) {
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			renewing, cancel := context.WithTimeout(ctx, leaseRenew)
			if err := d.Store().RenewLease(renewing, name, holder, leaseTTL); err != nil {
				failed(err)
			}
			cancel()
		}
	}
}

// dropLeases gives back what control planes of this home had when they were killed, but for what is still under way.
func (d *Daemon) dropLeases(ctx context.Context, records []hostdb.Flight) error {
	leases, err := d.Store().LeasesOf(ctx, d.owner())
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, record := range records {
		alive[d.holder(record.ID)] = true
	}
	d.mu.Lock() // after the leases were read: each of them was claimed before it was taken
	for _, f := range d.flights {
		alive[d.holder(f.record.ID)] = true
	}
	for _, f := range d.waitingLocked() {
		alive[d.holder(f.record.ID)] = true
	}
	d.mu.Unlock()
	for _, l := range leases {
		if !alive[l.Holder] {
			if err := d.Store().ReleaseLease(ctx, l.Name, l.Holder); err != nil {
				return err
			}
		}
	}
	return nil
}

// Leases tells who changes which version, and how many wait.
func (d *Daemon) Leases(ctx context.Context) ([]controlplane.LeaseInfo, error) {
	leases, err := d.Store().Leases(ctx)
	if err != nil {
		return nil, err
	}
	out := []controlplane.LeaseInfo{}
	for _, l := range leases {
		version, ok := strings.CutPrefix(l.Name, leaseName(""))
		if !ok {
			continue
		}
		queue, err := d.Store().LeaseQueue(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		node, _, _ := strings.Cut(l.Holder, "/")
		out = append(out, controlplane.LeaseInfo{Version: version, Node: node, Purpose: l.Purpose, Expires: l.Expires, Waiting: len(queue)})
	}
	return out, nil
}
