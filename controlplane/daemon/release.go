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
	"github.com/kmsctl/kms/runtime/store"
)

// Start begins a release and returns at once, or as soon as the lease was to be had. One that would change nothing is done already,
// and so is a rollback while the shared database is away.
func (d *Daemon) Start(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error) {
	release, err := d.begin(ctx, r)
	if r.Kind == controlplane.KindRollback && (errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		return d.rollBackAlone(ctx, r, err)
	}
	return release, err
}

// rollbackPatience is how long a rollback to what is warm waits for the shared database before it goes on without.
const rollbackPatience = 2 * time.Second

// patiently bounds what a release asks of the shared database before it begins.
func patiently(ctx context.Context, kind controlplane.ReleaseKind) (context.Context, context.CancelFunc) {
	if kind == controlplane.KindRollback {
		return context.WithTimeout(ctx, rollbackPatience)
	}
	return asking(ctx)
}

// errNothingToDo ends a release that has nothing to change by the time it has the lease.
var errNothingToDo = errors.New("nothing to do")

func (d *Daemon) begin(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error) {
	f, err := d.prepare(ctx, r)
	if err == nil {
		err = d.takeOff(ctx, f, r.Wait, func(ctx context.Context) error { return d.enlist(ctx, f, r) })
	}
	if err != nil && f != nil {
		defer f.cancel(nil)
	}
	switch {
	case errors.Is(err, errNothingToDo):
		release := f.release()
		release.State, release.FinishedAt = controlplane.ReleaseDone, release.StartedAt
		return &release, nil
	case err != nil:
		return nil, err
	}
	release := f.release()
	d.work.Go(func() { d.fly(f, f.run) })
	return &release, nil
}

