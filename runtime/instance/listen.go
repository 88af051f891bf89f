package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// maxSocket is the longest path a unix socket may have.
const maxSocket = 107

// socket is a listening unix socket under its final name.
type socket struct {
	net.Listener
	path string
	dev  uint64
	ino  uint64
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
	s := &socket{Listener: l, path: path}
	if err := s.publish(made); err != nil {
		l.Close()
		os.Remove(made)
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	return s, nil
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
