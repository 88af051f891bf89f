package supervise

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// DaemonSpec says what to start: a program that stays in the foreground, such as nginx or an IRC server.
type DaemonSpec struct {
	Name    string // for records and messages
	Program string
	Args    []string // without the program's name
	Dir     string   // working directory; empty: /
	Log     string   // stdout and stderr are appended here
	Env     []string // added to PATH, HOME and locale
}

// Daemon is a running daemon. Its methods may be called from several goroutines.
type Daemon struct {
	rec  Record
	task *task
}

// StartDaemon starts a daemon in a session of its own. It returns when the program is executed, not when it serves; watch Exited
// while waiting for that. Errors are *StartError.
func StartDaemon(ctx context.Context, spec DaemonSpec) (*Daemon, error) {
	d, err := startDaemon(ctx, spec)
	if err != nil {
		return nil, &StartError{What: spec.Name, Cause: err}
	}
	return d, nil
}

func startDaemon(ctx context.Context, spec DaemonSpec) (*Daemon, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := exec.LookPath(spec.Program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	log, err := openLog(spec.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	t, err := launch(ctx, Record{Name: spec.Name}, func() *exec.Cmd {
		return &exec.Cmd{
			Path:        path,
			Args:        append([]string{path}, spec.Args...),
			Dir:         orElse(spec.Dir, "/"),
			Env:         append(baseEnv(), spec.Env...),
			Stdout:      log,
			Stderr:      log,
			SysProcAttr: &unix.SysProcAttr{Setsid: true},
		}
	})
	if err != nil {
		return nil, err
	}
	t.rec.Exe = exeOf(t.rec.PID) // exec has happened: Start waits for it
	go t.watch()
	return &Daemon{rec: t.rec, task: t}, nil
}

// AdoptDaemon takes over a recorded daemon that still runs the recorded program; ErrGone when it is no more. Its children may live
// on without it: see Leftovers.
func AdoptDaemon(rec Record) (*Daemon, error) {
	fd, err := openRecord(rec)
	if err == nil && exeOf(rec.PID) != rec.Exe {
		unix.Close(fd)
		err = fmt.Errorf("%w: it executes %q, want %q", ErrStranger, exeOf(rec.PID), rec.Exe)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot adopt %s: %w", rec, err)
	}
	t, err := newTask(rec, fd, nil)
	if err != nil {
		return nil, err
	}
	go t.watch()
	return &Daemon{rec: rec, task: t}, nil
}

// Record is what AdoptDaemon needs.
func (d *Daemon) Record() Record { return d.rec }

// Exited is closed about a millisecond after the daemon's first process has ended; its children may live on. Not after Detach.
func (d *Daemon) Exited() <-chan struct{} { return d.task.exited }

// ExitState is how it ended, empty while it runs. Of an adopted daemon it is unknown.
func (d *Daemon) ExitState() string { return d.task.exitState() }

// Signal sends a signal to the daemon's first process; nothing happens when it has ended.
func (d *Daemon) Signal(sig unix.Signal) { d.task.signal(sig) }

// Stop sends sig, waits for grace (or until ctx ends) and kills what is left of the daemon and its children.
func (d *Daemon) Stop(ctx context.Context, sig unix.Signal, grace time.Duration) error {
	d.task.terminate(sig)
	d.task.waitExit(ctx, grace)
	return d.task.kill()
}

// Kill ends the daemon and its children at once, and waits for it.
func (d *Daemon) Kill() error { return d.task.kill() }

// Detach lets the daemon run and forgets it; AdoptDaemon finds it again.
func (d *Daemon) Detach() { d.task.detach() }