// prepare checks a request against what is, and makes its flight. With errNothingToDo the flight only tells what is.
func (d *Daemon) prepare(ctx context.Context, r controlplane.ReleaseRequest) (*flight, error) {
	ctx, cancel := patiently(ctx, r.Kind)
	defer cancel()
	asked := r.Build
	plan, err := d.Plan(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(plan.Holders) > 0 && !r.Force {
		return nil, controlplane.Errorf(controlplane.InUse, "version %s is in use:\n  %s", r.Version, strings.Join(plan.Holders, "\n  ")).
			WithHint("kmsctl retire %s --force --message WHY drains it first", r.Version)
	}
	if r.Build = plan.To; r.Kind == controlplane.KindRetire {
		r.Build = plan.From
	}
	f := d.newFlight(hostdb.Flight{ID: ulid.Make().String(), Release: controlplane.Release{
		Kind: r.Kind, Version: r.Version, Build: r.Build, Label: d.label(ctx, r.Build), Previous: plan.From, State: controlplane.ReleaseRunning,
		Who: r.Who, Message: r.Message, Node: d.node, StartedAt: time.Now(), Steps: []controlplane.Step{},
	}})
	f.asked, f.gate = asked, r.Gate
	if len(plan.Steps) == 0 && !d.changing(r.Version) { // what is under way may leave something to do
		return f, errNothingToDo
	}
	return f, nil
}

// changing reports whether a release of the version is under way here.
func (d *Daemon) changing(version string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flights[version] != nil
}

// fly runs a flight to its end and keeps its lease meanwhile.
func (d *Daemon) fly(f *flight, run func(context.Context) error) {
	renewing, landed := context.WithCancel(d.ctx)
	defer landed()
	defer f.cancel(nil)
	lease, holder := leaseName(f.record.Release.Version), d.holder(f.record.ID)
	d.work.Go(func() { d.keepLease(renewing, lease, holder, func(err error) { d.logError("renew the lease", err) }) })
	err := run(f.ahead)
	if d.ctx.Err() != nil {
		return // the control plane goes; the next one settles the flight from host.db
	}
	f.end(d.ctx, err)
}

// run goes through the release's steps.
func (f *flight) run(ctx context.Context) error {
	r := f.release()
	if r.Kind == controlplane.KindRetire {
		return f.retire(ctx)
	}
	if f.d.serves(r.Version, r.Build) { // what was in the way is undone, and this is what it had replaced
		if err := f.wantBuild(ctx); err != nil {
			return f.kept(err, nil)
		}
		return nil
	}
	if warm := f.d.warmSet(r.Version, r.Build); warm != nil {
		return f.swapToWarm(ctx, warm)
	}
	return f.deploy(ctx)
}

// deploy is the sequence of DESIGN 4. What fails before the swap leaves the old build untouched; what fails after it swaps back.
func (f *flight) deploy(ctx context.Context) error {
	err := f.prove(ctx)
	if err == nil {
		err = f.passGate(ctx)
	}
	if err != nil {
		return f.kept(err, f.discard(f.d.ctx))
	}
	return f.through(ctx, f.swapToNew, f.probeNginx, f.wantBuild)
}

// prove starts a set of the flight's build, which has to pass its own probe on its sockets.
func (f *flight) prove(ctx context.Context) error {
	if err := f.step("start", func() (string, error) { return f.startNew(ctx) }); err != nil {
		return err
	}
	if err := f.step("probe", func() (string, error) { return f.d.probeSet(ctx, f.new) }); err != nil {
		return err
	}
	// Nobody should wait for the log's second while the new processes still register; a bus that is down holds up no deploy.
	return f.step("bus", func() (string, error) { return f.awaitBus(ctx), nil })
}

// busWithin is what a new set gets to register on the bus: InspIRCd takes up to a second.
const busWithin = 3 * time.Second

// awaitBus waits until both instances of the new set are on the bus, and tells how that went.
func (f *flight) awaitBus(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, busWithin)
	defer cancel()
	began := time.Now()
	for ctx.Err() == nil {
		up := true
		for _, in := range f.new.instances() {
			in.poll(ctx)
			up = up && in.onBus()
		}
		if up {
			return "up after " + time.Since(began).Round(time.Millisecond).String()
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "not up within " + busWithin.String() + "; until it is, messages take about a second through the log"
}

// swapToWarm makes a set serve that still runs: a rollback, or a deploy of what served a moment ago. A set that died or froze
// just now is no reason to fail: another is started.
func (f *flight) swapToWarm(ctx context.Context, warm *set) error {
	f.note(func(h *hostdb.Flight) { h.Set, h.Warm = warm.ID, true })
	f.new = warm
	if err := f.d.cancelDrain(ctx, warm); err != nil {
		f.d.log.Warn("the warm set cannot serve; another is started", "set", warm.ID, "error", err)
		return f.deploy(ctx)
	}
	if err := f.passGate(ctx); err != nil {
		return f.kept(err, f.discard(f.d.ctx))
	}
	return f.through(ctx, f.swapToNew, f.wantBuild)
}

// through runs the gates from the swap on. When one fails, what served before serves again.
func (f *flight) through(ctx context.Context, gates ...func(context.Context) error) error {
	for _, gate := range gates {
		err := f.overtaken()
		if err == nil {
			err = gate(ctx)
		}
		if err != nil {
			return f.kept(err, f.swapBack(f.d.ctx))
		}
	}
	f.drainOld()
	return nil
}

func (f *flight) startNew(ctx context.Context) (string, error) {
	r := f.release()
	if err := f.d.checkSchema(ctx, r.Build); err != nil {
		return "", err
	}
	id := newSetID()
	f.update(func(h *hostdb.Flight) { h.Set, h.Warm = id, false })
	failpoint.Reach(failpoint.SetChosen)
	f.new = nil
	s, err := f.d.startSet(ctx, hostdb.Set{
		ID: id, Version: r.Version, Build: r.Build, Label: r.Label, State: controlplane.SetStarting, StartedAt: time.Now(),
	})
	f.new = s
	return "set " + id, err
}

// kept says of a failure that the old build still serves, unless undoing what was done did not go well, and where to look.
func (f *flight) kept(err, undoing error) error {
	e := *f.d.explain(err)
	e.Kind = controlplane.Unhealthy
	if cause := f.overtaken(); cause != nil {
		e = *f.d.explain(cause)
	}
	version := f.record.Release.Version
	switch {
	case undoing != nil:
		e.Message += fmt.Sprintf("\nand it is not undone: %v", undoing)
		e.Hint = fmt.Sprintf("kmsctl status, then kmsctl deploy BUILD --as %s", version)
	case !f.record.NewName():
		e.Message += fmt.Sprintf("\nversion %s still serves its old build", version)
	}
	if e.Hint == "" {
		e.Hint = fmt.Sprintf("kmsctl show %d; the whole log is in %s", f.record.Release.ID, f.d.home.Log(version, f.record.Set, "ua"))
	}
	return &e
}

// swapToNew leads the slot to the new set; a new name is told to nginx as well. All that the swap intends is durable at once before
// the link moves.
func (f *flight) swapToNew(ctx context.Context) error {
	route := hostdb.Route{Version: f.record.Release.Version, State: controlplane.Live, Stable: f.new.ID}
	f.note(func(h *hostdb.Flight) { h.Swapped = true })
	err := f.stepAfter("swap",
		func(record hostdb.Flight) error { return f.d.intendSwap(record, f.new, route) },
		func() (string, error) {
			renamed, err := f.d.swapLink(route.Version)
			failpoint.Reach(failpoint.SlotSwapped)
			return "link renamed in " + renamed.Round(time.Microsecond).String(), err
		})
	if err != nil || !f.record.NewName() {
		return err
	}
	return f.step("nginx", func() (string, error) { return f.d.applyNginx(ctx) })
}

func (f *flight) probeNginx(ctx context.Context) error {
	return f.step("probe nginx", func() (string, error) { return f.d.probeThroughNginx(ctx, f.new) })
}

// wantBuild writes into the shared database which build the version is to serve.
func (f *flight) wantBuild(ctx context.Context) error {
	r := f.release()
	return f.step("ledger", func() (string, error) {
		if f.isQueued() {
			return queuedText, nil
		}
		ctx, cancel := asking(ctx)
		defer cancel()
		err := f.d.Store().PutVersion(ctx, store.Version{Name: r.Version, State: store.VersionLive, Build: r.Build})
		failpoint.Reach(failpoint.VersionWritten)
		if errors.Is(err, store.ErrUnavailable) && r.Kind == controlplane.KindRollback && f.record.Warm {
			f.update(func(h *hostdb.Flight) { h.Queued = true }) // better off than back on what was left
			return queuedText, nil
		}
		return "", err
	})
}

// swapBack undoes a swap whose gate failed, and lets the new set go. When the control plane goes it is the next one that decides.
func (f *flight) swapBack(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return f.step("swap back", func() (string, error) { return "", f.goBack(ctx) })
}

// goBack lets the new set go also when not all could be undone, unless somebody is still led to it.
func (f *flight) goBack(ctx context.Context) error {
	err := f.d.routeBack(ctx, f.record)
	if err != nil && f.new != nil && f.d.place(f.new).held() {
		return err
	}
	return errors.Join(err, f.discard(ctx))
}

// discard stops a set that did not pass its gate; one that was warm before is warm again.
func (f *flight) discard(ctx context.Context) error {
	switch {
	case f.new == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the control plane goes, and the next one decides
	case f.record.Warm:
		return f.d.drain(f.new, f.d.cfg.Duration("drain.deadline"), "version "+f.new.Version+" moves to another build")
	case f.overtaken() != nil:
		f.d.stopNow(f.new) // it may be what hangs
		return nil
	}
	return f.d.removeSet(context.WithoutCancel(ctx), f.new)
}

// drainOld moves the clients of the set that served before. The release does not wait for them, and is done whether or not
// they could be told: one that cannot be told is drained by its stop.
func (f *flight) drainOld() {
	old := f.d.setByID(f.record.Before.Stable)
	if old == nil || old == f.new {
		return
	}
	for _, s := range f.d.setsOf(old.Version) {
		if s != old && s != f.new && f.d.stateOf(s) == controlplane.SetWarm {
			f.d.stopNow(s) // a newer previous set replaces it
		}
	}
	err := f.step("drain", func() (string, error) {
		message := fmt.Sprintf("version %s moves to another build", old.Version)
		told := fmt.Sprintf("%d connections at %s/s", old.ua.info().Connections, f.d.cfg.String("drain.rate"))
		return told, f.d.drain(old, f.d.cfg.Duration("drain.deadline"), message)
	})
	f.d.logError("drain the old set", err)
}

// checkSchema refuses a build that cannot serve on the schema there is.
func (d *Daemon) checkSchema(ctx context.Context, digest string) error {
	ctx, cancel := asking(ctx)
	defer cancel()
	b, err := d.Store().Build(ctx, digest)
	if err != nil {
		return err
	}
	if err := d.Store().CheckSchema(ctx, b.SchemaMin, b.SchemaMax); err != nil {
		return controlplane.Errorf(controlplane.Unhealthy, "build %s cannot serve here: %v", digest[:12], err)
	}
	return nil
}

// serves reports whether a version's slot leads to a running set of a build.
func (d *Daemon) serves(version, build string) bool {
	s := d.servingSet(version)
	return s != nil && s.Build == build && d.routed(version) && s.running()
}

// Release returns one release; the one in flight as it stands now, and one that has ended also while the ledger does not know.
func (d *Daemon) Release(ctx context.Context, id int64) (*controlplane.Release, error) {
	if r, ok := d.inFlight(id); ok {
		return &r, nil
	}
	owed, err := d.host.Flights()
	if err != nil {
		return nil, err
	}
	for _, f := range owed {
		if f.Release.ID == id && f.Release.Ended() && id != 0 {
			return &f.Release, nil
		}
	}
	row, err := d.Store().Release(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, controlplane.Errorf(controlplane.NotFound, "there is no release %d", id).WithHint("kmsctl history")
	}
	if err != nil {
		return nil, err
	}
	r := d.fromLedger(ctx, row)
	return &r, nil
}

func (d *Daemon) inFlight(id int64) (controlplane.Release, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flights {
		if f.record.Release.ID == id {
			r := f.record.Release
			r.Steps = append([]controlplane.Step{}, r.Steps...)
			return r, true
		}
	}
	return controlplane.Release{}, false
}

// Releases returns the ledger, newest first; all versions when version is empty.
func (d *Daemon) Releases(ctx context.Context, version string, limit int) ([]controlplane.Release, error) {
	rows, err := d.Store().Releases(ctx, version, limit)
	if err != nil {
		return nil, err
	}
	out := make([]controlplane.Release, 0, len(rows))
	for _, row := range rows {
		out = append(out, d.fromLedger(ctx, row))
	}
	return out, nil
}

// Events streams what happened lately, of one release its steps, and what happens from now on.
func (d *Daemon) Events(ctx context.Context, q controlplane.EventQuery) (<-chan controlplane.Event, error) {
	asking, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	first := func() ([]controlplane.Event, error) { return nil, nil }
	if q.Release != 0 {
		r, err := d.Release(asking, q.Release)
		if err != nil {
			return nil, err
		}
		first = func() ([]controlplane.Event, error) {
			if !r.Ended() { // else events, and the releases that tell them, need not wait for the database
				r, err = d.Release(asking, q.Release)
			}
			if err != nil {
				return nil, err
			}
			return past(r), nil
		}
	}
	return d.events.follow(ctx, q, first)
}

func stepEvent(r *controlplane.Release, s controlplane.Step) controlplane.Event {
	return controlplane.Event{At: s.At.Add(s.Took), Kind: "step", Version: r.Version, Release: r.ID, Step: &s,
		Message: strings.TrimSpace(s.Name + " " + s.State + " " + s.Message)}
}

// past is what followers of a release would have been told so far, but for the beginnings of the steps that have ended.
func past(r *controlplane.Release) []controlplane.Event {
	var out []controlplane.Event
	for _, s := range r.Steps {
		out = append(out, stepEvent(r, s))
	}
	if r.Ended() {
		out = append(out, controlplane.Event{At: r.FinishedAt, Kind: "release", Version: r.Version, Release: r.ID, Ended: r,
			Message: fmt.Sprintf("%s of %s %s", r.Kind, r.Version, r.State)})
	}
	return out
}
