package hub

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// UpgradeOptions of one connection.
type UpgradeOptions struct {
	MaxFrame int  // bytes of the longest message a client may send: 64 KiB
	Binary   bool // binary messages are read, too: for outside test suites, no version has any

	// Refuse answers a handshake that breaks the rules; nil: in plain text.
	Refuse func(w http.ResponseWriter, status int, why string)
}

const (
	defaultMaxFrame = 64 << 10
	readBuffer      = 512 // most messages fit; a longer one is read past it
	writeBuffer     = 256 // gorilla writes control frames only
)

var writeBuffers sync.Pool

// Upgrade answers the WebSocket handshake, or refuses it with an HTTP error. The handler returns afterwards and leaves the
// reading to a goroutine of its own: the HTTP server's buffers and stack go, and an idle connection stays small.
func (h *Hub) Upgrade(w http.ResponseWriter, r *http.Request, o UpgradeOptions) (*Conn, error) {
	if o.MaxFrame <= 0 {
		o.MaxFrame = defaultMaxFrame
	}
	hj := &hijacker{ResponseWriter: w, hub: h}
	up := websocket.Upgrader{
		WriteBufferSize: writeBuffer,
		WriteBufferPool: &writeBuffers,
		CheckOrigin:     func(*http.Request) bool { return true }, // a token in the first frame, no cookie to borrow
	}
	if o.Refuse != nil {
		up.Error = func(w http.ResponseWriter, _ *http.Request, status int, why error) {
			w.Header().Set("Sec-WebSocket-Version", "13")
			o.Refuse(w, status, why.Error())
		}
	}
	ws, err := up.Upgrade(hj, r, nil)
	if err != nil {
		if hj.conn != nil {
			hj.conn.kill()
		}
		return nil, fmt.Errorf("cannot upgrade to WebSocket: %v", err)
	}
	c := hj.conn
	ws.SetReadLimit(int64(o.MaxFrame))
	ws.SetPingHandler(c.ping)
	ws.SetPongHandler(c.pong)
	c.ws, c.takesBinary = ws, o.Binary
	if !h.remember(c) {
		c.kill()
		return nil, errors.New("cannot upgrade to WebSocket: hub is closed")
	}
	return c, nil
}

// hijacker hands gorilla our wrapper in place of the socket.
type hijacker struct {
	http.ResponseWriter
	hub  *Hub
	conn *Conn
}

func (hj *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(hj.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if hj.conn, err = newConn(hj.hub, nc); err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() == 0 { // else gorilla refuses: nobody may speak before the answer
		rw = bufio.NewReadWriter(hj.conn.in, rw.Writer) // gorilla takes its reader from here
	}
	return &line{hj.conn}, rw, nil
}

func newConn(h *Hub, nc net.Conn) (*Conn, error) {
	c := &Conn{hub: h, nc: nc, done: make(chan struct{}), slot: -1}
	c.in = bufio.NewReaderSize(&line{c}, readBuffer)
	now := h.clock.Load()
	c.heard.Store(now)
	c.pinged = now
	s, err := h.take(nc)
	if s != nil {
		c.nc, c.sock = s, s
	}
	return c, err
}

// line is the connection as gorilla sees it: what it writes by itself (the handshake, pongs, close echoes, protocol closes)
// stands in the same queue as everything else and so never inside a half-written frame.
type line struct{ c *Conn }

func (l *line) Read(p []byte) (int, error) {
	n, err := l.c.nc.Read(p)
	l.c.heard.Store(l.c.hub.clock.Load())
	l.c.weigh(n)
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	if !l.c.control(p) {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

// Deadlines do nothing: reading has the sweeper's, writes here do not block, and the drainer's must not inherit a pong's.
func (l *line) SetDeadline(time.Time) error      { return nil }
func (l *line) SetReadDeadline(time.Time) error  { return nil }
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// Nobody asks gorilla for addresses.
func (l *line) LocalAddr() net.Addr  { return nil }
func (l *line) RemoteAddr() net.Addr { return nil }

// Close is gorilla's way out of a handshake that failed.
func (l *line) Close() error {
	l.c.kill()
	return nil
}

// remember puts the connection before the sweeper.
func (h *Hub) remember(c *Conn) bool {
	h.lifeMu.Lock()
	defer h.lifeMu.Unlock()
	if h.closing {
		return false
	}
	h.connsMu.Lock()
	defer h.connsMu.Unlock()
	c.slot = len(h.conns)
	h.conns = append(h.conns, c)
	h.upgrades.Add(1)
	return true
}

func (h *Hub) forget(c *Conn) {
	h.connsMu.Lock()
	defer h.connsMu.Unlock()
	if c.slot < 0 {
		return
	}
	last := len(h.conns) - 1
	h.conns[c.slot] = h.conns[last]
	h.conns[c.slot].slot = c.slot
	h.conns[last] = nil
	h.conns = h.conns[:last]
	c.slot = -1
}

// Conns returns the open connections, in no order.
func (h *Hub) Conns() []*Conn {
	h.connsMu.Lock()
	defer h.connsMu.Unlock()
	return append([]*Conn(nil), h.conns...)
}
