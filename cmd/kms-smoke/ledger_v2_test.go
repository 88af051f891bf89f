package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"
)

// keeper is a client of 2.0 in several channels that writes everything down: it resumes where it was, sends again what was not
// answered, and follows a drain by opening the new connection before it leaves the old one.
type keeper struct {
	user
	life
	book     *book
	name     string
	channels []string
	comes    bool // its memberships come and go

	mu      sync.Mutex
	asleep  chan struct{} // closed when it wakes; nil while it is awake
	lines   int
	current *line2            // where it sends; nil while there is none
	places  map[string]*place // by channel
	past    []*place          // those whose rest it was told is gone
	waiting []*sending        // unanswered, oldest first
	sent    int
	own     map[string][]string // ids of what it said and got acknowledged, by channel
}

// place is where a client is in a channel, and everything it has processed there across connections.
type place struct {
	who, channel string
	position
	base int64 // where the first subscription began
	cut  bool  // it was told that what comes next is gone
	got  []arrival
}

// line2 is one connection.
type line2 struct {
	n        int
	ws       *websocket.Conn
	welcomed bool
	leaving  bool // the server asked us to move
	over     bool
	left     bool                // we closed it
	asked    map[string]bool     // no answer to its sub yet
	subs     map[string]*stretch // subscribed
	resumed  map[string]position // what the sub under way asked for
}

func newKeeper(u user, b *book, name string, channels []string) *keeper {
	return &keeper{user: u, life: newLife(), book: b, name: name, channels: channels, places: map[string]*place{}, own: map[string][]string{}}
}

func (c *keeper) begin() { c.work.Go(c.connect) }

func (c *keeper) close() {
	c.mu.Lock()
	c.cancel()
	if c.current != nil {
		goodbye(c.current.ws)
		c.current.ws.Close()
	}
	c.mu.Unlock()
	c.work.Wait()
}

// connect opens a connection that becomes the current one, however often it takes.
func (c *keeper) connect() {
	for n := 0; c.ctx.Err() == nil; n++ {
		c.rested()
		ws, err := c.dial(c.ctx)
		if err == nil && c.serve(ws) {
			return // whoever ended it has seen to the next
		}
		if err != nil {
			refusedHandshake(c.book, c.name, err)
		}
		c.pause(n)
	}
}

// serve reads a connection to its end. False: it was never of use.
func (c *keeper) serve(ws *websocket.Conn) bool {
	defer ws.Close()
	l := c.hello(ws)
	over := make(chan struct{})
	defer close(over)
	c.work.Go(func() { // one that is not current ends with the client, too
		select {
		case <-c.ctx.Done():
			ws.Close()
		case <-over:
		}
	})
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			return c.ended(l, err)
		}
		var ops []op2
		if err := json.Unmarshal(data, &ops); err != nil {
			c.book.broken(violation{who: c.name, what: fmt.Sprintf("not an array of operations: %q", data)})
			continue
		}
		c.take(l, ops)
	}
}

func (c *keeper) hello(ws *websocket.Conn) *line2 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines++
	l := &line2{n: c.lines, ws: ws, asked: map[string]bool{}, subs: map[string]*stretch{}, resumed: map[string]position{}}
	ops := []op2{{Op: "hello", Token: c.token}}
	for _, channel := range c.channels {
		ops = append(ops, c.sub(l, channel))
	}
	l.write(ops...)
	return l
}

func (c *keeper) sub(l *line2, channel string) op2 {
	o := op2{Op: "sub", Ch: channel}
	l.asked[channel] = true
	delete(l.resumed, channel)
	if p := c.places[channel]; p != nil {
		at := p.position
		o.Resume, l.resumed[channel] = &at, at
	}
	return o
}

// ended writes down the end of a connection; the current one is replaced unless that is under way.
func (c *keeper) ended(l *line2, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.over = true
	if c.ctx.Err() != nil {
		return true
	}
	for _, s := range l.subs {
		c.book.leave(s)
	}
	if !l.left {
		c.book.closed(c.name, c.version, l.n, err, l.welcomed)
	}
	if c.current != l {
		return l.left // else it did not get as far: connect tries again
	}
	c.current = nil
	if !l.leaving {
		c.work.Go(c.connect)
	}
	return true
}

