package hub

import (
	"bytes"
	"net"
	"syscall"
	"testing"
)

// corkable returns a connection over a socket pair and the descriptor of its far end, which does not block.
func corkable(t *testing.T) (*Conn, int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
	c := testConn(t, h, fileConn(t, fds[0]))
	t.Cleanup(func() {
		c.kill()
		h.Close()
		syscall.Close(fds[1])
	})
	return c, fds[1]
}

// readOnce returns what one read gives, nothing if there is nothing.
func readOnce(t *testing.T, fd int) []byte {
	t.Helper()
	buf := make([]byte, 2*maxHeldBytes)
	n, err := syscall.Read(fd, buf)
	if err == syscall.EAGAIN {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestCork_sendsAllAtOnceAndInOrder(t *testing.T) {
	c, far := corkable(t)
	c.Cork()
	c.Send(AppendText(nil, []byte("one")))
	c.Send(AppendText(nil, []byte("two")))
	if got := readOnce(t, far); got != nil {
		t.Fatalf("%q is out of a corked connection", got)
	}
	c.Uncork()
	want := AppendText(AppendText(nil, []byte("one")), []byte("two"))
	if got := readOnce(t, far); !bytes.Equal(got, want) {
		t.Fatalf("one read gives %q, want %q", got, want)
	}
	c.Send(AppendText(nil, []byte("three")))
	if got := readOnce(t, far); !bytes.Equal(got, AppendText(nil, []byte("three"))) {
		t.Fatalf("after the uncorking comes %q", got)
	}
}

func TestCork_holdsNoMoreThanItsBound(t *testing.T) {
	c, far := corkable(t)
	first, large := AppendText(nil, []byte("first")), AppendText(nil, bytes.Repeat([]byte("x"), maxHeldBytes))
	c.Cork()
	c.Send(first)
	c.Send(large)
	want := append(bytes.Clone(first), large...)
	var got []byte
	for len(got) < len(want) {
		got = append(got, readOnce(t, far)...)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("what was held back did not come before what was too much to hold")
	}
	c.Uncork()
}

func TestCork_closeComesLast(t *testing.T) {
	c, far := corkable(t)
	c.Cork()
	c.Send(AppendText(nil, []byte("bye")))
	c.Close(CloseNormal, "")
	c.Send(AppendText(nil, []byte("too late")))
	want := appendClose(AppendText(nil, []byte("bye")), CloseNormal, "")
	if got := readOnce(t, far); !bytes.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

// A client that says something and leaves at once has its answer all the same.
func TestCork_endOfTheReaderSendsWhatIsHeld(t *testing.T) {
	c, far := corkable(t)
	c.Cork()
	c.Send(AppendText(nil, []byte("ack")))
	c.finish()
	if got := readOnce(t, far); !bytes.Equal(got, AppendText(nil, []byte("ack"))) {
		t.Fatalf("%q", got)
	}
	<-c.Done()
	c.Uncork() // comes too late, and does nothing
}

// The socket has room again and the drainer has not come to it yet: what is sent now still stands behind the rest of the frame.
func TestSend_waitsBehindTheRestOfAFrameThoughThereIsRoom(t *testing.T) {
	c, far := corkable(t)
	rest := AppendText(nil, []byte("half of this is out"))[9:]
	pong, answer := []byte{0x8A, 0}, AppendText(nil, []byte("answer"))
	c.mu.Lock()
	c.draining, c.queue, c.queued = true, net.Buffers{rest}, len(rest)
	c.mu.Unlock()
	c.control(pong)
	c.Cork()
	c.Send(answer)
	c.Uncork()
	if got := readOnce(t, far); got != nil {
		t.Fatalf("%q got past what waits", got)
	}
	c.drain()
	want := append(append(bytes.Clone(rest), pong...), answer...)
	var got []byte
	for len(got) < len(want) {
		got = append(got, readOnce(t, far)...)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}
