package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	grunner "github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	startWithin = 10 * time.Second
	adoptWithin = 3 * time.Second
	// maxDir leaves go-plugin room below it: /plugin-dirNNNNNNNNNN/pluginNNNNNNNNNN in the 107 bytes of a socket path.
	maxDir = 69
	// termPatience is what TERM leaves a child before KILL.
	termPatience = 2 * time.Second
	// dyingPatience is for a child that has closed its pipe or connection: its exit status, due any moment, says more than that.
	dyingPatience = time.Second
)

// Spec says what to start.
type Spec struct {
	Set     string
	Role    string        // "ua" or "api", the build's first argument
	Program string        // path of the build
	Digest  string        // sha256 the executed bytes must have, hex; empty: unchecked
	Args    []string      // instead of the role
	Dir     string        // for go-plugin's sockets; made 0700; at most 69 bytes
	Log     string        // the child's stderr is appended here
	Env     []string      // added to PATH, HOME and locale; nothing else of ours is passed on
	Within  time.Duration // for start up to the first answered call; zero: 10 s
}

// Process is a running instance of a build. Its methods may be called from several goroutines.
type Process struct {
	rec    Record
	task   *task
	link   *link
	client pb.InstanceClient
	ended  chan struct{}
}

// Start starts an instance and returns when it has said who it is; it is not yet configured. On an error (*StartError) nothing is
// left running. Write the record down before anything else: a child whose host dies before Configure leaves after 30 s.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	p, err := start(ctx, spec)
	if err != nil {
		tail, _ := TailLog(spec.Log, tailLines)
		return nil, &StartError{What: fmt.Sprintf("%s of set %q", spec.Role, spec.Set), Cause: err, Tail: tail}
	}
	return p, nil
}

