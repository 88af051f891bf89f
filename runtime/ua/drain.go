package ua

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
)

const (
	lookAgain   = 250 * time.Millisecond // for connections that came after the drain began
	maxCatchUp  = 20 * time.Millisecond  // of a late timer: more would be a burst
	jitterShare = 0.25                   // of the interval, either way
)

// DrainOptions say whom a drain moves, and how fast.
type DrainOptions struct {
	Rate     float64       // clients told a second, with jitter; 0: all at once
	Deadline time.Duration // after this what is left is closed with 1012; 0: none
	Message  string        // for the clients
	Tenants  []string      // only theirs; none: everybody's
	Except   bool          // everybody's but theirs
	Once     bool          // who is connected when it begins; who comes later stays
	Paused   bool          // nobody is told until another call says otherwise; the deadline holds
}

// pace is what may change while a drain runs.
type pace struct {
	interval time.Duration // between two notices, 0: all at once
	deadline time.Time     // zero: none
	paused   bool
}

func (o DrainOptions) pace(now time.Time) pace {
	p := pace{paused: o.Paused}
	if o.Rate > 0 {
		p.interval = time.Duration(float64(time.Second) / o.Rate)
	}
	if o.Deadline > 0 {
		p.deadline = now.Add(o.Deadline)
	}
	return p
}

// drain tells connections one after the other to go elsewhere, until it is cancelled: those that come late, through a slot
// just swapped, are told too. Its goroutine owns everything but the channels and what Server.mu guards.
type drain struct {
	srv     *Server
	message string
	tenants []string
	except  bool
	once    bool
	cancel  chan struct{}
	over    chan struct{} // the goroutine has ended
	changed chan struct{} // wakes the goroutine for another pace

	wanted pace // guarded by Server.mu

	pace
	todo    []*session
	next    time.Time // when the next notice is due
	leaving []leaver  // told and within their grace, oldest first
}

type leaver struct {
	session *session
	until   time.Time
}

// Drain tells clients to reconnect, closes what has not moved within its grace with 1012, and after the deadline all that is left.
// It returns at once with the number of connections concerned. A drain that runs already goes on at the new pace when it is about
// the same connections, and is replaced otherwise.
func (s *Server) Drain(o DrainOptions) int {
	now := time.Now()
	if n, ok := s.changePace(o, now); ok {
		return n
	}
	s.CancelDrain()
	d := &drain{
		srv: s, message: o.Message, tenants: slices.Clone(o.Tenants), except: o.Except, once: o.Once, wanted: o.pace(now), next: now,
		cancel: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	d.todo = d.selected()
	n := len(d.todo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	if s.drain != nil { // another caller was quicker: one drain is enough
		return n
	}
	s.drain = d
	go d.run() // CancelDrain waits for it
	return n
}

// changePace reports false when no drain of these connections runs.
func (s *Server) changePace(o DrainOptions, now time.Time) (connections int, ok bool) {
	s.mu.Lock()
	d := s.drain
	if d == nil || d.once || o.Once || d.message != o.Message || d.except != o.Except || !slices.Equal(d.tenants, o.Tenants) {
		s.mu.Unlock()
		return 0, false
	}
	d.wanted = o.pace(now)
	s.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return len(d.selected()), true
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

// selected returns the connections of this moment that the drain is about.
func (d *drain) selected() []*session {
	all := d.srv.all()
	if len(d.tenants) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(c *session) bool { return slices.Contains(d.tenants, c.tenant) == d.except })
}

func (d *drain) run() {
	defer close(d.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.cancel:
			return
		case <-d.changed:
			timer.Reset(0)
		case now := <-timer.C:
			again, more := d.step(now)
			if !more {
				d.end()
				return
			}
			timer.Reset(max(0, again.Sub(now)))
		}
	}
}

// end lets go of a drain that has nobody left to tell.
func (d *drain) end() {
	d.srv.mu.Lock()
	defer d.srv.mu.Unlock()
	if d.srv.drain == d {
		d.srv.drain = nil
	}
}

// step does what is due and returns when to come back, and whether at all.
func (d *drain) step(now time.Time) (again time.Time, more bool) {
	d.srv.mu.Lock()
	d.pace = d.wanted
	d.srv.mu.Unlock()
	if !d.deadline.IsZero() && !now.Before(d.deadline) {
		d.closeAll()
		return now.Add(lookAgain), !d.once
	}
	d.closeOverdue(now)
	again = now.Add(lookAgain)
	if !d.paused {
		again = d.tellDue(now)
	}
	if d.once && len(d.todo) == 0 && len(d.leaving) == 0 {
		return again, false
	}
	if len(d.leaving) > 0 && d.leaving[0].until.Before(again) {
		again = d.leaving[0].until
	}
	if !d.deadline.IsZero() && d.deadline.Before(again) {
		again = d.deadline
	}
	return again, true
}

// tellDue tells those whose turn has come and returns when the next turn is.
func (d *drain) tellDue(now time.Time) time.Time {
	if earliest := now.Add(-maxCatchUp); d.next.Before(earliest) {
		d.next = earliest
	}
	if latest := now.Add(d.interval * 2); d.next.After(latest) {
		d.next = latest // the pace was slower before
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
		if d.once {
			return nil
		}
		d.todo = d.selected()
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
	left := d.selected()
	if d.once {
		left = d.todo
		for _, l := range d.leaving {
			left = append(left, l.session)
		}
	}
	d.leaving, d.todo = nil, nil
	for _, c := range left {
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
	same := !c.attached || c.ending != nil || c.told == told || isDone(c.conn)
	if !same {
		c.told = told
	}
	c.mu.Unlock()
	if !same {
		c.srv.svc.Moving(c, told)
	}
	return !same
}

func isDone(conn *hub.Conn) bool {
	select {
	case <-conn.Done():
		return true
	default:
		return false
	}
}
