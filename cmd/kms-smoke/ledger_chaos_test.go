package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

// chaos carries out a schedule on a rig.
type chaos struct {
	*rig
	book  *book
	mysql *mariadb // nil: the store is SQLite
	other map[string]string

	sleeper   *keeper       // is away but for a moment after each purge
	agedAfter time.Duration // what is younger is not removed

	work sync.WaitGroup // what lasts

	mu   sync.Mutex
	last *controlplane.Status
	next map[string]bool // by version: the other build's turn
}

// run goes through the steps one after the other; what lasts goes on beside the next ones, and is over when run returns.
func (c *chaos) run(ctx context.Context, steps []step) {
	defer c.work.Wait()
	for _, s := range steps {
		if !pause(ctx, s.pause) {
			return
		}
		c.do(ctx, s)
	}
}

func (c *chaos) do(ctx context.Context, s step) {
	o := c.book.outage(s)
	over := func(err error) { c.book.over(o, note(err)) }
	aside := func(f func() error) { c.work.Go(func() { over(f()) }) }
	switch {
	case s.what == "deploy" || s.what == "rollback":
		aside(func() error { return c.release(ctx, s) })
	case s.what == "purge" && c.agedAfter == 0: // what comes next has to find it done
		over(c.purge(ctx, s.victim))
	case s.what == "purge":
		aside(func() error { return c.purge(ctx, s.victim) })
	case s.what == "backup":
		over(c.backup(ctx))
	case s.what == "restore":
		over(c.restore(ctx))
	case s.victim == "control" && s.what == "kill":
		over(c.killControl(ctx, s.lasts))
	case s.victim == "store" && c.mysql != nil:
		aside(func() error { return c.mysql.suffer(s) })
	case s.victim == "store":
		aside(func() error { return c.holdStore(s.lasts) })
	default:
		p, err := c.find(ctx, s.victim)
		if err != nil {
			over(err)
			return
		}
		aside(func() error { return p.suffer(s) })
	}
}

func note(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// killControl is kill -9 of the control plane; the next one may find other parts dead or frozen and take several attempts.
func (c *chaos) killControl(ctx context.Context, away time.Duration) error {
	if c.up == nil {
		return errors.New("there is none")
	}
	if err := c.up.kill(); err != nil {
		return err
	}
	pause(ctx, away)
	return c.startAgain(ctx)
}

func (c *chaos) startAgain(ctx context.Context) error {
	var tried []error
	for range 10 {
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := c.start(attempt, "up")
		cancel()
		if err == nil {
			return errors.Join(tried...)
		}
		tried = append(tried, err)
		if c.up != nil || !pause(ctx, time.Second) {
			break
		}
	}
	return errors.Join(tried...)
}

// release deploys, in turn, one of two builds of a version, or rolls back. It may fail while parts are dead.
func (c *chaos) release(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	args := []string{"rollback", s.victim, "--message", "ledger"}
	if s.what == "deploy" {
		c.mu.Lock()
		path := filepath.Join(c.builds, "kms-"+s.victim)
		if c.next[s.victim] = !c.next[s.victim]; c.next[s.victim] {
			path = c.other[s.victim]
		}
		c.mu.Unlock()
		args = []string{"deploy", path, "--message", "ledger"}
	}
	_, err := c.must(ctx, nil, args...)
	return err
}

// holdStore stands in for a writer that is stuck in a transaction of SQLite: it has both locks of runtime/store.
func (c *chaos) holdStore(lasts time.Duration) error {
	for _, name := range []string{"queue", "writer"} {
		f, err := os.OpenFile(c.path("kms.db."+name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close() // which lets go
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
	}
	time.Sleep(lasts)
	return nil
}

// victim is a process that is held by a descriptor: its id may be somebody else's a moment later.
type victim struct{ pidfd int }

// suffer does to the process what the step says.
func (v victim) suffer(s step) error {
	defer unix.Close(v.pidfd)
	switch s.what {
	case "kill":
		return v.signal(unix.SIGKILL)
	case "reload":
		return v.signal(unix.SIGHUP)
	}
	if err := v.signal(unix.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(s.lasts)
	if err := v.signal(unix.SIGCONT); err != nil && s.what != "hang" {
		return err
	}
	return nil
}

func (v victim) signal(s unix.Signal) error {
	err := unix.PidfdSendSignal(v.pidfd, s, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return errors.New("it is gone")
	}
	return err
}

// find returns the process that has a part now, as the control plane last told, if it is of this rig.
func (c *chaos) find(ctx context.Context, part string) (victim, error) {
	pid := 0
	switch part {
	case "control":
		if c.up != nil {
			pid = c.up.cmd.Process.Pid
		}
	case "worker":
		pid = childOf(c.pid(ctx, "nginx"))
	default:
		pid = c.pid(ctx, part)
	}
	if pid <= 1 {
		return victim{}, fmt.Errorf("there is no %s", part)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return victim{}, fmt.Errorf("cannot hold %s: %v", part, err)
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if _, ours := mentions(dir, c.home); !ours && part != "control" {
		unix.Close(fd)
		return victim{}, fmt.Errorf("process %d is no longer %s", pid, part)
	}
	return victim{fd}, nil
}

// pid asks the control plane, or remembers what it said while it does not answer.
func (c *chaos) pid(ctx context.Context, part string) int {
	k := api.Dial(c.path("run", "kms.sock"))
	defer k.Close()
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	status, err := k.Status(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.last = status
	}
	if c.last == nil {
		return 0
	}
	for _, component := range c.last.Components {
		if component.Name == part {
			return component.PID
		}
	}
	return serving(c.last, part)
}

// serving is the process of the set that serves, by version and role: "2.0 ua".
func serving(s *controlplane.Status, part string) int {
	version, role, _ := strings.Cut(part, " ")
	for _, v := range s.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				if v.Name == version && in.Role == role && set.State == controlplane.SetServing {
					return in.PID
				}
			}
		}
	}
	return 0
}

// childOf is the newest child of a process, 0 if there is none.
func childOf(parent int) int {
	if parent <= 1 {
		return 0
	}
	newest := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			newest = max(newest, pid)
		}
	}
	return newest
}
