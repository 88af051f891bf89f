package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/store"
)

// storeWithin bounds one question to the shared database. A frozen instance that holds SQLite's lock is killed before it
// is over.
const storeWithin = 15 * time.Second

// asking bounds one question to the shared database, which may be away or locked for ever.
func asking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, storeWithin)
}

// flight is a release under way, or a pin or canary that begins. Its steps run one after the other in one goroutine; each is written to host.db before it
// begins, so that the next control plane knows where a killed one was.
type flight struct {
	d      *Daemon
	record hostdb.Flight // guarded by d.mu
	new    *set
	asked  string // the build that was asked for by name
	gate   controlplane.Gate

	cancel    context.CancelCauseFunc // ends it before its time
	ahead     context.Context         // ends with cancel
	turn      chan struct{}           // closed when the version is this flight's
	successor *flight                 // takes the version and the lease over; guarded by d.mu
}

func (d *Daemon) newFlight(record hostdb.Flight) *flight {
	f := &flight{d: d, record: record, turn: make(chan struct{})}
	f.ahead, f.cancel = context.WithCancelCause(d.ctx)
	return f
}

// overtaken is why a flight has to end before its time; nil when it need not.
func (f *flight) overtaken() error {
	if f.ahead.Err() == nil {
		return nil
	}
	return context.Cause(f.ahead)
}

// step runs one step. Its intent is durable before it begins; its end is with the next write, which follows at once.
func (f *flight) step(name string, run func() (string, error)) error {
	return f.stepAfter(name, func(r hostdb.Flight) error { f.d.putFlight(r); return nil }, run)
}

// stepAfter is step with more to write down before it.
func (f *flight) stepAfter(name string, intend func(hostdb.Flight) error, run func() (string, error)) error {
	began := time.Now()
	record := f.note(func(r *hostdb.Flight) {
		r.Release.Steps = append(r.Release.Steps, controlplane.Step{Name: name, State: "running", At: began})
	})
	f.tell()
	message, err := "", intend(record)
	if err == nil {
		failpoint.Begun(name)
		message, err = run()
		failpoint.Ended(name)
	}
	f.note(func(r *hostdb.Flight) {
		step := &r.Release.Steps[len(r.Release.Steps)-1]
		step.State, step.Message, step.Took = "done", message, time.Since(began)
		if err != nil {
			step.State, step.Message = "failed", firstLine(err.Error())
		}
	})
	f.tell()
	return err
}

// note changes the record, which the next write makes durable, and returns it as it is then.
func (f *flight) note(change func(*hostdb.Flight)) hostdb.Flight {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	change(&f.record)
	return f.record
}

// update changes the record and makes it durable.
func (f *flight) update(change func(*hostdb.Flight)) {
	f.d.putFlight(f.note(change))
}

// putFlight makes a release's record durable. A disk that is full holds up no release: what matters is checked where it is written.
func (d *Daemon) putFlight(record hostdb.Flight) {
	d.logError("record release", d.host.PutFlight(record))
}

// tell lets followers know of the last step, when it begins and when it has ended.
func (f *flight) tell() {
	release := f.release()
	f.d.events.emit(stepEvent(&release, release.Steps[len(release.Steps)-1]))
}

// release is a copy of the release as it stands.
func (f *flight) release() controlplane.Release {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	r := f.record.Release
	r.Steps = append([]controlplane.Step{}, r.Steps...)
	return r
}

// end writes the release's outcome to the ledger and the audit trail, gives the lease back and tells followers. A ledger that cannot be
// reached is written when it can. Until the version is free for the next release, this one still runs for all who ask.
func (f *flight) end(ctx context.Context, err error) {
	if f.record.Audit != nil {
		f.endPlace(ctx, err)
		return
	}
	f.d.mu.Lock()
	record := f.record
	f.d.mu.Unlock()
	release := &record.Release
	release.State, release.FinishedAt = controlplane.ReleaseDone, time.Now()
	if err != nil {
		release.State, release.Error = controlplane.ReleaseFailed, f.d.explain(err)
	}
	release.Undo = undo(*release)
	entry := auditRelease(record)
	f.d.logError("record release", f.d.host.PutEnd(record, entry))
	failpoint.Reach(failpoint.EndWritten)
	f.d.mu.Lock()
	owed := record.Queued || f.successor != nil // who takes over does not wait for the ledger, and needs the lease
	f.d.mu.Unlock()
	if !owed {
		if err := f.d.entered(ctx, record); err != nil {
			f.d.log.Error("cannot write the ledger; tried again until it is there", "release", release.ID, "error", err)
			owed = true
		}
	}
	f.d.mu.Lock()
	f.record = record
	f.d.unclaimLocked(f)
	f.d.mu.Unlock()
	if owed {
		f.d.work.Go(f.d.settleLedger)
	}
	f.d.enterNow(entry)
	f.d.log.Info("release ended", "release", release.ID, "kind", release.Kind, "version", release.Version, "state", release.State)
	f.d.events.emit(controlplane.Event{Kind: "release", Version: release.Version, Release: release.ID, Ended: release,
		Message: fmt.Sprintf("%s of %s %s", release.Kind, release.Version, release.State)})
}

// entered writes the outcome of a release into the ledger, gives its lease back, and only then forgets the flight.
func (d *Daemon) entered(ctx context.Context, f hostdb.Flight) error {
	ctx, cancel := asking(ctx)
	defer cancel()
	r := f.Release
	if err := d.writeLedger(ctx, &r); err != nil {
		return err
	}
	failpoint.Reach(failpoint.LedgerEnded)
	d.logError("release the lease", d.Store().ReleaseLease(ctx, leaseName(r.Version), d.holder(f.ID))) // it ends by itself
	failpoint.Reach(failpoint.LeaseReleased)
	if err := d.host.DeleteFlight(f.ID); err != nil {
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
