package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocket is the longest path a unix socket may have.
	maxSocket = 107
	// spareFiles is how many descriptors clients leave to what the process itself opens: for a control plane that adopts it, for the
	// database and the bus when they come back.
	spareFiles = 16
	// lookForRoom is how often a process at its limit looks whether it may take a client.
	lookForRoom = 20 * time.Millisecond
)

// socket is a listening unix socket under its final name.
type socket struct {
	net.Listener
	path   string
	dev    uint64
	ino    uint64
	closed chan struct{}
	close  func() error // once
}

// listen makes the socket under another name and renames it over the old one: whoever connects to the path reaches the dead
// predecessor's socket or this one, never none.
func listen(path string) (*socket, error) {
	made := path + "+"
	if len(made) > maxSocket {
		return nil, fmt.Errorf("cannot listen on %q: the path has %d bytes, at most %d are possible", path, len(path), maxSocket-1)
	}
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	l, err := net.Listen("unix", made)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name may be a successor's by then
	s := &socket{Listener: l, path: path, closed: make(chan struct{})}
	s.close = sync.OnceValue(func() error {
		close(s.closed)
		return l.Close()
	})
	if err := s.publish(made); err != nil {
		l.Close()
		os.Remove(made)
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	return s, nil
}

// Accept takes no client into the last descriptors: it waits in the socket's queue until there is room.
func (s *socket) Accept() (net.Conn, error) {
	for roomForClients() != nil {
		select {
		case <-s.closed:
			return nil, net.ErrClosed
		case <-time.After(lookForRoom):
		}
	}
	return s.Listener.Accept()
}

// Close ends Accept too.
func (s *socket) Close() error { return s.close() }

// roomForClients is an error when no client may be taken.
func roomForClients() error {
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) // cannot fail
	lowest, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("no file or connection can be opened, %d is the limit: %v", limit.Cur, err)
	}
	syscall.Close(lowest)
	if uint64(lowest+spareFiles) >= limit.Cur {
		return fmt.Errorf("no client is taken: all but %d open files are in use, %d is the limit", spareFiles, limit.Cur)
	}
	return nil
}

// publish lets everybody who may enter the directory connect: that is nginx's group and nobody else.
func (s *socket) publish(made string) error {
	if err := os.Chmod(made, 0o666); err != nil {
		return err
	}
	info, err := os.Stat(made)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino = st.Dev, st.Ino
	}
	return os.Rename(made, s.path)
}

// check reports whether the path still leads here.
func (s *socket) check() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return errors.New("the socket is gone")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (st.Dev != s.dev || st.Ino != s.ino) {
		return errors.New("the socket is another process's")
	}
	return nil
}

// remove takes the path away if it is still ours.
func (s *socket) remove() {
	if s.check() == nil {
		os.Remove(s.path)
	}
}
