package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	leaseTTL   = 30 * time.Second
	leaseRenew = 10 * time.Second
	// storeWithin bounds one question to the shared database. A frozen instance that holds SQLite's lock is killed before it
	// is over.
	storeWithin = 15 * time.Second
)

// asking bounds one question to the shared database, which may be away or locked for ever.
func asking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, storeWithin)
}

// flight is a release under way. Its steps run one after the other in one goroutine; each is written to host.db before it
// begins and after it ended, so that the next control plane knows where a killed one was.
type flight struct {
	d      *Daemon
	record hostdb.Flight // guarded by d.mu
	new    *set
}

func leaseName(version string) string { return "version/" + version }

// takeOff takes the lease and writes the release down, here and in the ledger.
func (d *Daemon) takeOff(ctx context.Context, release controlplane.Release) (*flight, error) {
	f, err := d.claim(release)
	if err != nil {
		return nil, err
	}
	purpose := fmt.Sprintf("%s of %s by %s", release.Kind, release.Version, release.Who)
	failpoint.Reach(failpoint.BeforeLease)
	err = d.Store().AcquireLease(ctx, leaseName(release.Version), d.holder, purpose, leaseTTL)
	if err == nil {
		failpoint.Reach(failpoint.LeaseTaken)
		if err = f.writeDown(ctx); err == nil {
			return f, nil
		}
		d.logError("release the lease", d.Store().ReleaseLease(ctx, leaseName(release.Version), d.holder))
	}
	d.unclaim(release.Version)
	var held *store.LeaseHeldError
	if errors.As(err, &held) {
		return nil, controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed: %s holds the lease for %s until %s",
			release.Version, held.Lease.Holder, held.Lease.Purpose, held.Lease.Expires.Local().Format(time.TimeOnly)).
			WithHint("kmsctl history %s, then try again", release.Version)
	}
	return nil, err
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

// claim makes sure of one release per version in this process, before the lease does so between hosts.
func (d *Daemon) claim(release controlplane.Release) (*flight, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other, busy := d.flights[release.Version]; busy {
		r := other.record.Release
		return nil, controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed: %s %d by %s, for %s",
			r.Version, r.Kind, r.ID, r.Who, time.Since(r.StartedAt).Round(time.Second)).WithHint("kmsctl show %d", r.ID)
	}
	if d.restoring {
		return nil, controlplane.Errorf(controlplane.LeaseHeld, "the shared database is being restored").WithHint("kmsctl status, then try again")
	}
	f := &flight{d: d, record: hostdb.Flight{ID: ulid.Make().String(), Release: release, Before: d.routes[release.Version]}}
	if s := d.sets[f.record.Before.Stable]; s != nil {
		f.record.Release.Previous = s.Build // another release may have ended since this one was planned
	}
	d.flights[release.Version] = f
	return f, nil
}

func (d *Daemon) unclaim(version string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.flights, version)
}

// renewLease keeps the lease until ctx ends.
func (d *Daemon) renewLease(ctx context.Context, version string) {
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			renewing, cancel := context.WithTimeout(ctx, leaseRenew)
			d.logError("renew the lease", d.Store().RenewLease(renewing, leaseName(version), d.holder, leaseTTL))
			cancel()
		}
	}
}

// step runs one step and records how it went.
func (f *flight) step(name string, run func() (string, error)) error {
	began := time.Now()
	f.update(func(r *hostdb.Flight) {
		r.Release.Steps = append(r.Release.Steps, controlplane.Step{Name: name, State: "running", At: began})
	})
	failpoint.Begun(name)
	message, err := run()
	failpoint.Ended(name)
	f.update(func(r *hostdb.Flight) {
		step := &r.Release.Steps[len(r.Release.Steps)-1]
		step.State, step.Message, step.Took = "done", message, time.Since(began)
		if err != nil {
			step.State, step.Message = "failed", firstLine(err.Error())
		}
	})
	f.tell()
	return err
}

// update changes the record and makes it durable.
func (f *flight) update(change func(*hostdb.Flight)) {
	f.d.mu.Lock()
	change(&f.record)
	record := f.record
	f.d.mu.Unlock()
	f.d.logError("record release", f.d.host.PutFlight(record))
}

// tell lets followers know of the last step.
func (f *flight) tell() {
	release := f.release()
	step := release.Steps[len(release.Steps)-1]
	f.d.events.emit(controlplane.Event{Kind: "step", Version: release.Version, Release: release.ID, Step: &step,
		Message: strings.TrimSpace(step.Name + " " + step.State + " " + step.Message)})
}

// release is a copy of the release as it stands.
func (f *flight) release() controlplane.Release {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	r := f.record.Release
	r.Steps = append([]controlplane.Step{}, r.Steps...)
	return r
}

