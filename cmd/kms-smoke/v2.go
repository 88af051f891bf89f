package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"
)

// resuming is a client of docs/protocol/2.0.md: it comes back where it was, sends again what was not answered, and follows a
// drain by opening the new connection before it closes the old one.
type resuming struct {
	user
	journal
	life

	writing  sync.Mutex // guards what follows and all writes; taken before the journal's
	ws       *websocket.Conn
	position position
	waiting  []outgoing // unanswered, oldest first
}

type position struct {
	Epoch string `json:"epoch"`
	Seq   int64  `json:"seq"`
}

// seqs is a range, both ends inclusive.
type seqs struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

type outgoing struct{ id, text string }

// op2 is any operation of 2.0.
type op2 struct {
	Op        string    `json:"op"`
	Token     string    `json:"token,omitempty"`
	Ch        string    `json:"ch,omitempty"`
	ID        string    `json:"id,omitempty"`
	Target    string    `json:"target,omitempty"`
	Of        string    `json:"of,omitempty"`
	Epoch     string    `json:"epoch,omitempty"`
	Seq       int64     `json:"seq,omitempty"`
	Resume    *position `json:"resume,omitempty"`
	Resumed   bool      `json:"resumed,omitempty"`
	User      string    `json:"user,omitempty"`
	Text      string    `json:"text,omitempty"`
	Code      string    `json:"code,omitempty"`
	Retry     bool      `json:"retry,omitempty"`
	AfterMs   int64     `json:"after_ms,omitempty"`
	Truncated *seqs     `json:"truncated,omitempty"`
	Logged    *bool     `json:"logged,omitempty"`
}

func newResuming(u user) *resuming {
	c := &resuming{user: u, life: newLife()}
	c.refused = map[string]string{}
	c.work.Go(c.connect)
	return c
}

func (c *resuming) seen() *journal { return &c.journal }

func (c *resuming) close() {
	c.writing.Lock()
	c.cancel()
	if c.ws != nil {
		goodbye(c.ws)
		c.ws.Close()
	}
	c.writing.Unlock()
	c.work.Wait()
}

// connect opens a connection, however often it takes, and has it read.
func (c *resuming) connect() {
	for n := 0; c.ctx.Err() == nil; n++ {
		ws, err := c.dial(c.ctx)
		var refused *handshakeError
		if errors.As(err, &refused) && (refused.status == 404 || refused.status == 410) {
			c.note(func() { c.gone = true })
			return
		}
		if err == nil && c.serve(&line{ws: ws}) {
			return // whoever ended it has seen to the next
		}
		c.pause(n)
	}
}

// line is one connection: what came over it rises, whatever came over others.
type line struct {
	ws      *websocket.Conn
	last    int64
	asked   *position
	subbed  bool
	leaving bool // the server asked us to move
}

// serve reads a connection to its end. False: it never got as far as being subscribed, try again.
func (c *resuming) serve(l *line) bool {
	defer l.ws.Close()
	if !c.hello(l) {
		return false
	}
	stop := c.stopWith(l)
	defer stop()
	for {
		_, data, err := l.ws.ReadMessage()
		if err != nil {
			return c.ended(l, err)
		}
		if c.skim(l, data) {
			continue
		}
		var ops []op2
		if err := json.Unmarshal(data, &ops); err != nil {
			c.note(func() { c.wrong = append(c.wrong, fmt.Sprintf("not an array of operations: %q", data)) })
			continue
		}
		for _, o := range ops {
			if !c.take(l, o) {
				return false
			}
		}
	}
}

// skim takes a frame of messages that nobody looks at closely: with a thousand clients, parsing them costs more than sending them.
// In JSON text no string can contain the bytes that are looked for, since its quotes are escaped.
func (c *resuming) skim(l *line, data []byte) bool {
	if !c.isLight() {
		return false
	}
	messages := bytes.Count(data, []byte(`{"op":"msg"`)) + bytes.Count(data, []byte(`{"op":"sys"`))
	if messages == 0 || messages != bytes.Count(data, []byte(`"op":"`)) || messages != bytes.Count(data, []byte(`,"seq":`)) {
		return false
	}
	for range messages {
		_, data, _ = bytes.Cut(data, []byte(`,"seq":`))
		digits, _, _ := bytes.Cut(data, []byte(","))
		seq, err := strconv.ParseInt(string(digits), 10, 64)
		if err != nil {
			c.note(func() { c.wrong = append(c.wrong, fmt.Sprintf("not a seq: %q", digits)) })
			return true
		}
		c.arrived(l, op2{Seq: seq})
	}
	return true
}

// stopWith ends the reading of a connection that is not current when the client closes.
func (c *resuming) stopWith(l *line) (stop func()) {
	over := make(chan struct{})
	c.work.Go(func() {
		select {
		case <-c.ctx.Done():
			l.ws.Close()
		case <-over:
		}
	})
	return func() { close(over) }
}

