package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"
)

// client is one connection of 2.0. One goroutine at a time reads it.
type client struct {
	ws      *websocket.Conn
	channel string
	buffer  bytes.Buffer

	writing sync.Mutex
	frame   []byte // what is being written
}

// op is one operation that came; its slices are good until the next read.
type op struct {
	name, id []byte
	seq      int64
	text     []byte
	whole    []byte
}

// dial connects user n without logging in.
func (u *ua) dial(ctx context.Context, n int) (*client, error) {
	d := websocket.Dialer{
		HandshakeTimeout: 30 * time.Second, ReadBufferSize: 4096, WriteBufferSize: 4096,
		NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.socket)
		},
	}
	ws, answer, err := d.DialContext(ctx, "ws://kms/ua/2.0/"+u.tenant+"?u=u"+strconv.Itoa(n), http.Header{})
	if err != nil {
		status := 0
		if answer != nil {
			status = answer.StatusCode
		}
		return nil, fmt.Errorf("cannot connect user %d: %v (HTTP %d)", n, err, status)
	}
	return &client{ws: ws}, nil
}

// enter connects user n and subscribes it to a channel.
func (u *ua) enter(ctx context.Context, n int, channel string) (*client, error) {
	c, err := u.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	c.channel = channel
	if err = c.write(`[{"op":"hello","token":"` + tokenOf(n) + `"},{"op":"sub","ch":"` + channel + `"}]`); err == nil {
		_, err = c.await("subbed")
	}
	if err != nil {
		c.ws.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) write(frame string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.ws.WriteMessage(websocket.TextMessage, []byte(frame))
}

// await reads to the first operation of a name and returns its bytes.
func (c *client) await(name string) (found []byte, err error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(60 * time.Second))
	for found == nil {
		err := c.read(func(o op) error {
			switch {
			case string(o.name) == name:
				found = bytes.Clone(o.whole)
			case string(o.name) == "nack":
				return fmt.Errorf("refused: %s", o.whole)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, c.ws.SetReadDeadline(time.Time{})
}

// read waits for one frame and goes through its operations. No text of ours looks like the beginning of one.
func (c *client) read(each func(op) error) error {
	_, r, err := c.ws.NextReader()
	if err != nil {
		return err
	}
	c.buffer.Reset()
	if _, err := c.buffer.ReadFrom(r); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	data := c.buffer.Bytes()
	for {
		start := bytes.Index(data, []byte(`{"op":"`))
		if start < 0 {
			return nil
		}
		data = data[start:]
		end := bytes.Index(data[1:], []byte(`{"op":"`))
		if end < 0 {
			end = len(data) - 1
		}
		if err := each(parse(data[:end+1])); err != nil {
			return err
		}
		data = data[end+1:]
	}
}

func parse(text []byte) op {
	o := op{whole: text, name: field(text, `"op":"`), id: field(text, `"id":"`), text: field(text, `"text":"`)}
	if _, rest, ok := bytes.Cut(text, []byte(`"seq":`)); ok {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		o.seq, _ = strconv.ParseInt(string(rest[:n]), 10, 64)
	}
	return o
}

// field is the string after its name, if there is one.
func field(text []byte, name string) []byte {
	_, rest, ok := bytes.Cut(text, []byte(name))
	if !ok {
		return nil
	}
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	return value
}

// text is 120 bytes long, as the figures in docs are for.
var text = func() string {
	b := bytes.Repeat([]byte("おはよう "), 10)
	return string(b[:117]) + "abc"
}()

// send writes n messages in one frame, each with an id that tells when it was sent.
func (c *client) send(n int) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	b := append(c.frame[:0], '[')
	for range n {
		b = append(b, `{"op":"send","ch":"`...)
		b = append(b, c.channel...)
		b = append(b, `","id":"`...)
		b = appendID(b)
		b = append(b, `","text":"`...)
		b = append(b, text...)
		b = append(b, `"},`...)
	}
	b[len(b)-1] = ']'
	c.frame = b
	return c.ws.WriteMessage(websocket.TextMessage, b)
}

var began = time.Now()

// appendID makes a ULID whose random part begins with the nanoseconds since the start.
func appendID(b []byte) []byte {
	now := time.Now()
	id := ulid.Make()
	_ = id.SetTime(ulid.Timestamp(now))
	ns := uint64(now.Sub(began))
	for i := range 6 {
		id[6+i] = byte(ns >> (40 - 8*i))
	}
	var text [ulid.EncodedSize]byte
	_ = id.MarshalTextTo(text[:]) // of the right size
	return append(b, text[:]...)
}

// age is how long ago the message of an id was sent by this process.
func age(id []byte) (time.Duration, error) {
	var parsed ulid.ULID
	if err := parsed.UnmarshalText(id); err != nil {
		return 0, fmt.Errorf("bad id %q: %v", id, err)
	}
	ns := uint64(0)
	for _, b := range parsed[6:12] {
		ns = ns<<8 | uint64(b)
	}
	return time.Since(began) - time.Duration(ns), nil
}
