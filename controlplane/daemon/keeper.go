package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/supervise"
)

// keeper keeps one program beside the versions running: nginx or the IRC server. It adopts what an earlier control plane
// started, restarts what crashes, and leaves it running when it is only let go.
type keeper struct {
	name   string
	host   *hostdb.DB
	log    *slog.Logger
	emit   func(controlplane.Event)
	spec   supervise.DaemonSpec
	before func(last supervise.Record) error // clears the way for a new start; last is zero the first time
	ready  func(ctx context.Context, pid int) error
	stop   unix.Signal // asks for an orderly end

	mu       sync.Mutex
	proc     *supervise.Daemon
	problem  string
	restarts int
	backoff  supervise.Backoff

	cancel context.CancelFunc
	done   chan struct{}
}

// readyWithin bounds how long a program may take to serve; InspIRCd's registration alone can take a second.
const readyWithin = 10 * time.Second

// adoptPatience is what a program that runs already gets to answer before it is replaced, which closes its connections.
const adoptPatience = 3 * time.Second

// start adopts or starts the program and returns when it serves; from then on it is kept until halt or letGo.
func (k *keeper) start(ctx context.Context) error {
	if err := k.adopt(ctx); err != nil {
		if err := k.launch(ctx); err != nil {
			return err
		}
	}
	ctx, k.cancel = context.WithCancel(context.Background())
	k.done = make(chan struct{})
	go k.keep(ctx)
	return nil
}

var errNothingToAdopt = errors.New("nothing to adopt")

func (k *keeper) adopt(ctx context.Context) error {
	rec, ok, err := k.host.Process(k.name)
	if err != nil || !ok {
		return errNothingToAdopt
	}
	proc, err := supervise.AdoptDaemon(rec)
	if err != nil {
		return err
	}
	if err := k.awaitReady(ctx, proc, adoptPatience); err != nil {
		k.log.Warn("adopted program does not serve; starting another", "program", k.name, "pid", rec.PID, "error", err)
		return errors.Join(err, proc.Kill())
	}
	k.log.Info("adopted", "program", k.name, "pid", rec.PID)
	k.set(proc, "")
	return nil
}

func (k *keeper) launch(ctx context.Context) error {
	last, _, _ := k.host.Process(k.name)
	if err := k.before(last); err != nil {
		return err
	}
	proc, err := supervise.StartDaemon(ctx, k.spec)
	if err != nil {
		return err
	}
	if err := k.host.PutProcess(k.name, proc.Record()); err != nil {
		proc.Kill()
		return err
	}
	if err := k.awaitReady(ctx, proc, readyWithin); err != nil {
		proc.Kill()
		return err
	}
	k.log.Info("started", "program", k.name, "pid", proc.Record().PID)
	k.set(proc, "")
	return nil
}

// awaitReady tries until the program serves, has ended or the time is over.
func (k *keeper) awaitReady(ctx context.Context, proc *supervise.Daemon, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := k.ready(ctx, proc.Record().PID)
		if err == nil {
			return nil
		}
		select {
		case <-proc.Exited():
			return k.failed(fmt.Errorf("it ended at once (%s)", proc.ExitState()))
		case <-ctx.Done():
			return k.failed(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// failed adds the program's own last words.
func (k *keeper) failed(cause error) error {
	tail, _ := supervise.TailLog(k.spec.Log, 3)
	return controlplane.Errorf(controlplane.Unhealthy, "cannot start %s: %v: %s", k.name, cause, strings.Join(tail, "; ")).
		WithHint("kmsctl logs --role %s", k.name)
}

// keep restarts the program whenever it ends, until ctx does.
func (k *keeper) keep(ctx context.Context) {
	defer close(k.done)
	for {
		if proc := k.current(); proc != nil {
			select {
			case <-ctx.Done():
				return
			case <-proc.Exited():
				k.set(nil, "it ended ("+proc.ExitState()+")")
			}
		}
		wait, loop := k.backoff.Crashed(time.Now())
		if loop {
			wait = 30 * time.Second // without nginx or the bus nothing works: never give up
		}
		k.emit(controlplane.Event{Kind: k.name, Message: fmt.Sprintf("%s ended; next start in %s", k.name, wait.Round(time.Millisecond))})
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		k.relaunch(ctx)
	}
}

func (k *keeper) relaunch(ctx context.Context) {
	if err := k.launch(ctx); err != nil {
		k.log.Error("cannot restart", "program", k.name, "error", err)
		k.set(nil, err.Error())
		return
	}
	k.mu.Lock()
	k.restarts++
	k.mu.Unlock()
	k.emit(controlplane.Event{Kind: k.name, Message: k.name + " runs again"})
}

func (k *keeper) set(proc *supervise.Daemon, problem string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proc, k.problem = proc, problem
}

func (k *keeper) current() *supervise.Daemon {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.proc
}

// pid is 0 while the program does not run.
func (k *keeper) pid() int {
	if proc := k.current(); proc != nil {
		return proc.Record().PID
	}
	return 0
}

// awaitBack waits until the program runs and serves.
func (k *keeper) awaitBack(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for k.current() == nil {
		select {
		case <-ctx.Done():
			return controlplane.Errorf(controlplane.Unhealthy, "%s is down, and not back within %s: %s", k.name, within, k.component("").Detail).
				WithHint("kmsctl logs --role %s", k.name)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (k *keeper) component(address string) controlplane.Component {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := controlplane.Component{Name: k.name, State: "ok", Address: address, Detail: k.problem}
	if k.proc == nil {
		c.State = "down"
		return c
	}
	c.PID = k.proc.Record().PID
	if k.restarts > 0 {
		c.Detail = fmt.Sprintf("restarted %d times", k.restarts)
	}
	return c
}

// letGo stops keeping and leaves the program running.
func (k *keeper) letGo() {
	if k.cancel == nil {
		return
	}
	k.cancel()
	<-k.done
	if proc := k.current(); proc != nil {
		proc.Detach()
	}
}

// halt stops the program and forgets it.
func (k *keeper) halt(ctx context.Context) {
	if k.cancel == nil {
		return
	}
	k.cancel()
	<-k.done
	if proc := k.current(); proc != nil {
		if err := proc.Stop(ctx, k.stop, 3*time.Second); err != nil {
			k.log.Error("cannot stop", "program", k.name, "error", err)
			return
		}
	}
	if err := k.host.DeleteProcess(k.name); err != nil {
		k.log.Error("cannot forget", "program", k.name, "error", err)
	}
}