func (c *resuming) hello(l *line) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	sub := op2{Op: "sub", Ch: c.channel}
	if c.position.Epoch != "" {
		at := c.position
		sub.Resume, l.asked, l.last = &at, &at, at.Seq
	}
	c.send(l.ws, op2{Op: "hello", Token: c.token}, sub)
	return c.ctx.Err() == nil
}

// ended decides what the end of a connection means: the current one is replaced.
func (c *resuming) ended(l *line, err error) bool {
	if !l.subbed {
		return c.ctx.Err() != nil
	}
	c.writing.Lock()
	current := c.ws == l.ws
	if current {
		c.ws = nil
	}
	c.writing.Unlock()
	if c.ctx.Err() != nil {
		return true
	}
	c.closed(err)
	if !current {
		return true
	}
	c.note(func() {
		c.open = false
		if !announced(err) {
			c.unasked++
		}
	})
	if !l.leaving { // else the replacement is on its way
		c.work.Go(c.connect)
	}
	return true
}

// take handles one operation. False: the connection is of no use.
func (c *resuming) take(l *line, o op2) bool {
	switch o.Op {
	case "subbed":
		c.subscribed(l, o)
	case "msg", "sys", "edit", "del":
		c.arrived(l, o)
	case "ack":
		c.answered(o.ID, func(text string) { c.receipts = append(c.receipts, receipt{o.ID, o.Seq, text}) })
	case "nack":
		return c.refuse(l, o)
	case "drain":
		if !l.leaving {
			l.leaving = true
			c.note(func() { c.moved++; c.told = append(c.told, time.Now()) })
			c.work.Go(c.connect)
		}
	}
	return true
}

// subscribed makes the connection the current one, sends again what was not answered and leaves the one before.
func (c *resuming) subscribed(l *line, o op2) {
	c.writing.Lock()
	defer c.writing.Unlock()
	l.subbed = true
	if l.asked == nil {
		c.position, l.last = position{o.Epoch, o.Seq}, o.Seq
	} else if !o.Resumed || o.Truncated != nil {
		c.note(func() {
			c.wrong = append(c.wrong, fmt.Sprintf("not resumed at %v, the channel is at %s %d", *l.asked, o.Epoch, o.Seq))
		})
		c.position, l.last = position{o.Epoch, o.Seq}, o.Seq
	}
	before := c.ws
	c.ws = l.ws
	for _, m := range c.waiting {
		c.send(c.ws, op2{Op: "send", Ch: c.channel, ID: m.id, Text: m.text, Retry: true})
	}
	c.note(func() { c.open = true })
	if before != nil {
		goodbye(before)
	}
}

// arrived notes what is new; the old connection and the new one may both tell it.
func (c *resuming) arrived(l *line, o op2) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if o.Seq <= l.last {
		c.note(func() {
			c.wrong = append(c.wrong, fmt.Sprintf("message %q at %d came after %d on one connection", o.Text, o.Seq, l.last))
		})
	}
	l.last = max(l.last, o.Seq)
	if o.Seq <= c.position.Seq {
		return
	}
	missed := o.Seq - c.position.Seq - 1
	c.position.Seq = o.Seq
	c.note(func() {
		if c.lost, c.last = c.lost+missed, o.Seq; c.light {
			return
		}
		c.got = append(c.got, message{kind: o.Op, id: o.ID, user: o.User, text: o.Text, seq: o.Seq, at: time.Now()})
	})
}

func (c *resuming) answered(id string, with func(text string)) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for i, m := range c.waiting {
		if m.id == id {
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			c.note(func() { with(m.text) })
			return
		}
	}
}

// refuse tries again what the server says may work later.
func (c *resuming) refuse(l *line, o op2) bool {
	if o.Of != "send" {
		return false
	}
	if !o.Retry {
		c.answered(o.ID, func(text string) { c.refused[text] = o.Code })
		return true
	}
	c.work.Go(func() {
		select {
		case <-c.ctx.Done():
		case <-time.After(max(time.Duration(o.AfterMs)*time.Millisecond, 50*time.Millisecond)):
			c.again(l, o.ID)
		}
	})
	return true
}

func (c *resuming) again(l *line, id string) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for _, m := range c.waiting {
		if m.id == id && c.ws == l.ws {
			c.send(c.ws, op2{Op: "send", Ch: c.channel, ID: m.id, Text: m.text, Retry: true})
		}
	}
}

// say sends a text, now or when there is a connection.
func (c *resuming) say(text string) {
	c.writing.Lock()
	defer c.writing.Unlock()
	m := outgoing{ulid.Make().String(), text}
	c.waiting = append(c.waiting, m)
	if c.ws != nil {
		c.send(c.ws, op2{Op: "send", Ch: c.channel, ID: m.id, Text: m.text})
	}
}

func (c *resuming) send(ws *websocket.Conn, ops ...op2) {
	text, err := json.Marshal(ops)
	if err != nil {
		panic(err) // no such frame
	}
	write(ws, text)
}
