package supervise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killPatience is how long a SIGKILL may take. Only a process stuck in the kernel takes longer.
const killPatience = 5 * time.Second

// task is one process seen through its pidfd: ours or adopted, instance or daemon. One goroutine, watch, waits for its exit.
type task struct {
	rec   Record
	pidfd *os.File  // in the netpoller
	cmd   *exec.Cmd // nil when adopted

	wipeSession bool   // whatever it started goes with it; not so for daemons, whose workers may live on
	cleanup     func() // after exit

	exited   chan struct{} // the process has ended, state is set
	detached chan struct{}
	done     chan struct{} // watch has returned, nothing of the task is left here
	state    string
	killed   atomic.Bool // by us, while it ran
	once     sync.Once
}

// newTask takes over pidfd. Call watch, once, when the task is complete.
func newTask(rec Record, pidfd int, cmd *exec.Cmd) (*task, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, fmt.Errorf("cannot watch %s: %v", rec, err)
	}
	return &task{
		rec:      rec,
		pidfd:    os.NewFile(uintptr(pidfd), "pidfd"),
		cmd:      cmd,
		cleanup:  func() {},
		exited:   make(chan struct{}),
		detached: make(chan struct{}),
		done:     make(chan struct{}),
	}, nil
}

func (t *task) watch() {
	defer close(t.done)
	raw, err := t.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool { return pidfdExited(int(fd)) })
	}
	if err != nil { // detached: the descriptor was closed under us
		return
	}
	if t.wipeSession && t.cmd != nil {
		// A zombie's number cannot be given away, so this reaches our group and no other. Reap after it.
		unix.Kill(-t.rec.PID, unix.SIGKILL)
	}
	t.state = t.reap()
	close(t.exited)
	t.pidfd.Close()
	if t.wipeSession {
		killAll(Leftovers(t.rec))
	}
	t.cleanup()
}

// reap collects the exit status of our own child; of an adopted process the kernel tells its parent only.
func (t *task) reap() string {
	if t.cmd != nil {
		t.cmd.Wait() // the state says more than the error
		return t.cmd.ProcessState.String()
	}
	state := "unknown, it was adopted"
	raw, err := t.pidfd.SyscallConn()
	if err != nil {
		return state
	}
	raw.Control(func(fd uintptr) {
		// A control plane replaced by exec adopts what is its own child all the same. Ask by pidfd whether it is: the number may
		// be a later child's.
		if unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != nil {
			return
		}
		var ws unix.WaitStatus
		if pid, err := unix.Wait4(t.rec.PID, &ws, unix.WNOHANG, nil); err == nil && pid == t.rec.PID {
			state = statusText(ws)
		}
	})
	return state
}

func statusText(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal: " + syscall.Signal(ws.Signal()).String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// signal reaches this very process; one that has ended is fine.
func (t *task) signal(sig unix.Signal) {
	raw, err := t.pidfd.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), sig, nil, 0) })
}

// terminate asks, and wakes a stopped process so that it can hear it.
func (t *task) terminate(sig unix.Signal) {
	t.signal(sig)
	t.signal(unix.SIGCONT)
}

// kill ends the process and everything it started, and waits until that is so.
func (t *task) kill() error {
	select {
	case <-t.detached:
		return fmt.Errorf("internal error: cannot kill %s: it was let go", t.rec)
	case <-t.exited:
	default:
		family := append(Descendants(t.rec.PID), Leftovers(t.rec)...)
		t.killed.Store(true)
		t.signal(unix.SIGKILL)
		if !t.waitExit(context.Background(), killPatience) {
			return fmt.Errorf("cannot kill %s: still there %s after SIGKILL", t.rec, killPatience)
		}
		killAll(family)
	}
	killAll(Leftovers(t.rec))
	<-t.done
	return nil
}

// waitExit reports whether the process ended within the time. A ctx that ends cuts it short.
func (t *task) waitExit(ctx context.Context, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-t.exited:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-t.exited:
		return true
	default:
		return false
	}
}

// detach lets the process run and forgets it. The watcher is gone when this returns.
func (t *task) detach() {
	t.once.Do(func() {
		close(t.detached)
		t.pidfd.Close()
		<-t.done
		if t.cmd != nil {
			t.cmd.Process.Release()
		}
	})
}

// exitState is empty while the process runs.
func (t *task) exitState() string {
	select {
	case <-t.exited:
		return t.state
	default:
		return ""
	}
}
