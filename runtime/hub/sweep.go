package hub

import (
	"runtime/debug"
	"time"
)

var pingFrame = []byte{opPing, 0}

// sweepChunk is how many connections are copied at a time, so that an upgrade never waits for a whole sweep.
const sweepChunk = 1024

// runSweeper keeps the hub's clock and every timeout of every connection: one timer for all of them.
func (h *Hub) runSweeper() {
	tick := time.NewTicker(h.o.SweepEvery)
	defer tick.Stop()
	chunk := make([]*Conn, 0, sweepChunk)
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			h.clock.Store(now.UnixMilli())
			h.sweep(now, chunk)
			h.tidy()
		}
	}
}

// A rush of at least this many connections is tidied up after, once this many sweeps have seen no new one.
const (
	rushConns  = 1000
	rushSweeps = 3
)

// rush is the sweeper's view of how many connections come.
type rush struct {
	seen, tidied uint64 // of Hub.upgrades
	quiet        int
}

// tidy has the memory collected that a rush of logins has left behind: an idle process makes no garbage, so the collector would not
// come for two minutes, and until then the garbage counts as much as the connections.
func (h *Hub) tidy() {
	r, came := &h.rush, h.upgrades.Load()
	if came != r.seen {
		r.seen, r.quiet = came, 0
		return
	}
	if r.quiet++; r.quiet == rushSweeps && came-r.tidied >= rushConns {
		r.tidied = came
		h.spawn(debug.FreeOSMemory)
	}
}

// sweep looks at every connection once. One that moves to another slot meanwhile may be seen twice or wait for the next.
func (h *Hub) sweep(now time.Time, chunk []*Conn) {
	for at := 0; ; at += sweepChunk {
		h.connsMu.Lock()
		chunk = chunk[:0]
		if at < len(h.conns) {
			chunk = append(chunk, h.conns[at:min(at+sweepChunk, len(h.conns))]...)
		}
		h.connsMu.Unlock()
		for i, c := range chunk {
			c.sweep(now)
			chunk[i] = nil
		}
		if len(chunk) < sweepChunk {
			return
		}
	}
}

func (c *Conn) sweep(now time.Time) {
	ms := now.UnixMilli()
	if at := c.killAt.Load(); at != 0 && ms >= at {
		c.kill()
		return
	}
	if d := c.expiry.Load(); d != nil && !now.Before(d.at) {
		c.Close(d.code, d.reason)
		return
	}
	o := &c.hub.o
	silent := ms - c.heard.Load()
	switch {
	case silent >= o.IdleTimeout.Milliseconds():
		c.Close(CloseIdle, "nothing heard for too long")
	case c.stalled(ms):
		c.settle(true, nil)
	case silent >= o.PingInterval.Milliseconds() && ms-c.pinged >= o.PingInterval.Milliseconds():
		c.pinged = ms
		c.Send(pingFrame)
	}
}

// stalled reports a client that keeps talking, or is pinged, but takes nothing of what waits for it.
func (c *Conn) stalled(ms int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining && c.state == connOpen && ms-c.progress >= c.hub.o.IdleTimeout.Milliseconds()
}
