package hub

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Conn is one client's WebSocket connection. One goroutine at a time reads; anybody may send. Nothing runs for an idle connection
// whose reader asks to be called Later.
type Conn struct {
	Owner any // the session; the hub never looks at it. Set it before the first Subscribe.

	// Pace is called by the reader with 1 for each PaceBytes that the client has sent, and returns when it is to read on: frames that
	// make no message, or a large one, cost as much as messages do. Nil for no limit. Set it before the first Read.
	Pace func(n int)

	hub     *Hub
	ws      *websocket.Conn
	nc      transport
	sock    *socket                  // nc, or nil where that is none: then the drainer writes everything
	in      *bufio.Reader            // what was read off nc and not yet looked at
	message *bytes.Buffer            // of the last Read, from messages
	done    chan struct{}            // closed together with nc
	slot    int                      // in hub.conns, under hub.connsMu
	pinged  int64                    // hub clock, for the sweeper alone
	heard   atomic.Int64             // hub clock at the last read
	expiry  atomic.Pointer[deadline] // see CloseAt
	killAt  atomic.Int64             // hub clock at which the sweeper ends it; 0 for never

	mu       sync.Mutex
	state    connState
	queue    net.Buffers // what the socket did not take yet
	queued   int         // its bytes, with those that the drainer is writing
	draining bool

	takesBinary, binary bool // the reader's: binary messages may come, and the last one was
	weight              int  // the reader's: what Pace has not been told yet, in bytes

	progress int64 // hub clock when the drainer last got something out
	corked   bool
	held     []byte // what was put in since Cork
	sent     uint64
	closed   *CloseError // what Close was called with
	subs     []*sub
	parked   []*sub // caught up by the drainer once the queue is empty
}

// transport is a socket, or what tests have in its place.
type transport interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

type connState uint8

const (
	connOpen    connState = iota
	connClosing           // a close frame is in the line, nothing follows it
	connLeaving           // and the peer will send no more: ends when the line is empty
	connClosed
)

type deadline struct {
	at     time.Time
	code   int
	reason string
}

// CloseError is what Read returns at the end: who closed, and with which code. Code is 1006 where no close frame came.
type CloseError struct {
	Code   int
	Reason string
	Peer   bool // the client began it
}

func (e *CloseError) Error() string {
	who := "server"
	if e.Peer {
		who = "client"
	}
	return fmt.Sprintf("connection closed by %s: %d %s", who, e.Code, e.Reason)
}

const closeAbnormal = 1006

// lingerTime and lingerBytes bound what is still read from a client that broke the rules. Closing a TCP socket that holds
// unread bytes resets it, and the client would never see why.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// What Pace counts as one, and what control frames weigh in it: a ping costs an answer.
const (
	PaceBytes  = 4 << 10
	pingWeight = 1 << 10
	pongWeight = 64
)

// weigh is called by the reader alone.
func (c *Conn) weigh(n int) {
	if c.Pace == nil {
		return
	}
	if c.weight += n; c.weight >= PaceBytes {
		n = c.weight / PaceBytes
		c.weight %= PaceBytes
		c.Pace(n)
	}
}

