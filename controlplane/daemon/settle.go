package daemon

import (
	"context"
	"errors"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
)

// settleFlights finishes or undoes what an earlier control plane was doing when it died, never both. A release that had
// swapped to a set that runs is finished from there; anything before that is undone.
func (d *Daemon) settleFlights(ctx context.Context) {
	flights, err := d.host.Flights()
	if err != nil {
		d.log.Error("cannot read releases in flight", "error", err)
		return
	}
	for _, record := range flights {
		f := &flight{d: d, record: record, new: d.setByID(record.Set)}
		d.mu.Lock()
		d.flights[record.Release.Version] = f
		d.mu.Unlock()
		d.settle(ctx, f)
	}
	d.dropOrphans(ctx)
}

func (d *Daemon) settle(ctx context.Context, f *flight) {
	r := f.release()
	f.closeOpenStep()
	d.log.Info("settling a release", "release", r.ID, "kind", r.Kind, "version", r.Version, "swapped", f.record.Swapped)
	switch {
	case r.Kind == controlplane.KindRetire:
		f.end(ctx, f.retire(ctx))
	case f.swapped() && f.new.running():
		f.end(ctx, f.finish(ctx))
	default:
		f.end(ctx, f.undo(ctx))
	}
}

// swapped reports whether the slot was really led to the new set: the intent alone is not enough.
func (f *flight) swapped() bool {
	serving := f.d.servingSet(f.record.Release.Version)
	return f.record.Swapped && f.new != nil && serving == f.new
}

// finish runs what comes after the swap again; each of these steps may have run before.
func (f *flight) finish(ctx context.Context) error {
	if _, err := f.d.applyNginx(ctx); err != nil {
		return err
	}
	for _, gate := range []func(context.Context) error{f.probeNginx, f.wantBuild} {
		if err := gate(ctx); err != nil {
			return f.kept(errors.Join(err, f.swapBack(ctx)))
		}
	}
	return f.drainOld()
}

// undo goes back to the build that served before and stops what had been started.
func (f *flight) undo(ctx context.Context) error {
	err := f.step("undo", func() (string, error) {
		if f.swapped() {
			if err := f.d.backTo(ctx, f.record.Release.Version, f.record.OldSet, f.record.NewName); err != nil {
				return "", err
			}
		}
		if f.new != nil && f.d.stateOf(f.new) == controlplane.SetStarting || f.swapped() {
			return "", f.discard(ctx)
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	return f.kept(controlplane.Errorf(controlplane.Unhealthy, "the control plane ended before the swap; nothing was changed"))
}

// closeOpenStep marks the step that the old control plane did not see the end of.
func (f *flight) closeOpenStep() {
	f.update(func(h *hostdb.Flight) {
		if n := len(h.Release.Steps); n > 0 && h.Release.Steps[n-1].State == "running" {
			h.Release.Steps[n-1].State = "interrupted"
		}
	})
}

// dropOrphans stops sets that were starting for a release that nobody remembers.
func (d *Daemon) dropOrphans(ctx context.Context) {
	for _, s := range d.allSets() {
		if d.stateOf(s) == controlplane.SetStarting && d.servingSet(s.Version) != s {
			d.logError("drop set", d.removeSet(ctx, s))
		}
	}
}
