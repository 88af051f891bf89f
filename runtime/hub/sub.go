package hub

import (
	"context"
	"errors"
	"math"
	"net"
)

// sub is one connection in one room. It is either live (it gets the batches from liveAt on) or catching up: then pos is
// where it stands and one goroutine at most is bringing it forward.
type sub struct {
	conn  *Conn
	room  *room
	user  string
	slot  int    // in room.subs, under room.mu; -1 once removed
	epoch string // that pos is of

	// Under conn.mu, so that after a removal nothing of the room can follow.
	gone     bool
	liveAt   uint64
	pos      int64
	resynced int64 // hub clock of the last overflow
}

const notLive = math.MaxUint64

// errEvicted ends a join when hub, channel or connection went away under it.
var errEvicted = errors.New("cannot join: the channel or the connection has gone")

// Subscribe adds the connection to a channel. The frames that ack makes go out first; with a position that is still kept
// everything after it follows in order, then what is new. It returns an error, without having called ack, when the log is
// needed and cannot be read, or when the connection has ended. Subscribing again replaces the earlier subscription.
// One goroutine at a time may subscribe a connection.
func (h *Hub) Subscribe(ctx context.Context, c *Conn, user string, ch Channel, from *Position, ack func(Joined) []byte) error {
	r := h.enter(ch)
	joined, pos, err := r.begin(ctx, from)
	if err != nil {
		h.leave(r)
		return err
	}
	h.Unsubscribe(c, ch.Tenant, ch.ID)
	s := &sub{conn: c, room: r, user: user, slot: -1, epoch: joined.Epoch, liveAt: notLive, pos: pos}
	if !c.addSub(s) {
		h.leave(r)
		return net.ErrClosed
	}
	c.Send(ack(joined))
	if !r.add(s) {
		if c.removeSub(s) {
			r.remove(s)
		}
		return errEvicted
	}
	r.catchUp(s)
	return nil
}

// Unsubscribe removes the connection from a channel and reports whether it was in. Nothing of the channel is sent after
// it has returned.
func (h *Hub) Unsubscribe(c *Conn, tenant, channel string) bool {
	c.mu.Lock()
	for i, s := range c.subs {
		if s.room.ch.ID == channel && s.room.ch.Tenant == tenant {
			s.gone = true
			last := len(c.subs) - 1
			c.subs[i] = c.subs[last]
			c.subs[last] = nil
			c.subs = c.subs[:last]
			c.mu.Unlock()
			s.room.remove(s)
			return true
		}
	}
	c.mu.Unlock()
	return false
}

// Drop removes the connection from all its channels. The hub does so itself when a connection ends.
func (h *Hub) Drop(c *Conn) {
	c.mu.Lock()
	subs := c.subs
	c.subs = nil
	for _, s := range subs {
		s.gone = true
	}
	c.mu.Unlock()
	for _, s := range subs {
		s.room.remove(s)
	}
}

func (c *Conn) addSub(s *sub) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connOpen {
		return false
	}
	c.subs = append(c.subs, s)
	return true
}

// outcome of a delivery, for the worker to act on without the lock.
type outcome uint8

const (
	skipped outcome = iota
	delivered
	tooSlow
	broken
)

// deliver writes a batch to one live subscriber. One that has too much waiting is set back to catching up: what it misses
// waits in the ring and the log instead of in its queue. When that happens again too soon it is cut.
func (c *Conn) deliver(s *sub, b *batch) outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || b.n < s.liveAt || c.state != connOpen {
		return skipped
	}
	frames := b.framesFor(s.user)
	if c.queued > 0 && c.queued+len(frames) > c.hub.o.MaxPending {
		return c.overflowLocked(s)
	}
	s.pos = b.last
	if len(frames) == 0 {
		return skipped
	}
	if err := c.putLocked(frames, true); err != nil {
		return broken
	}
	return delivered
}

// resyncAgain is how soon, in milliseconds, a second overflow in the same room means that the client cannot keep up.
const resyncAgain = 30_000

func (c *Conn) overflowLocked(s *sub) outcome {
	now := c.hub.clock.Load()
	if !s.room.ch.logged() || (s.resynced != 0 && now-s.resynced < resyncAgain) {
		return tooSlow
	}
	s.resynced = now
	s.liveAt = notLive
	c.parked = append(c.parked, s)
	c.hub.stats.resyncs.Add(1)
	return skipped
}

// park reports that a subscriber cannot be brought forward now: it has gone, or too much waits for its connection, and
// then the drainer takes up the catching up.
func (c *Conn) park(s *sub) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || c.state != connOpen {
		return true
	}
	if c.queued > c.hub.o.MaxPending/2 {
		c.parked = append(c.parked, s)
		return true
	}
	return false
}

// sendMissed writes a part of what a subscriber missed and moves it forward.
func (c *Conn) sendMissed(s *sub, frames []byte, pos int64) {
	c.mu.Lock()
	if s.gone || c.state != connOpen {
		c.mu.Unlock()
		return
	}
	s.pos = pos
	var err error
	if len(frames) > 0 {
		err = c.putLocked(frames, true)
	}
	c.mu.Unlock()
	c.settle(false, err)
}
