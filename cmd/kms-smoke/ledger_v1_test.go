package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// speaker is a client of 1.0 in several channels that writes everything down. It comes back when it is cut, without what it missed.
type speaker struct {
	user
	life
	book     *book
	name     string
	channels []string
	comes    bool // its memberships come and go

	mu      sync.Mutex
	line    int
	ws      *websocket.Conn // nil while there is none
	joined  map[string]*stretch
	waiting map[string]*sending // by the client's id, of this connection
	said    int
}

func newSpeaker(u user, b *book, name string, channels []string) *speaker {
	return &speaker{user: u, life: newLife(), book: b, name: name, channels: channels}
}

func (c *speaker) begin() { c.work.Go(c.stay) }

func (c *speaker) close() {
	c.cancel()
	c.mu.Lock()
	if c.ws != nil {
		goodbye(c.ws)
		c.ws.Close()
	}
	c.mu.Unlock()
	c.work.Wait()
}

func (c *speaker) stay() {
	for n := 0; c.ctx.Err() == nil; n++ {
		ws, err := c.dial(c.ctx)
		if err == nil && c.serve(ws) {
			n = 0
		}
		if err != nil {
			refusedHandshake(c.book, c.name, err)
		}
		c.pause(n)
	}
}

// refusedHandshake writes down an answer that says there is nothing to come back to: no version is retired in a ledger run.
func refusedHandshake(b *book, who string, err error) {
	var refused *handshakeError
	if errors.As(err, &refused) && (refused.status == 404 || refused.status == 410) {
		b.broken(violation{who: who, what: err.Error()})
	}
}

// serve reads one connection to its end and tells whether it had logged in.
func (c *speaker) serve(ws *websocket.Conn) (loggedIn bool) {
	defer ws.Close()
	c.mu.Lock()
	c.line++
	c.ws, c.joined, c.waiting, c.said = ws, map[string]*stretch{}, map[string]*sending{}, 0
	c.write(frame1{Type: "login", Token: c.token})
	for _, channel := range c.channels {
		c.write(frame1{Type: "join", Channel: channel})
	}
	c.mu.Unlock()
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			c.ended(err, loggedIn)
			return loggedIn
		}
		var f frame1
		if err := json.Unmarshal(data, &f); err != nil {
			c.book.broken(violation{who: c.name, what: fmt.Sprintf("not a JSON object: %q", data)})
			continue
		}
		loggedIn = loggedIn || f.Type == "logged_in"
		c.take(ws, f)
	}
}

func (c *speaker) ended(err error, loggedIn bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws = nil
	if c.ctx.Err() != nil {
		return // we left; what was joined stays joined to the end
	}
	for _, s := range c.joined {
		c.book.leave(s)
	}
	c.joined = nil
	c.book.closed(c.name, c.version, c.line, err, loggedIn)
}

// closed writes down how a connection ended.
func (b *book) closed(who, version string, line int, err error, loggedIn bool) {
	end := closing{who: who, version: version, line: line, at: time.Now(), text: err.Error(), loggedIn: loggedIn}
	var frame *websocket.CloseError
	if errors.As(err, &frame) && frame.Code != websocket.CloseAbnormalClosure {
		end.code = frame.Code
	}
	b.note(func() { b.closings = append(b.closings, end) })
}

func (c *speaker) take(ws *websocket.Conn, f frame1) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.Type {
	case "joined":
		if c.joined[f.Channel] == nil {
			c.joined[f.Channel] = c.book.join(&stretch{who: c.name, version: c.version, channel: f.Channel, line: c.line})
		}
	case "said":
		c.answered(f.ID, func(s *sending) { s.id, s.acked = f.Message, time.Now() })
	case "error":
		c.refused(ws, f)
	case "removed":
		c.removed(ws, f)
	case "message", "system":
		c.arrived(f)
	}
}

func (c *speaker) answered(id string, with func(*sending)) {
	s := c.waiting[id]
	if s == nil {
		c.book.broken(violation{who: c.name, what: fmt.Sprintf("an answer to %q, which is not asked for", id)})
		return
	}
	delete(c.waiting, id)
	c.book.note(func() { with(s) })
}

func (c *speaker) refused(ws *websocket.Conn, f frame1) {
	switch {
	case f.ID != "":
		c.answered(f.ID, func(s *sending) { s.refused = f.Code })
	case f.Channel != "":
		c.again(ws, f.Channel)
		if f.Code == "not_member" && !c.comes {
			c.book.broken(violation{who: c.name, channel: f.Channel, what: "a member is refused"})
		}
	case f.Code != "busy" && f.Code != "unavailable":
		c.book.broken(violation{who: c.name, what: fmt.Sprintf("the server says %q", f.Code)})
	}
}

func (c *speaker) removed(ws *websocket.Conn, f frame1) {
	c.book.leave(c.joined[f.Channel])
	delete(c.joined, f.Channel)
	if !c.comes {
		c.book.broken(violation{who: c.name, channel: f.Channel, what: "a member is removed"})
	}
	c.again(ws, f.Channel)
}

// again joins a channel a little later, on the same connection.
func (c *speaker) again(ws *websocket.Conn, channel string) {
	c.work.Go(func() {
		if !pause(c.ctx, 400*time.Millisecond) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ws == ws {
			c.write(frame1{Type: "join", Channel: channel})
		}
	})
}

func (c *speaker) arrived(f frame1) {
	s := c.joined[f.Channel]
	if s == nil {
		c.book.broken(violation{who: c.name, channel: f.Channel, id: f.ID, what: "a message of a channel that is not joined"})
		return
	}
	c.book.note(func() { s.got = append(s.got, arrival{id: f.ID, text: f.Text, at: time.Now()}) })
}

// say says something in one of its channels if it is in one.
func (c *speaker) say(r *rand.Rand, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	channel := c.channels[r.IntN(len(c.channels))]
	if c.ws == nil || c.joined[channel] == nil || len(c.waiting) >= maxWaiting {
		return
	}
	c.said++
	id := fmt.Sprint(c.said)
	c.waiting[id] = c.book.begin(&sending{
		who: c.name, version: c.version, user: c.id, channel: channel, text: text, line: c.line, order: c.said,
	})
	c.write(frame1{Type: "say", Channel: channel, ID: id, Text: text})
}

// quiet reports whether it is in all its channels and has got everything up to the heads, given as the newest message's id.
func (c *speaker) quiet(heads map[string]ledgerHead) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws == nil || len(c.waiting) > 0 {
		return false
	}
	for _, channel := range c.channels {
		s, head := c.joined[channel], heads[channel].told
		if s == nil {
			return false
		}
		if channel != unlogged && s.began.Before(head.at) && !slices.ContainsFunc(s.got, func(a arrival) bool { return a.id == head.id }) {
			return false
		}
	}
	return true
}

func (c *speaker) write(f frame1) {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // no such frame
	}
	write(c.ws, text)
}

// maxWaiting is how many unanswered messages a client of a ledger run has: who cannot reach anybody does not pile up more.
const maxWaiting = 20

// talker is a client of a ledger run.
type talker interface {
	begin()
	say(r *rand.Rand, text string)
	quiet(heads map[string]ledgerHead) bool
	close()
}

// keepTalking has a client say something every so often until ctx ends.
func keepTalking(ctx context.Context, c talker, name string, r *rand.Rand, every time.Duration) {
	for n := 0; pause(ctx, every/2+time.Duration(r.Int64N(int64(every)))); n++ {
		c.say(r, fmt.Sprintf("%s の %d 番目", name, n))
	}
}
