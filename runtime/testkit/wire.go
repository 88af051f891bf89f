package testkit

import (
	"net"
	"sync"
	"testing"
)

// Wire passes TCP connections on to an address. It can be cut, and can hold up what passes, as a frozen peer does.
type Wire struct {
	Addr string // host:port where it listens
	to   string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	free  chan struct{} // closed unless it is held
}

// NewWire leads from a new address of loopback to another one, until the test ends.
func NewWire(t testing.TB, to string) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{Addr: l.Addr().String(), to: to, free: make(chan struct{})}
	close(w.free)
	var work sync.WaitGroup
	work.Go(func() { w.accept(l, &work) })
	t.Cleanup(func() {
		l.Close()
		w.Cut(true)
		w.Hold(false)
		work.Wait()
	})
	return w
}

func (w *Wire) accept(l net.Listener, work *sync.WaitGroup) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			from.Close()
			continue
		}
		if !w.keep(from, to) {
			continue
		}
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			work.Go(func() {
				w.pass(way[0], way[1])
				way[0].Close()
				way[1].Close()
			})
		}
	}
}

// pass copies until either side ends.
func (w *Wire) pass(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		free := w.free
		w.mu.Unlock()
		<-free
		if _, failed := to.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

// keep closes the connections and reports false while the wire is cut.
func (w *Wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, conns...)
	if w.cut {
		w.closeLocked()
	}
	return !w.cut
}

func (w *Wire) closeLocked() {
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// Cut cuts the wire with what is under way, or lets connections through again.
func (w *Wire) Cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		w.closeLocked()
	}
}

// Hold keeps back all that is sent from now on, also on new connections, or lets it through.
func (w *Wire) Hold(hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.free:
		if hold {
			w.free = make(chan struct{})
		}
	default:
		if !hold {
			close(w.free)
		}
	}
}
