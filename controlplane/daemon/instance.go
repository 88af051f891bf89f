package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	configureWithin = 20 * time.Second
	adoptWithin     = 3 * time.Second
	pollWithin      = time.Second
	// silentFor is how long an instance may leave health unanswered before it is killed: frozen, it may hold the database's lock.
	silentFor = 5 * time.Second
	// stopWithin is what an instance gets to close its connections and finish what is in flight.
	stopWithin = 5 * time.Second
	// retryAway is how long an instance that cannot start waits while the shared database is away.
	retryAway = 2 * time.Second
)

// instance keeps one process of a set: it starts or adopts it, restarts it when it crashes and watches its health.
type instance struct {
	d       *Daemon
	set     string
	version string
	build   string
	role    string

	mu        sync.Mutex
	state     controlplane.InstanceState
	proc      *supervise.Process
	startedAt time.Time
	restarts  int
	problem   string
	backoff   supervise.Backoff
	silence   time.Time // when it first left Health unanswered; zero while it answers
	last      sample
	cancel    context.CancelFunc // ends the keeping
	done      chan struct{}      // closed when the keeping has ended
}

// failsFor is how long an instance counts as failing after a second in which it did.
const failsFor = 5 * time.Second

// sample is what the last poll of Stats told.
type sample struct {
	at          time.Time
	connections int
	messages    float64
	perSecond   float64
	bus         float64 // messages sent and received over the bus so far
	busRate     float64
	asked       float64   // frames and logins so far
	failed      float64   // those refused for no fault of the client's
	failedAt    time.Time // when more than a tenth of what came since the poll before failed
	stats       *pb.StatsReply
	health      *pb.HealthReply
}

func (in *instance) name() string   { return in.set + "/" + in.role }
func (in *instance) socket() string { return in.d.home.Socket(in.set, in.role) }

// emptySince reports that a poll after t found no connection, or that there is no process to have one.
func (in *instance) emptySince(t time.Time) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.proc == nil || in.last.at.After(t) && in.last.connections == 0
}

// tenants is what the last poll told of each tenant.
func (in *instance) tenants() []*pb.TenantStats {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last.stats.GetTenants()
}

// bringUp starts the process and returns when it serves. On an error nothing is left running.
func (in *instance) bringUp(ctx context.Context) error {
	in.become(controlplane.InstanceStarting, "")
	proc, err := supervise.Start(ctx, supervise.Spec{
		Set: in.set, Role: in.role, Program: in.d.home.Artifact(in.build), Digest: in.build,
		Dir: in.d.home.PluginDir(in.set), Log: in.d.home.Log(in.version, in.set, in.role),
	})
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.ProcessStarted)
	// Written down before Configure: an unconfigured child whose control plane dies leaves by itself, a configured one does not.
	if err = in.d.host.PutProcess(in.name(), proc.Record()); err == nil {
		failpoint.Reach(failpoint.ProcessWritten)
		err = in.configure(ctx, proc)
	}
	if err != nil {
		proc.Kill()
		tail, _ := supervise.TailLog(in.d.home.Log(in.version, in.set, in.role), 5)
		return &supervise.StartError{What: fmt.Sprintf("%s of set %q", in.role, in.set), Cause: err, Tail: tail}
	}
	failpoint.Reach(failpoint.ProcessConfigured)
	in.took(proc)
	in.poll(ctx) // or status would call the bus degraded until the next round
	return nil
}

