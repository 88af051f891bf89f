package hub

import (
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func newFile(fd int) *os.File { return os.NewFile(uintptr(fd), "socket") }

// pipe is a connection over net.Pipe, for what synctest's clock has to drive; frames are what arrives at the client.
func pipe(t *testing.T, h *Hub) (c *Conn, frames chan []byte) {
	t.Helper()
	server, client := net.Pipe()
	c = testConn(t, h, server)
	h.remember(c)
	frames = make(chan []byte, 100)
	go func() {
		defer close(frames)
		for {
			buf := make([]byte, 4096)
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			frames <- buf[:n]
		}
	}()
	return c, frames
}

func TestSweep_pingsThenClosesTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		start := time.Now()
		c, frames := pipe(t, h)
		for range 2 {
			if f := <-frames; f[0] != opPing {
				t.Fatalf("got %x, want a ping", f)
			}
		}
		if d := time.Since(start); d < 59*time.Second || d > 62*time.Second {
			t.Errorf("second ping after %v", d)
		}
		if f := <-frames; f[0] != opClose || int(f[2])<<8|int(f[3]) != CloseIdle {
			t.Fatalf("got %x, want close %d", f, CloseIdle)
		}
		<-c.Done()
		if d := time.Since(start); d < 80*time.Second || d > 83*time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestSweep_readingCountsAsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		c, frames := pipe(t, h)
		for range 20 {
			time.Sleep(20 * time.Second)
			c.heard.Store(h.clock.Load())
		}
		if len(frames) != 0 {
			t.Errorf("a connection that talks got %x", <-frames)
		}
	})
}

func TestCloseAt_closesUnlessTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		late, lateFrames := pipe(t, h)
		late.CloseAt(time.Now().Add(10*time.Second), CloseUnauthorized, "no login")
		quick, quickFrames := pipe(t, h)
		quick.CloseAt(time.Now().Add(10*time.Second), CloseUnauthorized, "no login")
		quick.CloseAt(time.Time{}, 0, "")
		time.Sleep(12 * time.Second)
		if f := <-lateFrames; f[0] != opClose || int(f[2])<<8|int(f[3]) != CloseUnauthorized {
			t.Errorf("got %x", f)
		}
		if len(quickFrames) != 0 {
			t.Errorf("closed all the same: %x", <-quickFrames)
		}
	})
}

func TestSweep_cutsAClientThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		server, client := net.Pipe()
		defer client.Close()
		c := testConn(t, h, server)
		h.remember(c)
		c.Send(AppendText(nil, []byte("never read")))
		for range 9 { // it keeps talking
			time.Sleep(10 * time.Second)
			c.heard.Store(h.clock.Load())
		}
		<-c.Done()
		if h.Stats().Cut != 1 {
			t.Errorf("cut %d", h.Stats().Cut)
		}
	})
}

func TestTidy_onceAfterARush(t *testing.T) {
	h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0), SweepEvery: time.Hour}) // this test sweeps
	defer h.Close()
	look := func(sweeps int) uint64 {
		for range sweeps {
			h.tidy()
		}
		return h.rush.tidied
	}
	h.upgrades.Add(rushConns - 1)
	if at := look(2 * rushSweeps); at != 0 {
		t.Fatalf("tidied after %d connections", at)
	}
	h.upgrades.Add(1)
	if at := look(rushSweeps); at != 0 {
		t.Fatal("tidied while they come")
	}
	if at := look(1); at != rushConns {
		t.Fatalf("tidied at %d connections, want %d", at, rushConns)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	look(100)
	if runtime.ReadMemStats(&after); after.NumForcedGC > before.NumForcedGC+1 { // the one before may still run
		t.Error("tidied again, with nobody new")
	}
}
