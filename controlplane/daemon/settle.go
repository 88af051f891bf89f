package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
)

// loadFlights claims the versions that an earlier control plane was changing when it died, before anything decides about
// their sets.
func (d *Daemon) loadFlights() error {
	records, err := d.host.Flights()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, record := range records {
		if !record.Release.Ended() { // one that has ended is only owed to the ledger
			f := d.newFlight(record)
			close(f.turn)
			d.flights[record.Release.Version] = f
		}
	}
	return nil
}

// settleFlights finishes or undoes, never both, what loadFlights found. It returns at once; settled is done when all of them
// have ended.
func (d *Daemon) settleFlights() (settled *sync.WaitGroup) {
	settled = &sync.WaitGroup{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flights {
		f.new = d.sets[f.record.Set]
		settled.Add(1)
		d.work.Go(func() {
			defer settled.Done()
			d.fly(f, f.settle)
		})
	}
	d.work.Go(d.settleLedger)
	return settled
}

// settle goes on from where the earlier control plane was. A release that had swapped to a set that runs is finished from
// there; anything before that is undone.
func (f *flight) settle(ctx context.Context) error {
	r := f.release()
	f.closeOpenStep()
	f.d.log.Info("settling a release", "release", r.ID, "kind", r.Kind, "version", r.Version, "swapped", f.record.Swapped)
	leasing, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// This host has to be put in order with or without it.
	claim := f.d.leaseClaim(f.record.ID, r)
	claim.Ahead = true // it had the lease already
	f.d.logError("take the lease again", f.d.Store().AcquireLease(leasing, claim))
	switch {
	case r.Kind == controlplane.KindRetire:
		return f.retire(ctx)
	case f.record.Audit != nil:
		return f.undoPlace()
	case f.swapped() && f.new.running():
		return f.finish(ctx)
	}
	return f.undo(ctx)
}

// swapped reports whether the slot was really led to the new set: the intent alone is not enough.
func (f *flight) swapped() bool {
	serving := f.d.servingSet(f.record.Release.Version)
	return f.record.Swapped && f.new != nil && serving == f.new
}

// finish runs what comes after the swap again; each of these steps may have run before. A set that was warm needs no second probe,
// which would fail while the shared database is away.
func (f *flight) finish(ctx context.Context) error {
	applyNginx := func(ctx context.Context) error {
		return f.step("nginx", func() (string, error) { return f.d.applyNginx(ctx) })
	}
	if f.record.Warm {
		return f.through(ctx, applyNginx, f.wantBuild)
	}
	return f.through(ctx, applyNginx, f.probeNginx, f.wantBuild)
}

// undo goes back to the build that served before and stops what had been started.
func (f *flight) undo(ctx context.Context) error {
	err := f.step("undo", func() (string, error) {
		if f.swapped() {
			return "", f.goBack(f.d.ctx)
		}
		return "", f.discard(f.d.ctx)
	})
	return f.kept(controlplane.Errorf(controlplane.Unhealthy, "the control plane ended before the new build had proved itself"), err)
}

// closeOpenStep marks the step that the old control plane did not see the end of.
func (f *flight) closeOpenStep() {
	f.update(func(h *hostdb.Flight) {
		if n := len(h.Release.Steps); n > 0 && h.Release.Steps[n-1].State == "running" {
			h.Release.Steps[n-1].State = "interrupted"
		}
	})
}

// settleLedger tries until the ledger tells the truth about the releases of this host.
func (d *Daemon) settleLedger() {
	for d.ctx.Err() == nil {
		err := d.closeLedger(d.ctx)
		if err == nil {
			return
		}
		d.log.Debug("cannot settle the ledger yet", "error", err)
		select {
		case <-d.ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// closeLedger enters what host.db still owes, also the audit trail, and ends the entries of releases that were killed before they began.
func (d *Daemon) closeLedger(ctx context.Context) error {
	records, err := d.host.Flights()
	if err != nil {
		return err
	}
	known, stuck := map[int64]bool{}, map[string]*controlplane.Error{}
	failures := []error{d.enterAudits(ctx)}
	for _, f := range records {
		known[f.Release.ID] = true
		switch {
		case !f.Release.Ended():
		case f.Release.State == controlplane.ReleaseSuperseded:
			err := d.follow(ctx, f)
			failures = append(failures, err)
			if why := d.stuckBy(f.Release.Version, err); why != nil {
				stuck[f.Release.Version] = why
			}
		case f.Queued:
			failures = append(failures, d.claimAndEnter(ctx, f))
		default:
			failures = append(failures, d.entered(ctx, f))
		}
	}
	d.setStuck(stuck)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	ctx, cancel := asking(ctx)
	defer cancel()
	if err := d.dropLeases(ctx, records); err != nil {
		return err
	}
	leases, err := d.Store().Leases(ctx)
	if err != nil {
		return err
	}
	changing := map[string]bool{} // by a living control plane: it may have our node's name
	for _, l := range leases {
		changing[l.Name] = true
	}
	rows, err := d.Store().Releases(ctx, "", 100)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Node != d.node || row.State != store.ReleaseRunning || known[row.ID] || !row.StartedAt.Before(d.startedAt) || changing[leaseName(row.Version)] {
			continue
		}
		row.State, row.FinishedAt = store.ReleaseFailed, time.Now()
		row.Error = string(controlplane.Failed) + ": the control plane ended before the release began; nothing was changed"
		if _, err := d.Store().PutRelease(ctx, row); err != nil {
			return err
		}
	}
	return nil
}
