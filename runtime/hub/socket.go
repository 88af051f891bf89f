package hub

import (
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
	later    func() // what reads on when there is something
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
		n, err := transfer(syscall.SYS_RECVFROM, s.fd, p, 0)
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

// readLater has f called, in a goroutine of its own, when there is something to read or the socket is closed. It returns false, and f
// will not be called, if that is so already.
func (s *socket) readLater(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 || s.deaf {
		return false
	}
	if s.readable {
		var one [1]byte
		if _, err := transfer(syscall.SYS_RECVFROM, s.fd, one[:], syscall.MSG_PEEK); err != syscall.EAGAIN {
			return false
		}
		s.readable = false
	}
	s.later = f
	return true
}

// wakeLocked calls whoever wants to read later.
func (s *socket) wakeLocked() {
	if s.later != nil {
		s.poller.start(s.later)
		s.later = nil
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
	n, err := transfer(syscall.SYS_SENDTO, s.fd, p, syscall.MSG_NOSIGNAL)
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
		s.wakeLocked()
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
	s.wakeLocked()
	s.stirred.Broadcast()
	return os.NewSyscallError("close", err)
}

// transfer is send(2) or recv(2) without waiting and without the scheduler.
func transfer(call uintptr, fd int, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|flags, 0, 0)
		if err != syscall.EINTR {
			return int(n), err
		}
	}
}
