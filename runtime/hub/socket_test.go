package hub

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testSocket returns a socket of a hub and the descriptor of its far end, which does not block.
func testSocket(t *testing.T) (*socket, int) {
	t.Helper()
	c, far := corkable(t)
	return c.sock, far
}

// inBackground runs f and returns a channel that gets its error.
func inBackground(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func within(t *testing.T, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits")
		return nil
	}
}

func TestSocket_readsWhatComesAndTheEnd(t *testing.T) {
	s, far := testSocket(t)
	buf := make([]byte, 100)
	for _, text := range []string{"one", "two"} {
		done := inBackground(func() error {
			n, err := s.Read(buf)
			if got := string(buf[:n]); err == nil && got != text {
				err = errors.New(got)
			}
			return err
		})
		time.Sleep(20 * time.Millisecond) // it waits by now; if it does not, it must work all the same
		must(t, second(syscall.Write(far, []byte(text))))
		must(t, within(t, done))
	}
	must(t, second(syscall.Write(far, []byte("bye"))))
	must(t, syscall.Shutdown(far, syscall.SHUT_WR))
	got, err := io.ReadAll(s) // the end was reported together with the bytes
	if err != nil || string(got) != "bye" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSocket_writeWaitsForRoom(t *testing.T) {
	s, far := testSocket(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	n, err := s.writeNow(data)
	if err != nil || n == 0 || n == len(data) {
		t.Fatalf("%d bytes written at once, %v", n, err)
	}
	if again, err := s.writeNow(data[n:]); err != nil || again != 0 {
		t.Fatalf("a full socket took %d bytes, %v", again, err)
	}
	done := inBackground(func() error { return second(s.Write(data[n:])) })
	must(t, unix.SetNonblock(far, false))
	got := make([]byte, len(data))
	if _, err := io.ReadFull(reader(far), got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("not what was written arrived: %v", err)
	}
	must(t, within(t, done))
}

type reader int

func (fd reader) Read(p []byte) (int, error) { return syscall.Read(int(fd), p) }

func TestSocket_closeEndsWhoWaits(t *testing.T) {
	s, _ := testSocket(t)
	reading := inBackground(func() error { return second(s.Read(make([]byte, 1))) })
	writing := inBackground(func() error { return second(s.Write(make([]byte, 8<<20))) })
	eventually(t, "the wait for room", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.readable
	})
	must(t, s.Close())
	for _, done := range []chan error{reading, writing} {
		if err := within(t, done); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
	if err := s.CloseWrite(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("CloseWrite after Close: %v", err)
	}
}

func TestSocket_readLaterTellsOnce(t *testing.T) {
	s, far := testSocket(t)
	called := make(chan error, 9)
	f := func() { called <- nil }
	if !s.readLater(f) {
		t.Fatal("there is nothing to read, and it does not wait")
	}
	must(t, second(syscall.Write(far, []byte("one"))))
	must(t, within(t, called))
	if s.readLater(f) {
		t.Fatal("there is something to read, and it waits")
	}
	must(t, second(s.Read(make([]byte, 9))))
	if !s.readLater(f) {
		t.Fatal("there is nothing more to read, and it does not wait")
	}
	must(t, s.Close())
	must(t, within(t, called))
	if s.readLater(f) || len(called) > 0 {
		t.Error("a closed socket calls somebody")
	}
}

func TestSocket_readDeadlineEndsReading(t *testing.T) {
	s, _ := testSocket(t)
	done := inBackground(func() error { return second(s.Read(make([]byte, 1))) })
	must(t, s.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if err := within(t, done); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after the deadline: %v", err)
	}
}

// On a unix socket there is more room after each message that the peer reads. Nobody must be woken for that.
func TestSocket_isNotStirredByWhatThePeerReads(t *testing.T) {
	s, far := testSocket(t)
	stirred := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.readable || s.writable
	}
	s.mu.Lock()
	s.readable = false
	s.mu.Unlock()
	for range 10 {
		must(t, second(s.writeNow([]byte("x"))))
		if got := readOnce(t, far); string(got) != "x" {
			t.Fatalf("%q", got)
		}
	}
	time.Sleep(30 * time.Millisecond)
	if stirred() {
		t.Error("the reader was woken")
	}
	must(t, second(syscall.Write(far, []byte("y"))))
	eventually(t, "something to read", stirred)
}

// While many talk, what they say is read in bursts; what comes alone is read at once.
func TestRest_onlyWhileManyTalk(t *testing.T) {
	for _, c := range []struct {
		n     int
		quiet time.Duration
		want  time.Duration
	}{
		{1, time.Second, 0}, {1, pace / 2, 0}, {1, pace/2 - 1, pace}, {2, time.Second, pace}, {pollEvents, time.Second, 0},
	} {
		if got := rest(c.n, c.quiet); got != c.want {
			t.Errorf("after %d events and %v of quiet before them: a rest of %v, want %v", c.n, c.quiet, got, c.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }
