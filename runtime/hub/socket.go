package hub

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a client's descriptor, taken away from package net, whose poller also watches for room to write: on a unix socket the
// kernel reports that whenever the peer has read something, and so would wake this process once more for each delivery.
//
// No system call on it waits, so the scheduler need not be told of them either: it would wake its monitor thread for each.
type socket struct {
	poller *poller

	mu       sync.Mutex
	fd       int  // used with mu held only, -1 once closed: by then the number may be another tenant's
	readable bool // until a read finds nothing
	writable bool // while somebody waits for room: there may be some
	deaf     bool // nothing more is read
	stirred  sync.Cond
}

// take makes nc's descriptor a socket of ours; nc is closed. A transport that has none is left as it is, and the result is nil.
func (h *Hub) take(nc net.Conn) (*socket, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, nil
	}
	defer nc.Close()
	p, err := h.startPoller()
	if err != nil {
		return nil, err
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("dup", dupErr)
	}
	s := &socket{poller: p, fd: fd, readable: true}
	s.stirred.L = &s.mu
	if err := p.add(s); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// Read waits until there is something to read. One goroutine at a time may read.
func (s *socket) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for !s.readable && !s.deaf && s.fd >= 0 {
			s.stirred.Wait()
		}
		switch {
		case s.fd < 0:
			return 0, net.ErrClosed
		case s.deaf:
			return 0, os.ErrDeadlineExceeded
		}
		n, err := transfer(syscall.SYS_RECVFROM, s.fd, p)
		switch {
		case err == syscall.EAGAIN:
			s.readable = false
		case err != 0:
			return 0, os.NewSyscallError("recv", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeNow writes what there is room for at once.
func (s *socket) writeNow(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(p)
}

func (s *socket) writeLocked(p []byte) (int, error) {
	if s.fd < 0 {
		return 0, net.ErrClosed
	}
	n, err := transfer(syscall.SYS_SENDTO, s.fd, p)
	switch {
	case err == syscall.EAGAIN:
		return 0, nil
	case err != 0:
		return 0, os.NewSyscallError("send", err)
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// Write waits until there was room for everything. One goroutine at a time may wait here.
func (s *socket) Write(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for written < len(p) {
		n, err := s.writeLocked(p[written:])
		if written += n; err == nil && n == 0 {
			err = s.awaitRoomLocked()
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (s *socket) awaitRoomLocked() error {
	s.writable = false
	if err := s.poller.watch(s.fd, watchRead|unix.EPOLLOUT); err != nil {
		return err
	}
	for !s.writable && s.fd >= 0 {
		s.stirred.Wait()
	}
	if s.fd < 0 {
		return net.ErrClosed
	}
	return s.poller.watch(s.fd, watchRead)
}

// stir notes what the poller has seen.
func (s *socket) stir(events uint32) {
	const ended = unix.EPOLLHUP | unix.EPOLLERR
	s.mu.Lock()
	if events&(watchRead|ended) != 0 {
		s.readable = true
	}
	if events&(unix.EPOLLOUT|ended) != 0 {
		s.writable = true
	}
	s.mu.Unlock()
	s.stirred.Broadcast()
}

// SetReadDeadline ends the reading at a time, for good.
func (s *socket) SetReadDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), func() {
		s.mu.Lock()
		s.deaf = true
		s.mu.Unlock()
		s.stirred.Broadcast()
	})
	return nil
}

// CloseWrite tells the peer that nothing more will come.
func (s *socket) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}

// Close ends whoever reads or waits for room.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	s.poller.remove(s.fd)
	err := unix.Close(s.fd)
	s.fd = -1
	s.stirred.Broadcast()
	return os.NewSyscallError("close", err)
}

// transfer is send(2) or recv(2) without waiting and without the scheduler.
func transfer(call uintptr, fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if err != syscall.EINTR {
			return int(n), err
		}
	}
}

// watchRead is what every socket is watched for: that there is more to read, or that the peer has ended. It is told once each time.
const watchRead = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// poller tells the sockets when they can be read. While many talk it keeps a pace: what comes within it is told in one go, and the
// process wakes up for all of it once. What comes alone is told at once.
type poller struct {
	fd   int // an epoll
	bell int // an eventfd that ends run

	mu      sync.Mutex
	sockets []*socket // by descriptor
	closed  bool
}

// pace is how long what a client sends waits at most, while many talk, until it is read.
const pace = 8 * time.Millisecond

// pollEvents is how many sockets are told in one go.
const pollEvents = 256

// startPoller returns the hub's poller, made for its first socket.
func (h *Hub) startPoller() (*poller, error) {
	h.pollerOnce.Do(func() {
		p, err := newPoller()
		if err == nil && !h.spawn(p.run) {
			p.release()
			err = net.ErrClosed
		}
		h.poller, h.pollerErr = p, err
	})
	return h.poller, h.pollerErr
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch connections: %v", os.NewSyscallError("epoll_create", err))
	}
	p := &poller{fd: fd}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.bell)})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch connections: %v", os.NewSyscallError("eventfd", err))
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

// close ends run. Every socket is to be closed before.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
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