func (c *keeper) take(l *line2, ops []op2) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range ops {
		switch o.Op {
		case "welcome":
			l.welcomed = true
		case "subbed":
			c.subbed(l, o)
		case "msg", "sys", "edit", "del":
			c.arrived(l, o)
		case "ack":
			c.book.acknowledgedAs(c.name, o)
			c.answered(o.ID, func(s *sending) {
				s.acked, s.epoch, s.seq = time.Now(), o.Epoch, o.Seq
				if s.kind == "" && o.Seq > 0 {
					c.own[s.channel] = append(c.own[s.channel], s.id)
				}
			})
		case "nack":
			c.refused(l, o)
		case "evicted":
			c.evicted(l, o)
		case "drain":
			if !l.leaving {
				l.leaving = true
				c.work.Go(c.connect)
			}
		}
	}
}

func (c *keeper) subbed(l *line2, o op2) {
	base := o.Seq
	if at, asked := l.resumed[o.Ch]; asked {
		base = at.Seq
		if !o.Resumed || o.Truncated != nil || o.Epoch != at.Epoch {
			base = o.Seq
			c.truncated(l, at, o)
		}
	}
	if c.places[o.Ch] == nil && o.Ch != unlogged {
		c.places[o.Ch] = &place{who: c.name, channel: o.Ch, position: position{o.Epoch, base}, base: base}
	}
	c.book.leave(l.subs[o.Ch])
	l.subs[o.Ch] = c.book.join(&stretch{who: c.name, version: c.version, channel: o.Ch, line: l.n, base: base})
	delete(l.asked, o.Ch)
	if c.current == l {
		c.sendAgain(o.Ch)
	}
	c.settle(l)
}

// truncated begins anew in a channel.
func (c *keeper) truncated(l *line2, at position, o op2) {
	if !c.book.truncated(c.name, at, o) {
		c.book.broken(violation{who: c.name, channel: o.Ch, seq: at.Seq + 1, what: fmt.Sprintf(
			"line %d is not resumed at %s %d, the channel is at %s %d, kept is %v; nothing after that was removed from the log",
			l.n, at.Epoch, at.Seq, o.Epoch, o.Seq, o.Truncated)})
	}
	p := c.places[o.Ch]
	p.cut = true
	c.past = append(c.past, p)
	delete(c.places, o.Ch)
}

// settle makes a connection the current one once all its subs are answered, and leaves the one before.
func (c *keeper) settle(l *line2) {
	if len(l.asked) > 0 || c.current == l || l.over {
		return
	}
	before := c.current
	if before != nil && before.n > l.n { // we were asked to leave this one, too, before it was ready
		l.left = true
		goodbye(l.ws)
		return
	}
	c.current = l
	for channel := range l.subs {
		c.sendAgain(channel)
	}
	if before != nil {
		before.left = true
		goodbye(before.ws)
	}
	if c.asleep != nil { // it was sent to sleep before it was ready
		l.left = true
		goodbye(l.ws)
	}
}

// sendAgain repeats what is unanswered of a channel, in its old order.
func (c *keeper) sendAgain(channel string) {
	var ops []op2
	for _, s := range c.waiting {
		if s.channel == channel {
			c.book.note(func() { s.tries++ })
			ops = append(ops, s.op(true))
		}
	}
	if len(ops) > 0 {
		c.current.write(ops...)
	}
}

// arrived holds each connection to seqs without a hole, since nothing in a ledger run is hidden from anybody. Without history there
// are none.
func (c *keeper) arrived(l *line2, o op2) {
	s := l.subs[o.Ch]
	if s == nil {
		c.book.broken(violation{who: c.name, channel: o.Ch, seq: o.Seq, id: o.ID, what: "a message of a channel that is not subscribed"})
		return
	}
	a := arrival{seq: o.Seq, id: o.ID, text: o.Text, target: o.Target, at: time.Now()}
	if o.Ch == unlogged {
		c.book.note(func() { s.got = append(s.got, a) })
		return
	}
	last := s.base
	if n := len(s.got); n > 0 {
		last = s.got[n-1].seq
	}
	if o.Seq != last+1 {
		c.book.broken(violation{who: c.name, channel: o.Ch, seq: min(o.Seq, last+1), id: o.ID,
			what: fmt.Sprintf("on line %d, %d came after %d", l.n, o.Seq, last)})
	}
	if o.Op == "edit" || o.Op == "del" {
		a.kind = o.Op
	}
	c.book.note(func() { s.got = append(s.got, a) })
	if p := c.places[o.Ch]; o.Seq > p.Seq {
		p.Seq = o.Seq
		p.got = append(p.got, a)
	}
}