func start(ctx context.Context, spec Spec) (*Process, error) {
	if spec.Within <= 0 {
		spec.Within = startWithin
	}
	ctx, cancel := context.WithTimeout(ctx, spec.Within)
	defer cancel()
	if err := prepareDir(spec.Dir); err != nil {
		return nil, err
	}
	prog, err := openProgram(spec.Program, spec.Digest)
	if err != nil {
		return nil, err
	}
	defer prog.file.Close()
	log, err := openLog(spec.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	r := &runner{ctx: ctx, spec: spec, prog: prog, log: log}
	l := &link{}
	client, addr, err := r.handshake(l)
	if err != nil {
		return nil, err
	}
	rec := r.task.rec
	rec.Addr, rec.Protocol = addr.String(), client.NegotiatedVersion()
	l.pid, l.addr = rec.PID, rec.Addr
	r.stdout.Close() // it was for the handshake only

	inst, id, err := l.open(ctx, client)
	if err == nil && id.GetRole() != spec.Role {
		err = fmt.Errorf("it says its role is %q", id.GetRole())
	}
	if err != nil {
		l.close()
		if errors.Is(err, ErrUnresponsive) {
			r.task.waitExit(ctx, dyingPatience)
		}
		state := r.task.exitState()
		if killErr := r.task.kill(); killErr != nil {
			return nil, errors.Join(err, killErr)
		}
		if state != "" {
			err = &BuildError{Path: spec.Program, Reason: DiedAtOnce, Detail: state}
		}
		return nil, err
	}
	rec.InstanceID = id.GetInstanceId()
	return newProcess(rec, r.task, l, inst), nil
}

// handshake starts the child through go-plugin and reads where it listens. On an error the child is dead.
func (r *runner) handshake(l *link) (*goplugin.Client, net.Addr, error) {
	cfg := l.config()
	cfg.VersionedPlugins = plugin.Plugins()
	cfg.StartTimeout = r.spec.Within
	cfg.UnixSocketConfig = &goplugin.UnixSocketConfig{TempDir: r.spec.Dir}
	cfg.RunnerFunc = func(_ hclog.Logger, cmd *exec.Cmd, dir string) (grunner.Runner, error) {
		r.env, r.dir = cmd.Env, dir
		return r, nil
	}
	client := goplugin.NewClient(cfg)
	addr, err := client.Start()
	if r.disarm != nil {
		r.disarm()
	}
	if err == nil {
		return client, addr, nil
	}
	if r.task != nil {
		r.Kill(context.Background())
		r.stdout.Close()
	}
	os.RemoveAll(r.dir)
	return nil, nil, r.handshakeError(err)
}

func newProcess(rec Record, t *task, l *link, inst pb.InstanceClient) *Process {
	p := &Process{rec: rec, task: t, link: l, client: inst, ended: make(chan struct{})}
	go p.closeAfter()
	return p
}

// closeAfter keeps gRPC from dialling a dead socket for ever.
func (p *Process) closeAfter() {
	defer close(p.ended)
	waitTask(p.task)
	p.link.close()
}

// Adopt takes over the instance that an earlier control plane recorded. ErrGone: it runs no more, its sockets have been removed.
// ErrStranger and ErrUnresponsive: it was left alone; see there.
func Adopt(ctx context.Context, rec Record) (*Process, error) {
	p, err := adopt(ctx, rec)
	if errors.Is(err, ErrGone) {
		killAll(Leftovers(rec))
		removeSocketDir(rec)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot adopt %s: %w", rec, err)
	}
	return p, nil
}

func adopt(ctx context.Context, rec Record) (*Process, error) {
	set, ok := plugin.Plugins()[rec.Protocol]
	if !ok {
		return nil, &plugin.ContractError{Got: rec.Protocol, Want: plugin.Contracts()}
	}
	ctx, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	l := &link{pid: rec.PID, addr: rec.Addr}
	a := &attached{ctx: ctx, rec: rec, link: l}
	cfg := l.config()
	cfg.Plugins = set // re-attaching ignores VersionedPlugins
	cfg.Reattach = &goplugin.ReattachConfig{
		Protocol:        goplugin.ProtocolGRPC,
		ProtocolVersion: rec.Protocol,
		Addr:            &net.UnixAddr{Net: "unix", Name: rec.Addr},
		Pid:             rec.PID,
		ReattachFunc:    a.attach,
	}
	client := goplugin.NewClient(cfg)
	if _, err := client.Start(); err != nil {
		return nil, err
	}
	inst, id, err := l.open(ctx, client)
	if err == nil && (id.GetInstanceId() != rec.InstanceID || id.GetRole() != rec.Role) {
		err = fmt.Errorf("%w: %s with instance id %q answers", ErrStranger, clip(id.GetRole(), 20), clip(id.GetInstanceId(), 80))
	}
	if err != nil {
		l.close()
		gone := a.task.exitState() != ""
		a.task.detach()
		if gone {
			return nil, ErrGone
		}
		return nil, err
	}
	return newProcess(rec, a.task, l, inst), nil
}

// attached is go-plugin's view of a process that it did not start.
type attached struct {
	ctx  context.Context
	rec  Record
	link *link
	task *task
}

// attach proves that the process is the recorded one and that it is who listens.
func (a *attached) attach() (grunner.AttachedRunner, error) {
	fd, err := openRecord(a.rec)
	if err != nil {
		return nil, err
	}
	conn, err := a.link.dial(a.ctx, "")
	if pidfdExited(fd) {
		err = ErrGone
	} else if err != nil && !errors.Is(err, ErrStranger) {
		err = fmt.Errorf("%w: %v", ErrUnresponsive, err)
	}
	if conn != nil {
		conn.Close()
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if a.task, err = newTask(a.rec, fd, nil); err != nil {
		return nil, err
	}
	a.task.wipeSession = true
	a.task.cleanup = func() { removeSocketDir(a.rec) }
	go a.task.watch()
	return a, nil
}

func (a *attached) Wait(context.Context) error { return waitTask(a.task) }
func (a *attached) Kill(context.Context) error { return a.task.kill() }
func (a *attached) ID() string                 { return strconv.Itoa(a.rec.PID) }

func (a *attached) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}
func (a *attached) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// removeSocketDir deletes what go-plugin made for one child, and nothing that does not look like it.
func removeSocketDir(rec Record) {
	if dir := filepath.Dir(rec.Addr); strings.HasPrefix(filepath.Base(dir), "plugin-dir") {
		os.RemoveAll(dir)
	}
}

// Record is what Adopt needs. It does not change.
func (p *Process) Record() Record { return p.rec }

// Client is the instance's side of the contract. Give every call a deadline: the process may be frozen.
func (p *Process) Client() pb.InstanceClient { return p.client }

// Exited is closed about a millisecond after the process has ended, whoever ended it; not after Detach.
func (p *Process) Exited() <-chan struct{} { return p.task.exited }

// ExitState is how it ended ("exit status 1", "signal: killed"), empty while it runs. Of an adopted process it is unknown.
func (p *Process) ExitState() string { return p.task.exitState() }

// Stop asks the instance to stop within grace, then sends TERM, 2 s later KILL to it and all it started. It returns when the
// process is gone and its sockets are removed. When ctx ends it kills at once. A frozen process costs it the whole time.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if p.askStop(ctx, grace) {
		return p.finish()
	}
	if ctx.Err() == nil {
		p.task.terminate(unix.SIGTERM)
		p.task.waitExit(ctx, termPatience)
	}
	return p.Kill()
}

// askStop reports whether the process left by itself.
func (p *Process) askStop(ctx context.Context, grace time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := p.client.Stop(ctx, &pb.StopRequest{DeadlineMs: grace.Milliseconds(), Message: "stopped by the control plane"})
		answered <- err
	}()
	select {
	case <-p.task.exited:
		return true
	case err := <-answered:
		if err != nil { // not to be asked; or it was leaving just now
			return p.task.waitExit(ctx, 100*time.Millisecond)
		}
	case <-ctx.Done():
		return false
	}
	return p.task.waitExit(ctx, grace)
}

// Kill ends the process and all it started at once, and waits for it.
func (p *Process) Kill() error {
	if err := p.task.kill(); err != nil {
		return err
	}
	return p.finish()
}

func (p *Process) finish() error {
	<-p.task.done
	<-p.ended
	return nil
}

// Detach lets the instance run and forgets it; Adopt finds it again. Nothing of it is left in this process.
func (p *Process) Detach() {
	p.task.detach()
	<-p.ended
}

// prepareDir makes the directory of go-plugin's sockets, for our eyes only.
func prepareDir(dir string) error {
	if len(dir) > maxDir {
		return fmt.Errorf("cannot use socket directory %q: %d bytes, want %d at most; choose a shorter run directory", dir, len(dir), maxDir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make socket directory: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("cannot protect socket directory: %v", err)
	}
	return nil
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("cannot make log directory: %v", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open log: %v", err)
	}
	return f, nil
}
