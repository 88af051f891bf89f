package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stat is the part of /proc/<pid>/stat that tells processes and their families apart.
type stat struct {
	pid, parent, group, session int
	state                       byte
	ticks                       uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat counts fields from the last parenthesis: the command's name may hold spaces and parentheses.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("cannot read process stat %q", b)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("cannot read process stat %q: too short", b)
	}
	var s stat
	var err error
	num := func(text string) (n int) {
		if err == nil {
			n, err = strconv.Atoi(text)
		}
		return n
	}
	s.pid = num(strings.TrimSpace(string(b[:open])))
	s.state = f[0][0]
	s.parent, s.group, s.session = num(f[1]), num(f[2]), num(f[3])
	if err == nil {
		s.ticks, err = strconv.ParseUint(f[19], 10, 64)
	}
	if err != nil {
		return stat{}, fmt.Errorf("cannot read process stat %q: %v", b, err)
	}
	return s, nil
}

// allStats is every process that can be seen; those that vanish meanwhile are left out.
func allStats() []stat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []stat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			all = append(all, s)
		}
	}
	return all
}

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot id: %v", err)
	}
	return strings.TrimSpace(string(b)), nil
})

// exeOf is the program a process executes. A package upgrade deletes the file under a running daemon; it is the same still.
func exeOf(pid int) string {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(exe, " (deleted)")
}

// Descendants are the living children of a process and theirs, as records to signal them by later, when their parent may be
// gone: nginx's workers hold its port after a kill -9 of the master.
func Descendants(pid int) []Record {
	boot, err := bootID()
	if err != nil || pid <= 1 { // everything descends from 1: no one means that
		return nil
	}
	children := map[int][]stat{}
	for _, s := range allStats() {
		if s.state != 'Z' {
			children[s.parent] = append(children[s.parent], s)
		}
	}
	var found []Record
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		s := queue[0]
		found = append(found, Record{PID: s.pid, StartTicks: s.ticks, BootID: boot, Exe: exeOf(s.pid)})
		queue = append(queue, children[s.pid]...)
	}
	return found
}

// Leftovers are the living processes of the session that rec's process began, itself not among them. It works when that
// process is gone and nothing was written down about its children. A record that names no process of ours has none.
func Leftovers(rec Record) []Record {
	boot, err := bootID()
	if err != nil || boot != rec.BootID {
		return nil
	}
	var found []Record
	for _, s := range sessionRest(allStats(), rec) {
		found = append(found, Record{PID: s.pid, StartTicks: s.ticks, BootID: boot, Exe: exeOf(s.pid)})
	}
	return found
}

// sessionRest picks the rest of rec's session. What it returns may get killed, so an incomplete or stale record must pick nothing:
// session 0 is the kernel's threads and everything that began before any session did.
func sessionRest(all []stat, rec Record) []stat {
	if rec.PID <= 1 || rec.StartTicks == 0 || rec.PID == ownSession() {
		return nil
	}
	var rest []stat
	for _, s := range all {
		switch {
		case s.pid == rec.PID && s.ticks != rec.StartTicks:
			return nil // the number is another's now, and so is its session: ours had no member left
		case s.session == rec.PID && s.pid != rec.PID && s.ticks >= rec.StartTicks && s.state != 'Z':
			rest = append(rest, s)
		}
	}
	return rest
}

func ownSession() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	return sid
}

// SignalRecord signals exactly the recorded process, never one that got its number later. ErrGone when it is no more.
func SignalRecord(rec Record, sig unix.Signal) error {
	fd, err := openRecord(rec)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err == unix.ESRCH {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("cannot signal %s: %v", rec, err)
	}
	return nil
}

// KillRecord kills the recorded process and everything it started, and waits until it is gone, 5 s at most. A process that is
// gone already is fine.
func KillRecord(rec Record) error {
	fd, err := openRecord(rec)
	if err == ErrGone {
		killAll(Leftovers(rec)) // whoever has the number now, its children are no concern of ours
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	family := append(Descendants(rec.PID), Leftovers(rec)...)
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if !pidfdWait(fd, killPatience) {
		return fmt.Errorf("cannot kill %s: still there %s after SIGKILL", rec, killPatience)
	}
	unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil) // if it is our own child
	killAll(family)
	killAll(Leftovers(rec)) // what was forked between the look and the kill
	return nil
}

// openRecord returns a pidfd for the recorded process. The order is what makes it sure: the descriptor first, then the start
// time, then that it still lives, so that all three spoke of one process.
func openRecord(rec Record) (int, error) {
	boot, err := bootID()
	if err != nil {
		return -1, err
	}
	if rec.PID <= 1 || rec.StartTicks == 0 || boot != rec.BootID {
		return -1, ErrGone
	}
	fd, err := unix.PidfdOpen(rec.PID, unix.PIDFD_NONBLOCK)
	if err == unix.ESRCH || err == unix.EINVAL { // EINVAL: the number is a thread's by now
		return -1, ErrGone
	}
	if err != nil {
		return -1, fmt.Errorf("cannot open %s: %v", rec, err)
	}
	s, err := readStat(rec.PID)
	if err != nil || s.ticks != rec.StartTicks || pidfdExited(fd) {
		unix.Close(fd)
		return -1, ErrGone
	}
	return fd, nil
}

// killAll kills what is left of a family and waits until it is gone, so that its ports and files are free again.
func killAll(family []Record) {
	var fds []int
	for _, r := range family {
		if fd, err := openRecord(r); err == nil {
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			fds = append(fds, fd)
		}
	}
	for _, fd := range fds {
		pidfdWait(fd, killPatience)
		unix.Close(fd)
	}
}

// pidfdExited reports whether the process behind fd has ended; a zombie has.
func pidfdExited(fd int) bool { return pidfdWait(fd, 0) }

func pidfdWait(fd int, within time.Duration) bool {
	until := time.Now().Add(within)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(max(0, time.Until(until)).Milliseconds()))
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// CloseInheritedFDs marks every descriptor this process was given, beyond the first three, to close on exec. Call it first in a
// host's main, or what a shell or CI runner left open ends up in children that live for weeks.
func CloseInheritedFDs() error {
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EINVAL {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return fmt.Errorf("cannot list open files: %v", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
