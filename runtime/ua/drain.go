package ua

import (
	"math/rand/v2"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
)

const (
	lookAgain   = 250 * time.Millisecond // for connections that came after the drain began
	maxCatchUp  = 20 * time.Millisecond  // of a late timer: more would be a burst
	jitterShare = 0.25                   // of the interval, either way
)

// drain tells connections one after the other to go elsewhere, until it is cancelled: those that come late, through a slot
// just swapped, are told too. Its goroutine owns everything but the channels.
type drain struct {
	srv      *Server
	interval time.Duration // between two notices, 0: all at once
	deadline time.Time     // zero: none
	message  string
	cancel   chan struct{}
	over     chan struct{} // the goroutine has ended

	todo    []*session
	next    time.Time // when the next notice is due
	leaving []leaver  // told and within their grace, oldest first
}

type leaver struct {
	session *session
	until   time.Time
}

// Drain tells every client to reconnect, rate of them a second (0: all at once) with jitter, closes what has not moved within
// its grace with 1012, and after deadline (0: none) all that is left. It returns at once with the number of connections; a drain
// that runs already is replaced.
func (s *Server) Drain(rate float64, deadline time.Duration, message string) int {
	s.CancelDrain()
	d := &drain{srv: s, message: message, cancel: make(chan struct{}), over: make(chan struct{})}
	now := time.Now()
	d.next = now
	if rate > 0 {
		d.interval = time.Duration(float64(time.Second) / rate)
	}
	if deadline > 0 {
		d.deadline = now.Add(deadline)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	if s.drain != nil { // another caller was quicker: one drain is enough
		return len(s.sessions)
	}
	s.drain = d
	go d.run() // CancelDrain waits for it
	return len(s.sessions)
}

// CancelDrain stops a drain and waits until it has stopped. Clients that were told already leave or stay as they like.
func (s *Server) CancelDrain() {
	s.mu.Lock()
	d := s.drain
	s.drain = nil
	s.mu.Unlock()
	if d == nil {
		return
	}
	close(d.cancel)
	<-d.over
	for _, c := range s.all() {
		c.setTold(false)
	}
}

// Draining reports whether a drain runs. It goes on when all are gone, for those that come late.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain != nil
}

func (d *drain) run() {
	defer close(d.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.cancel:
			return
		case now := <-timer.C:
			timer.Reset(max(0, d.step(now).Sub(now)))
		}
	}
}

// step does what is due and returns when to come back.
func (d *drain) step(now time.Time) time.Time {
	if !d.deadline.IsZero() && !now.Before(d.deadline) {
		d.closeAll()
		return now.Add(lookAgain)
	}
	d.closeOverdue(now)
	again := d.tellDue(now)
	if len(d.leaving) > 0 && d.leaving[0].until.Before(again) {
		again = d.leaving[0].until
	}
	if !d.deadline.IsZero() && d.deadline.Before(again) {
		again = d.deadline
	}
	return again
}

// tellDue tells those whose turn has come and returns when the next turn is.
func (d *drain) tellDue(now time.Time) time.Time {
	if earliest := now.Add(-maxCatchUp); d.next.Before(earliest) {
		d.next = earliest
	}
	for !d.next.After(now) {
		c := d.pick()
		if c == nil {
			return now.Add(lookAgain)
		}
		d.tell(c, now)
		d.next = d.next.Add(jitter(d.interval))
	}
	return d.next
}

// pick takes the next session that was not told. Those not logged in wait: a notice before the welcome means nothing to them.
func (d *drain) pick() *session {
	for range 2 {
		for len(d.todo) > 0 {
			c := d.todo[len(d.todo)-1]
			d.todo = d.todo[:len(d.todo)-1]
			if c.setTold(true) {
				return c
			}
		}
		d.todo = d.srv.all()
	}
	return nil
}

func (d *drain) tell(c *session, now time.Time) {
	d.srv.counters.drained.Add(1)
	if !d.srv.proto.Seamless() {
		c.restart(d.message)
		return
	}
	grace := d.srv.opts.Grace
	c.reply(Reply{Kind: Moving, Text: d.message, Grace: grace})
	d.leaving = append(d.leaving, leaver{c, now.Add(grace)})
}

// closeOverdue ends the grace of those that are still there.
func (d *drain) closeOverdue(now time.Time) {
	for len(d.leaving) > 0 && !now.Before(d.leaving[0].until) {
		d.leaving[0].session.restart(d.message)
		d.leaving = d.leaving[1:]
	}
}

func (d *drain) closeAll() {
	d.leaving, d.todo = nil, nil
	for _, c := range d.srv.all() {
		untold := c.setTold(true)
		if c.restart(d.message) && untold {
			d.srv.counters.drained.Add(1)
		}
	}
}

func jitter(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 - jitterShare + 2*jitterShare*rand.Float64()))
}

// setTold marks a logged-in session as told to move, or not; it reports whether that changed.
func (c *session) setTold(told bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.attached || c.ending != nil || c.told == told || isDone(c.conn) {
		return false
	}
	c.told = told
	return true
}

func isDone(conn *hub.Conn) bool {
	select {
	case <-conn.Done():
		return true
	default:
		return false
	}
}
