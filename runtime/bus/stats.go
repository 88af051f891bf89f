package bus

import (
	"sync/atomic"
	"time"
)

// counters live as long as the bus, over all its connections.
type counters struct {
	linesIn, linesOut, bytesIn, bytesOut            atomic.Uint64
	envelopesIn, envelopesOut, refs, fragments      atomic.Uint64
	refused, malformed, dropped, rejected, connects atomic.Uint64
	lag                                             atomic.Int64
}

// Stats says how the bus does. Counts are since Open.
type Stats struct {
	Up       bool
	Link     string
	Server   string // connected to, empty while down
	Software string // the server's own words
	Nick     string // as the server knows us
	Detail   string // why the last connection ended, empty if none did
	MaxLine  int    // bytes of a delivered line on this connection
	Channels int    // IRC channels that we are on
	Queued   int    // bytes that wait for the server

	LinesIn, LinesOut         uint64
	BytesIn, BytesOut         uint64
	EnvelopesIn, EnvelopesOut uint64
	Refs                      uint64 // sent without their text
	Fragments                 uint64 // parts sent of envelopes that no line can hold
	Refused                   uint64 // lines without a valid HMAC
	Malformed                 uint64 // sealed lines or envelopes that cannot be read
	Dropped                   uint64 // envelopes not sent: down, queue full, too long
	Rejected                  uint64 // lines and joins that the server turned down
	Reconnects                uint64 // connections made after the first
	Lag                       time.Duration
}

// Stats returns the counters and the state of the connection that we speak on. Lag is of the last PING, sent every 1.5 s.
func (b *Bus) Stats() Stats {
	c := &b.count
	s := Stats{
		LinesIn: c.linesIn.Load(), LinesOut: c.linesOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		EnvelopesIn: c.envelopesIn.Load(), EnvelopesOut: c.envelopesOut.Load(), Refs: c.refs.Load(), Fragments: c.fragments.Load(),
		Refused: c.refused.Load(), Malformed: c.malformed.Load(), Dropped: c.dropped.Load(), Rejected: c.rejected.Load(),
		Lag: time.Duration(c.lag.Load()),
	}
	if n := c.connects.Load(); n > 1 {
		s.Reconnects = n - 1
	}
	n := b.out.Load()
	if n == nil {
		return s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Up, s.Link, s.Server, s.Software, s.Nick, s.Detail = n.up, n.link.Name, n.server, n.software, n.nick, n.detail
	s.MaxLine, s.Channels, s.Queued = n.lineLen, len(n.on), len(n.queue.data)
	return s
}