// ping answers a client's, on the reader.
func (c *Conn) ping(data string) error {
	c.weigh(pingWeight)
	err := c.ws.WriteControl(websocket.PongMessage, []byte(data), time.Time{})
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

func (c *Conn) pong(string) error {
	c.weigh(pongWeight)
	return nil
}

// messages holds the buffers of messages being read, so that an idle connection has none.
var messages = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxKeptMessage = 16 << 10

// Read returns the next text message, complete and valid UTF-8; the bytes hold until the next Read. What breaks the rules
// closes the connection with the right code. Any error is final, and the hub has then forgotten the connection or does
// so as soon as its last bytes are out.
func (c *Conn) Read() ([]byte, error) {
	c.releaseMessage()
	for {
		kind, r, err := c.ws.NextReader()
		if err != nil {
			return nil, c.ended(err)
		}
		c.binary = kind == websocket.BinaryMessage
		if c.binary && !c.takesBinary {
			return nil, c.refuse(CloseBinary, "only text messages")
		}
		p, err := c.readMessage(r)
		if err != nil {
			return nil, c.ended(err)
		}
		if !c.binary && !utf8.Valid(p) {
			return nil, c.refuse(CloseNotUTF8, "not UTF-8")
		}
		if !c.isClosing() { // after our close frame only the client's is of interest
			return p, nil
		}
	}
}

// Later has f called, in a goroutine of its own, as soon as there is something to Read, be it the end; then the reading is left to f.
// It returns false, and calls nothing, if there is something already, or if nobody could tell: then the caller reads on.
func (c *Conn) Later(f func()) bool {
	c.releaseMessage()
	return c.sock != nil && c.in.Buffered() == 0 && c.sock.readLater(f)
}

// Binary reports whether the last message read was binary.
func (c *Conn) Binary() bool { return c.binary }

func (c *Conn) readMessage(r io.Reader) ([]byte, error) {
	if c.message == nil {
		c.message = messages.Get().(*bytes.Buffer)
	}
	c.message.Reset()
	_, err := c.message.ReadFrom(r)
	return c.message.Bytes(), err
}

func (c *Conn) releaseMessage() {
	if c.message != nil && c.message.Cap() <= maxKeptMessage {
		messages.Put(c.message)
	}
	c.message = nil
}

// refuse closes because of what the client sent.
func (c *Conn) refuse(code int, reason string) error {
	c.Close(code, reason)
	c.linger()
	return &CloseError{Code: code, Reason: reason}
}

// ended ends the connection after an error from gorilla, which has already put the close frame that is due into the line.
func (c *Conn) ended(err error) error {
	c.releaseMessage()
	var ce *websocket.CloseError
	ours := c.closedBy()
	switch {
	case errors.As(err, &ce):
		c.finish()
		if ours != nil {
			return ours
		}
		return &CloseError{Code: ce.Code, Reason: ce.Text, Peer: true}
	case ours != nil:
		c.finish()
		return ours
	case errors.Is(err, websocket.ErrReadLimit) && !c.isClosing(): // a length beyond int64, for which gorilla closes nothing
		return c.refuse(CloseTooLarge, err.Error())
	case !c.isClosing():
		c.kill()
		return &CloseError{Code: closeAbnormal, Reason: err.Error(), Peer: true}
	}
	c.linger()
	if errors.Is(err, websocket.ErrReadLimit) {
		return &CloseError{Code: CloseTooLarge, Reason: err.Error()}
	}
	return &CloseError{Code: CloseProtocol, Reason: err.Error()}
}

// closedBy returns what Close was called with, or nil.
func (c *Conn) closedBy() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		return nil
	}
	return c.closed
}

// linger reads on for a moment, for the client to get the close frame, and ends the connection.
func (c *Conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.Pending() == 0 {
		_ = half.CloseWrite() // refused when the client is gone already
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(lingerTime)); err == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
	c.finish()
}

// Done is closed when the connection has ended and its socket is closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// CloseAt closes the connection at that time, give or take Options.SweepEvery: for login timeouts and tokens that expire.
// A later call replaces an earlier one; the zero time takes it back.
func (c *Conn) CloseAt(at time.Time, code int, reason string) {
	if at.IsZero() {
		c.expiry.Store(nil)
		return
	}
	c.expiry.Store(&deadline{at, code, reason})
}

// Close sends a close frame behind what waits, and gives the client CloseTimeout to read and answer it. It does not wait:
// Done tells the end. Later calls, and everything sent later, do nothing.
func (c *Conn) Close(code int, reason string) {
	frame := appendClose(make([]byte, 0, 4+maxReason), code, reason)
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		return
	}
	if code == CloseSlow {
		c.dropWaitingLocked()
	}
	err := c.putLocked(frame, true)
	c.closed = &CloseError{Code: code, Reason: reason}
	c.closingLocked()
	c.mu.Unlock()
	if err != nil {
		c.kill()
	}
}

func (c *Conn) closingLocked() {
	c.state = connClosing
	c.killAt.Store(c.hub.clock.Load() + c.hub.o.CloseTimeout.Milliseconds())
}

// dropWaitingLocked forgets what waits for a slow reader, except for the rest of a frame that has begun.
func (c *Conn) dropWaitingLocked() {
	for len(c.queue) > 1 {
		last := len(c.queue) - 1
		c.queued -= len(c.queue[last])
		c.queue[last] = nil
		c.queue = c.queue[:last]
	}
}

// finish ends the connection as soon as what waits is written: nothing more will come from the peer.
func (c *Conn) finish() {
	c.mu.Lock()
	err := c.uncorkLocked()
	empty := c.queued == 0 || err != nil
	if !empty && c.state != connClosed {
		c.closingLocked()
		c.state = connLeaving
	}
	c.mu.Unlock()
	if empty {
		c.kill()
	}
}

// kill ends the connection at once. Not to be called with a lock held.
func (c *Conn) kill() {
	c.mu.Lock()
	if c.state == connClosed {
		c.mu.Unlock()
		return
	}
	c.state = connClosed
	c.queue, c.parked, c.held = nil, nil, nil
	c.mu.Unlock()
	_ = c.nc.Close() // nothing to do about a socket that does not close
	c.hub.forget(c)
	c.hub.Drop(c)
	close(c.done)
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != connOpen
}

// Pending is how many bytes wait for the client to read.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// ConnStats is one connection's numbers.
type ConnStats struct {
	SentBytes uint64
	Pending   int
	Channels  int
	LastRead  time.Time // exact to Options.SweepEvery
}

// Stats returns the connection's numbers.
func (c *Conn) Stats() ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ConnStats{c.sent, c.queued, len(c.subs), time.UnixMilli(c.heard.Load())}
}
