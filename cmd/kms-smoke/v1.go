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
)

// simple is a client of docs/protocol/1.0.md: it says, and comes back when cut, without what it missed.
type simple struct {
	user
	journal
	life

	writing sync.Mutex
	ws      *websocket.Conn
	said    int
	waiting map[string]string // id -> text, of this connection
}

// frame1 is any frame of 1.0.
type frame1 struct {
	Type      string `json:"type"`
	Token     string `json:"token,omitempty"`
	Channel   string `json:"channel,omitempty"`
	ID        string `json:"id,omitempty"`
	Message   string `json:"message,omitempty"`
	User      string `json:"user,omitempty"`
	Text      string `json:"text,omitempty"`
	Code      string `json:"code,omitempty"`
	Reconnect bool   `json:"reconnect,omitempty"`
}

func newSimple(u user) *simple {
	c := &simple{user: u, life: newLife(), waiting: map[string]string{}}
	c.refused = map[string]string{}
	c.work.Go(c.stay)
	return c
}

func (c *simple) seen() *journal { return &c.journal }

func (c *simple) close() {
	c.cancel()
	c.writing.Lock()
	if c.ws != nil {
		goodbye(c.ws)
		c.ws.Close()
	}
	c.writing.Unlock()
	c.work.Wait()
}

// stay keeps a connection until the client is closed or told that there is nothing to come back to.
func (c *simple) stay() {
	for n := 0; c.ctx.Err() == nil; n++ {
		ws, err := c.dial(c.ctx)
		var refused *handshakeError
		if errors.As(err, &refused) && (refused.status == 404 || refused.status == 410) {
			c.note(func() { c.gone = true })
			return
		}
		if err != nil {
			c.pause(n)
			continue
		}
		if c.serve(ws) {
			n = -1
		}
		c.pause(n + 1)
	}
}

// serve reads one connection to its end and tells whether it had got as far as being joined.
func (c *simple) serve(ws *websocket.Conn) (joined bool) {
	defer ws.Close()
	c.writing.Lock()
	c.ws = ws
	c.waiting = map[string]string{}
	c.send(frame1{Type: "login", Token: c.token})
	c.send(frame1{Type: "join", Channel: c.channel})
	c.writing.Unlock()
	seen := map[string]bool{}
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			c.ended(err, joined)
			return joined
		}
		var f frame1
		if err := c.parse(data, &f); err != nil {
			c.note(func() { c.wrong = append(c.wrong, fmt.Sprintf("not a JSON object: %q", data)) })
			continue
		}
		joined = joined || f.Type == "joined"
		c.take(f, seen)
	}
}

// parse reads a frame, of a message that nobody looks at closely no more than its id: no string of JSON text can contain the bytes that
// are looked for, since its quotes are escaped.
func (c *simple) parse(data []byte, f *frame1) error {
	if _, rest, found := bytes.Cut(data, []byte(`,"id":"`)); found && c.isLight() && bytes.HasPrefix(data, []byte(`{"type":"message",`)) {
		id, _, _ := bytes.Cut(rest, []byte(`"`))
		f.Type, f.ID = "message", string(id)
		return nil
	}
	return json.Unmarshal(data, f)
}

func (c *simple) ended(err error, joined bool) {
	if c.ctx.Err() != nil {
		return
	}
	c.closed(err)
	c.note(func() {
		c.open = false
		switch {
		case announced(err):
			c.moved++
			c.told = append(c.told, time.Now())
		case joined:
			c.unasked++
		}
	})
}

// take notes a frame. seen are the messages of this connection: none may come twice.
func (c *simple) take(f frame1, seen map[string]bool) {
	switch f.Type {
	case "joined":
		c.note(func() { c.open = true })
	case "said":
		c.answered(f.ID, func(text string) { c.receipts = append(c.receipts, receipt{id: f.Message, text: text}) })
	case "error":
		c.answered(f.ID, func(text string) { c.refused[text] = f.Code })
	case "removed":
		c.note(func() { c.open, c.gone = false, true })
	case "message", "system":
		c.note(func() {
			if seen[f.ID] {
				c.wrong = append(c.wrong, fmt.Sprintf("message %q came twice on one connection", f.Text))
			}
			if seen[f.ID] = true; c.light {
				return
			}
			c.got = append(c.got, message{kind: f.Type, id: f.ID, user: f.User, text: f.Text, at: time.Now()})
		})
	}
}

func (c *simple) answered(id string, with func(text string)) {
	c.writing.Lock()
	text, ok := c.waiting[id]
	delete(c.waiting, id)
	c.writing.Unlock()
	if ok {
		c.note(func() { with(text) })
	}
}

// say sends a text if there is a connection; in 1.0 a text without a receipt is nobody's promise.
func (c *simple) say(text string) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.ws == nil {
		return
	}
	c.said++
	id := strconv.Itoa(c.said)
	c.waiting[id] = text
	c.send(frame1{Type: "say", Channel: c.channel, ID: id, Text: text})
}

func (c *simple) send(f frame1) {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // no such frame
	}
	write(c.ws, text)
}