func (in *instance) configure(ctx context.Context, proc *supervise.Process) error {
	ctx, cancel := context.WithTimeout(ctx, configureWithin)
	defer cancel()
	if _, err := proc.Client().Configure(ctx, in.d.configuration(in)); err != nil {
		return fmt.Errorf("it refused its configuration: %v", grpcText(err))
	}
	var why string
	for {
		health, err := proc.Client().Health(ctx, &pb.HealthRequest{})
		if err == nil && health.GetReady() {
			return nil
		}
		if ctx.Err() == nil { // the call that the deadline cut off says nothing about the build
			why = unready(health, err)
		}
		select {
		case <-proc.Exited():
			return fmt.Errorf("it ended (%s)", proc.ExitState())
		case <-ctx.Done():
			return fmt.Errorf("it did not become ready within %s: %s", configureWithin, why)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unready tells which checks of a health answer fail.
func unready(health *pb.HealthReply, err error) string {
	if err != nil {
		return grpcText(err)
	}
	var bad []string
	for _, c := range health.GetChecks() {
		if !c.GetOk() {
			bad = append(bad, strings.TrimSpace(c.GetName()+" "+c.GetDetail()))
		}
	}
	return strings.Join(bad, ", ")
}

// grpcText drops gRPC's own words around an error.
func grpcText(err error) string {
	text := err.Error()
	if _, desc, ok := strings.Cut(text, "desc = "); ok {
		return desc
	}
	return text
}

// adopt takes over what an earlier control plane started. An error means that nothing of it runs any more: what is recorded
// is ours, and would be forgotten once another is started in its place.
func (in *instance) adopt(ctx context.Context) error {
	rec, ok, err := in.d.host.Process(in.name())
	if err != nil || !ok {
		return errNothingToAdopt
	}
	proc, err := supervise.Adopt(ctx, rec)
	if errors.Is(err, supervise.ErrGone) {
		return err
	}
	if err != nil {
		return errors.Join(err, supervise.KillRecord(rec))
	}
	ctx, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	id, err := proc.Client().Identify(ctx, &pb.IdentifyRequest{})
	if err != nil {
		return errors.Join(fmt.Errorf("cannot adopt %s: %s", rec, grpcText(err)), proc.Kill())
	}
	if !id.GetConfigured() || id.GetSet() != in.set {
		return errors.Join(fmt.Errorf("cannot adopt %s: it was never configured", rec), proc.Kill())
	}
	in.took(proc)
	in.mu.Lock()
	in.startedAt = time.UnixMilli(id.GetStartedAtMs())
	in.mu.Unlock()
	in.d.log.Info("adopted", "set", in.set, "role", in.role, "pid", rec.PID)
	return nil
}

func (in *instance) took(proc *supervise.Process) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.proc, in.state, in.problem = proc, controlplane.InstanceReady, ""
	in.startedAt, in.silence, in.last = time.Now(), time.Time{}, sample{}
}

func (in *instance) become(state controlplane.InstanceState, problem string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.state, in.problem = state, problem
}

func (in *instance) process() *supervise.Process {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.proc
}

// keepUp keeps the process running in the background until stop or letGo. One that is kept already goes on as it is.
func (in *instance) keepUp() {
	if in.kept() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	in.mu.Lock()
	in.cancel, in.done = cancel, done
	in.mu.Unlock()
	go func() {
		defer close(done)
		in.keep(ctx)
	}()
}

// kept reports whether the process is kept running: one that crashed too often is not.
func (in *instance) kept() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.done == nil {
		return false
	}
	select {
	case <-in.done:
		return false
	default:
		return true
	}
}

func (in *instance) keep(ctx context.Context) {
	for {
		if proc := in.process(); proc != nil {
			select {
			case <-ctx.Done():
				return
			case <-proc.Exited():
				in.exited(proc)
			}
		}
		wait, loop := in.crashed(in.d.storeAway(ctx))
		if loop {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := in.bringUp(ctx); err != nil {
			in.failedStart(ctx, err)
			continue
		}
		in.mu.Lock()
		in.restarts++
		in.mu.Unlock()
		in.event("runs again")
	}
}

func (in *instance) exited(proc *supervise.Process) {
	in.mu.Lock()
	in.proc = nil
	in.mu.Unlock()
	in.become(controlplane.InstanceRestarting, "ended: "+proc.ExitState())
	in.event("ended (" + proc.ExitState() + ")")
}

func (in *instance) failedStart(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	in.become(controlplane.InstanceRestarting, err.Error())
	in.d.log.Error("cannot restart", "set", in.set, "role", in.role, "error", err)
}

// crashed counts a crash and tells how long to wait, or that it was one too many. While the shared database is away no
// instance can start, and that is not its fault.
func (in *instance) crashed(storeAway bool) (wait time.Duration, loop bool) {
	in.mu.Lock()
	wait, loop = in.backoff.Crashed(time.Now())
	if loop && storeAway {
		wait, loop = retryAway, false
	}
	problem := in.problem
	in.mu.Unlock()
	if loop {
		tail, _ := supervise.TailLog(in.d.home.Log(in.version, in.set, in.role), 5)
		why := "crashes again and again, and stays down: " + problem + "; its last log lines: " + strings.Join(tail, "; ")
		in.become(controlplane.InstanceFailed, why)
		in.event("failed: it " + why)
	}
	return wait, loop
}

func (in *instance) event(what string) {
	in.d.log.Info("instance", "set", in.set, "role", in.role, "what", what)
	in.d.events.emit(controlplane.Event{Kind: "instance", Version: in.version, Set: in.set,
		Message: fmt.Sprintf("%s of %s (%s) %s", in.role, in.version, in.set, what)})
}

// endKeeping ends the keeping goroutine; the process runs on.
func (in *instance) endKeeping() {
	in.mu.Lock()
	cancel, done := in.cancel, in.done
	in.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// letGo leaves the process running for the next control plane.
func (in *instance) letGo() {
	in.endKeeping()
	if proc := in.process(); proc != nil {
		proc.Detach()
	}
}

// stop ends the process in order, by force when it does not listen.
func (in *instance) stop(ctx context.Context) error {
	in.endKeeping()
	proc := in.process()
	if proc == nil {
		return nil
	}
	if err := proc.Stop(ctx, stopWithin); err != nil {
		return err
	}
	failpoint.Reach(failpoint.ProcessStopped)
	in.mu.Lock()
	in.proc, in.state = nil, controlplane.InstanceStopped
	in.mu.Unlock()
	return in.d.host.DeleteProcess(in.name())
}

// poll asks for health and stats once. One that has been silent for too long is killed; keep starts another.
func (in *instance) poll(parent context.Context) {
	proc := in.process()
	if proc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(parent, pollWithin)
	defer cancel()
	health, err := proc.Client().Health(ctx, &pb.HealthRequest{})
	if err != nil {
		if parent.Err() == nil { // or nobody waits for the answer any more
			in.silent(proc)
		}
		return
	}
	stats, _ := proc.Client().Stats(ctx, &pb.StatsRequest{})
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.proc != proc {
		return
	}
	in.silence = time.Time{}
	in.state, in.problem = controlplane.InstanceReady, ""
	if !health.GetReady() {
		in.state, in.problem = controlplane.InstanceUnready, unready(health, nil)
	}
	in.last = in.last.next(stats, health, time.Now())
}

func (s sample) next(stats *pb.StatsReply, health *pb.HealthReply, now time.Time) sample {
	n := sample{at: now, stats: stats, health: health}
	n.connections = int(stats.GetValues()["connections"])
	n.messages = stats.GetValues()["messages_in_total"]
	n.bus = stats.GetValues()["bus_in_total"] + stats.GetValues()["bus_out_total"]
	if seconds := now.Sub(s.at).Seconds(); !s.at.IsZero() && seconds > 0 {
		n.perSecond = max(0, n.messages-s.messages) / seconds
		n.busRate = max(0, n.bus-s.bus) / seconds
	}
	n.countFailures(s)
	return n
}

// countFailures looks at what clients were refused since the sample before: a few are no reason to worry.
func (s *sample) countFailures(before sample) {
	v := s.stats.GetValues()
	s.asked = v["frames_in_total"] + v["logins_total"]
	for _, name := range []string{"login_errors_total", "refused_unavailable_total", "refused_busy_total", "refused_internal_total"} {
		s.failed += v[name]
	}
	s.failedAt = before.failedAt
	failed, asked := s.failed-before.failed, s.asked-before.asked
	if !before.at.IsZero() && failed >= 5 && failed*10 > asked {
		s.failedAt = s.at
	}
}

// wellness tells an instance's state, and whether it has lately failed more than a tenth of what it was asked.
func (in *instance) wellness(now time.Time) (state controlplane.InstanceState, failing bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.state, !in.last.failedAt.IsZero() && now.Sub(in.last.failedAt) < failsFor
}

// draining tells whether the last poll found a drain under way, and when that was.
func (in *instance) draining() (polled time.Time, draining bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last.at, in.last.health.GetDraining()
}

// silent counts from the first question left open, not from the last answer: a control plane that was itself stopped for a
// while has asked nothing.
func (in *instance) silent(proc *supervise.Process) {
	in.mu.Lock()
	if in.silence.IsZero() {
		in.silence = time.Now().Add(-pollWithin)
	}
	since := time.Since(in.silence)
	ours := in.proc == proc
	if ours {
		in.state, in.problem = controlplane.InstanceUnready, "does not answer for "+since.Round(time.Second).String()
	}
	in.mu.Unlock()
	if ours && since > silentFor {
		in.event("did not answer for " + since.Round(time.Second).String() + " and is killed")
		proc.Kill()
	}
}

// info is what status shows.
func (in *instance) info() controlplane.Instance {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := controlplane.Instance{
		Role: in.role, State: in.state, Socket: in.socket(), StartedAt: in.startedAt, Restarts: in.restarts,
		Connections: in.last.connections, MessagesPS: in.last.perSecond, Problem: in.problem,
	}
	if in.proc != nil {
		out.PID = in.proc.Record().PID
		out.RSS = rss(out.PID)
	}
	return out
}

// rss reads a process's resident memory in bytes, 0 when it is gone.
func rss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