// end writes the release's outcome to the ledger, gives the lease back and tells followers. A ledger that cannot be reached
// is written when it can.
func (f *flight) end(ctx context.Context, err error) {
	f.update(func(h *hostdb.Flight) {
		r := &h.Release
		r.State, r.FinishedAt = controlplane.ReleaseDone, time.Now()
		if err != nil {
			r.State, r.Error = controlplane.ReleaseFailed, f.d.explain(err)
		}
		r.Undo = undo(*r)
	})
	failpoint.Reach(failpoint.EndWritten)
	release := f.release()
	if err := f.d.entered(ctx, f.record.ID, release); err != nil {
		f.d.log.Error("cannot write the ledger; tried again until it is there", "release", release.ID, "error", err)
		f.d.work.Go(f.d.settleLedger)
	}
	f.d.unclaim(release.Version)
	f.d.log.Info("release ended", "release", release.ID, "kind", release.Kind, "version", release.Version, "state", release.State)
	f.d.events.emit(controlplane.Event{Kind: "release", Version: release.Version, Release: release.ID, Ended: &release,
		Message: fmt.Sprintf("%s of %s %s", release.Kind, release.Version, release.State)})
}

// entered writes the outcome of a release into the ledger, gives its lease back, and only then forgets the flight.
func (d *Daemon) entered(ctx context.Context, flight string, r controlplane.Release) error {
	ctx, cancel := asking(ctx)
	defer cancel()
	if err := d.writeLedger(ctx, &r); err != nil {
		return err
	}
	failpoint.Reach(failpoint.LedgerEnded)
	d.logError("release the lease", d.Store().ReleaseLease(ctx, leaseName(r.Version), d.holder)) // it ends by itself
	failpoint.Reach(failpoint.LeaseReleased)
	if err := d.host.DeleteFlight(flight); err != nil {
		return err
	}
	failpoint.Reach(failpoint.FlightForgotten)
	return nil
}

// explain turns what went wrong into what an operator reads: the kind decides the exit code.
func (d *Daemon) explain(err error) *controlplane.Error {
	var ours *controlplane.Error
	var start *supervise.StartError
	var build *supervise.BuildError
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &start):
		return controlplane.Errorf(controlplane.Unhealthy, "%s", withTail(err, start.Tail))
	case errors.As(err, &build):
		return controlplane.Errorf(controlplane.Unhealthy, "%s", withTail(err, build.Tail))
	}
	return controlplane.AsError(err)
}

func withTail(err error, tail []string) string {
	if len(tail) == 0 {
		return err.Error()
	}
	return err.Error() + "\nits last log lines:\n  " + strings.Join(tail, "\n  ")
}

// writeLedger puts a release into the shared database and gives it its number.
func (d *Daemon) writeLedger(ctx context.Context, r *controlplane.Release) error {
	row := store.Release{
		ID: r.ID, Version: r.Version, Build: r.Build, Previous: r.Previous, Kind: string(r.Kind), State: string(r.State), Who: r.Who,
		Message: r.Message, Node: r.Node, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt,
	}
	if r.Error != nil {
		row.Error = string(r.Error.Kind) + ": " + r.Error.Message
	}
	for _, s := range r.Steps {
		row.Steps = append(row.Steps, store.Step{Name: s.Name, State: s.State, At: s.At, Took: s.Took, Detail: s.Message})
	}
	id, err := d.Store().PutRelease(ctx, row)
	if err != nil {
		return err
	}
	r.ID = id
	return nil
}

// fromLedger is the way back.
func (d *Daemon) fromLedger(ctx context.Context, row store.Release) controlplane.Release {
	r := controlplane.Release{
		ID: row.ID, Version: row.Version, Build: row.Build, Previous: row.Previous, Kind: controlplane.ReleaseKind(row.Kind),
		State: controlplane.ReleaseState(row.State), Who: row.Who, Message: row.Message, Node: row.Node,
		StartedAt: row.StartedAt, FinishedAt: row.FinishedAt, Steps: []controlplane.Step{},
	}
	for _, s := range row.Steps {
		r.Steps = append(r.Steps, controlplane.Step{Name: s.Name, State: s.State, At: s.At, Took: s.Took, Message: s.Detail})
	}
	if row.Error != "" {
		kind, message, _ := strings.Cut(row.Error, ": ")
		r.Error = &controlplane.Error{Kind: controlplane.Kind(kind), Message: message}
	}
	r.Label, r.Undo = d.label(ctx, r.Build), undo(r)
	return r
}

// undo is the command that takes a release back, empty when nothing does.
func undo(r controlplane.Release) string {
	switch {
	case r.State != controlplane.ReleaseDone:
		return ""
	case r.Kind == controlplane.KindRetire && r.Build != "":
		return fmt.Sprintf("kmsctl deploy %s --as %s", r.Build[:12], r.Version)
	case r.Previous != "" && r.Previous != r.Build:
		return fmt.Sprintf("kmsctl rollback %s --to %s", r.Version, r.Previous[:12])
	}
	return ""
}

// label is a build's label, empty when the build or the database is not there.
func (d *Daemon) label(ctx context.Context, digest string) string {
	if digest == "" {
		return ""
	}
	b, err := d.Store().Build(ctx, digest)
	if err != nil {
		return ""
	}
	return b.Label
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
