package hub

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchRead is what every socket is watched for: that there is more to read, the peer's end included. It is told once each time.
const watchRead = unix.EPOLLIN | unix.EPOLLET

// poller tells the sockets when they can be read. While many talk it keeps a pace: what comes within it is told in one go, and the
// process wakes up for all of it once. What comes alone is told at once.
type poller struct {
	fd   int // an epoll
	bell int // an eventfd that ends run

	readers chan func()  // what a reader that has time runs
	spare   atomic.Int32 // readers that wait
	done    chan struct{}

	mu      sync.Mutex
	sockets []*socket // by descriptor
	closed  bool
}

// maxSpare is how many readers stay for others when their clients have nothing more to say. A new one's stack has to grow with its
// first message.
const maxSpare = 32

// start runs f on a reader, a new one if none has time.
func (p *poller) start(f func()) {
	select {
	case p.readers <- f:
	default:
		go p.read(f)
	}
}

func (p *poller) read(f func()) {
	for {
		f()
		if p.spare.Add(1) > maxSpare {
			p.spare.Add(-1)
			return
		}
		select {
		case f = <-p.readers:
			p.spare.Add(-1)
		case <-p.done:
			return
		}
	}
}

// pace is how long what a client sends waits at most, while many talk, until it is read.
const pace = 4 * time.Millisecond

// pollEvents is how many sockets are told in one go.
const pollEvents = 256

// startPoller returns the hub's poller, made for its first socket.
func (h *Hub) startPoller() (*poller, error) {
	h.pollerMu.Lock()
	defer h.pollerMu.Unlock()
	if h.poller != nil {
		return h.poller, nil
	}
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	if !h.spawn(p.run) {
		p.release()
		return nil, net.ErrClosed
	}
	h.poller = p
	return p, nil
}

// endPoller comes when nothing can be spawned any more, and so no poller be made.
func (h *Hub) endPoller() {
	h.pollerMu.Lock()
	defer h.pollerMu.Unlock()
	if h.poller != nil {
		h.poller.close()
	}
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch connections: %v", os.NewSyscallError("epoll_create", err))
	}
	p := &poller{fd: fd, readers: make(chan func()), done: make(chan struct{})}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		err = os.NewSyscallError("eventfd", err)
	} else {
		err = p.control(unix.EPOLL_CTL_ADD, p.bell, unix.EPOLLIN)
	}
	if err != nil {
		p.release()
		return nil, fmt.Errorf("cannot watch connections: %v", err)
	}
	return p, nil
}

// run tells the sockets until close.
func (p *poller) run() {
	defer p.release()
	events := make([]unix.EpollEvent, pollEvents)
	socks := make([]*socket, pollEvents)
	last := time.Time{}
	for {
		n := p.await(events)
		now := time.Now()
		if !p.tell(events[:n], socks) {
			return
		}
		time.Sleep(rest(n, now.Sub(last)) - time.Since(now))
		last = now
	}
}

// rest is how long after n events nothing is read, if it was quiet for some time before them.
func rest(n int, quiet time.Duration) time.Duration {
	switch {
	case n == pollEvents: // there are more
		return 0
	case n > 1 || quiet < pace/2:
		return pace
	}
	return 0
}

// await returns events as soon as there are any.
func (p *poller) await(events []unix.EpollEvent) int {
	for {
		if n := p.look(events); n > 0 {
			return n
		}
		if n, err := unix.EpollWait(p.fd, events, -1); err == nil {
			return n
		}
	}
}

// look returns the events that are there. Like a socket's, this call does not wait.
func (p *poller) look(events []unix.EpollEvent) int {
	n, _, err := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), 0, 0, 0)
	if err != 0 {
		return 0
	}
	return int(n)
}

// tell reports false once the bell has rung. An event for a descriptor that somebody else has by now makes the new one look in vain.
func (p *poller) tell(events []unix.EpollEvent, socks []*socket) bool {
	p.mu.Lock()
	for i, e := range events {
		socks[i] = nil
		if int(e.Fd) < len(p.sockets) {
			socks[i] = p.sockets[e.Fd]
		}
	}
	closed := p.closed
	p.mu.Unlock()
	for i, s := range socks[:len(events)] {
		if s != nil {
			s.stir(events[i].Events)
		}
	}
	return !closed
}

func (p *poller) add(s *socket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	if err := p.control(unix.EPOLL_CTL_ADD, s.fd, watchRead); err != nil {
		return err
	}
	for len(p.sockets) <= s.fd {
		p.sockets = append(p.sockets, nil)
	}
	p.sockets[s.fd] = s
	return nil
}

// remove has to come before the descriptor is closed.
func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets[fd] = nil
	if !p.closed {
		_ = p.control(unix.EPOLL_CTL_DEL, fd, 0) // closing it does the same
	}
}

// watch changes what a descriptor is watched for.
func (p *poller) watch(fd int, events uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	return p.control(unix.EPOLL_CTL_MOD, fd, events)
}

func (p *poller) control(op, fd int, events uint32) error {
	err := unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

// close ends run. Every socket is to be closed before. Later calls do nothing.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.done)
	var one [8]byte
	one[0] = 1
	_, _ = unix.Write(p.bell, one[:]) // it has room for the one time that this is called
}

func (p *poller) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	unix.Close(p.fd)
	unix.Close(p.bell)
}