func (c *keeper) answered(id string, with func(*sending)) {
	for i, s := range c.waiting {
		if s.id == id {
			c.waiting = slices.Delete(c.waiting, i, i+1)
			c.book.note(func() { with(s) })
			return
		}
	}
}

func (c *keeper) refused(l *line2, o op2) {
	switch {
	case isEntry(o.Of) && !o.Retry:
		c.answered(o.ID, func(s *sending) { s.refused = o.Code })
	case isEntry(o.Of):
		c.later(l, o, func() {
			for _, s := range c.waiting {
				if s.id == o.ID && c.current == l && l.subs[s.channel] != nil {
					c.book.note(func() { s.tries++ })
					l.write(s.op(true))
				}
			}
		})
	case o.Of == "sub":
		if !o.Retry && !c.comes {
			c.book.broken(violation{who: c.name, channel: o.Ch, what: "a member is refused: " + o.Code})
		}
		delete(l.asked, o.Ch)
		c.later(l, o, func() { l.write(c.sub(l, o.Ch)) })
		c.settle(l)
	case !o.Retry:
		c.book.broken(violation{who: c.name, channel: o.Ch, what: "the server says " + o.Code})
	}
}

func (c *keeper) evicted(l *line2, o op2) {
	c.book.leave(l.subs[o.Ch])
	delete(l.subs, o.Ch)
	if !c.comes {
		c.book.broken(violation{who: c.name, channel: o.Ch, what: "a member is evicted: " + o.Code})
	}
	c.later(l, o, func() { l.write(c.sub(l, o.Ch)) })
}

// later does something when the time has come that an answer asks for, if the connection still lives.
func (c *keeper) later(l *line2, o op2, do func()) {
	c.work.Go(func() {
		if !pause(c.ctx, max(time.Duration(o.AfterMs)*time.Millisecond, 300*time.Millisecond)) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !l.over {
			do()
		}
	})
}

// say sends something in one of the channels it is subscribed to.
func (c *keeper) say(r *rand.Rand, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	channel := c.channels[r.IntN(len(c.channels))]
	if c.current == nil || c.current.subs[channel] == nil || len(c.waiting) >= maxWaiting {
		return
	}
	c.sent++
	s := c.book.begin(&sending{
		who: c.name, version: c.version, user: c.id, channel: channel, text: text, id: ulid.Make().String(), line: c.current.n, order: c.sent,
	})
	c.change(r, s)
	c.waiting = append(c.waiting, s)
	c.current.write(s.op(false))
}

// change makes every fifth message an edit, and every fifteenth a deletion, of one that was said before.
func (c *keeper) change(r *rand.Rand, s *sending) {
	own := c.own[s.channel]
	n := r.IntN(15)
	if n > 3 || len(own) == 0 {
		return
	}
	at := r.IntN(len(own))
	c.book.note(func() {
		s.kind, s.target = "edit", own[at]
		if n == 0 {
			s.kind, s.text = "del", ""
		}
	})
	if n == 0 {
		c.own[s.channel] = slices.Delete(own, at, at+1)
	}
}

func isEntry(op string) bool { return op == "send" || op == "edit" || op == "del" }

// op is the operation that sends it.
func (s *sending) op(retry bool) op2 {
	return op2{Op: cmp.Or(s.kind, "send"), Ch: s.channel, ID: s.id, Target: s.target, Text: s.text, Retry: retry}
}

// quiet reports whether all it sent is answered and it is at the head of all its channels.
func (c *keeper) quiet(heads map[string]ledgerHead) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || len(c.waiting) > 0 {
		return false
	}
	for _, channel := range c.channels {
		if c.current.subs[channel] == nil || channel != unlogged && c.places[channel].Seq != heads[channel].seq {
			return false
		}
	}
	return true
}

// processed is where it is in each channel. The client is closed.
func (c *keeper) processed() []*place { return slices.AppendSeq(c.past, maps.Values(c.places)) }

func (l *line2) write(ops ...op2) {
	text, err := json.Marshal(ops)
	if err != nil {
		panic(err) // no such frame
	}
	write(l.ws, text)
}
