package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"
)

// seat is a bare connection of a user of either version, which notes what comes and when. A close comes as "close CODE REASON".
type seat struct {
	t       *testing.T
	version string
	ws      *websocket.Conn

	mu   sync.Mutex
	got  []heard
	news chan struct{} // closed at the next frame
	read int           // frames that await has gone past
}

type heard struct {
	at    time.Time
	frame string
}

// sit connects and logs in, without waiting for an answer.
func (s *story) sit(t *testing.T, version, tenant, token string) *seat {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+s.bare.base[len("http"):]+"/ua/"+version+"/"+url.PathEscape(tenant), nil)
	must(t, err)
	c := &seat{t: t, version: version, ws: ws}
	var reading sync.WaitGroup
	reading.Go(c.listen)
	t.Cleanup(func() { ws.Close(); reading.Wait() })
	if version == "1.0" {
		c.send(`{"type":"login","token":%q}`, token)
	} else {
		c.send(`[{"op":"hello","token":%q}]`, token)
	}
	return c
}

func (c *seat) listen() {
	for {
		_, data, err := c.ws.ReadMessage()
		frame := string(data)
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			frame = fmt.Sprintf("close %d %s", closed.Code, closed.Text)
		} else if err != nil {
			frame = "close without a word"
		}
		c.mu.Lock()
		c.got = append(c.got, heard{time.Now(), frame})
		if c.news != nil {
			close(c.news)
			c.news = nil
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes a frame; that the connection is gone shows when listening.
func (c *seat) send(format string, args ...any) { write(c.ws, fmt.Appendf(nil, format, args...)) }

func (c *seat) join(channel string) {
	if c.version == "1.0" {
		c.send(`{"type":"join","channel":%q}`, channel)
	} else {
		c.send(`[{"op":"sub","ch":%q}]`, channel)
	}
}

func (c *seat) say(channel, text string) {
	id := ulid.Make().String()
	if c.version == "1.0" {
		c.send(`{"type":"say","channel":%q,"id":%q,"text":%q}`, channel, id, text)
	} else {
		c.send(`[{"op":"send","ch":%q,"id":%q,"text":%q}]`, channel, id, text)
	}
}

// enter joins and waits for the answer.
func (c *seat) enter(ctx context.Context, channels ...string) *seat {
	c.t.Helper()
	for _, channel := range channels {
		c.join(channel)
		if _, err := c.await(ctx, `"joined"|"subbed"`, channel); err != nil {
			c.t.Fatal(err)
		}
	}
	return c
}

// await returns the next frame that holds all parts, of one part one of its |-separated choices.
func (c *seat) await(ctx context.Context, parts ...string) (heard, error) {
	for {
		c.mu.Lock()
		for c.read < len(c.got) {
			h := c.got[c.read]
			c.read++
			if holds(h.frame, parts) {
				c.mu.Unlock()
				return h, nil
			}
			if strings.HasPrefix(h.frame, "close ") {
				c.mu.Unlock()
				return h, fmt.Errorf("%s got %q, want %q", c.version, h.frame, parts)
			}
		}
		if c.news == nil {
			c.news = make(chan struct{})
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return heard{}, fmt.Errorf("%s did not get %q: %w", c.version, parts, ctx.Err())
		}
	}
}

func holds(frame string, parts []string) bool {
	for _, part := range parts {
		found := false
		for _, choice := range strings.Split(part, "|") {
			found = found || strings.Contains(frame, choice)
		}
		if !found {
			return false
		}
	}
	return true
}

// open reports whether the connection has not ended.
func (c *seat) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got) == 0 || !strings.HasPrefix(c.got[len(c.got)-1].frame, "close ")
}
