package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/testkit"
)

func TestAppendText_everyLength(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte("x"), n)
		frame := AppendText([]byte("before"), payload)[len("before"):]
		if frame[0] != 0x81 || !bytes.HasSuffix(frame, payload) {
			t.Fatalf("%d bytes: frame begins %x", n, frame[:2])
		}
		switch head := frame[:len(frame)-n]; {
		case n < 126 && (len(head) != 2 || int(head[1]) != n),
			n >= 126 && n < 1<<16 && (head[1] != 126 || int(binary.BigEndian.Uint16(head[2:])) != n),
			n >= 1<<16 && (head[1] != 127 || int(binary.BigEndian.Uint64(head[2:])) != n):
			t.Fatalf("%d bytes: header %x", n, head)
		}
	}
}

func TestAppendClose_cutsReasonBetweenCharacters(t *testing.T) {
	frame := appendClose(nil, 1012, strings.Repeat("あ", 60))
	if len(frame) != 4+123 || int(frame[1]) != len(frame)-2 || !strings.HasSuffix(string(frame), "あ") {
		t.Fatalf("frame of %d bytes, length %d", len(frame), frame[1])
	}
}

func TestCodes_ascendWithoutDoubles(t *testing.T) {
	for i := 1; i < len(Codes); i++ {
		if Codes[i].Code <= Codes[i-1].Code {
			t.Errorf("%d stands after %d", Codes[i].Code, Codes[i-1].Code)
		}
	}
}

func TestRead_refusesWithTheRightCode(t *testing.T) {
	tests := map[string]struct {
		send func(ws *websocket.Conn) error
		code int
	}{
		"binary": {func(ws *websocket.Conn) error { return ws.WriteMessage(websocket.BinaryMessage, []byte("x")) }, 1003},
		"not UTF-8": {func(ws *websocket.Conn) error {
			return ws.WriteMessage(websocket.TextMessage, []byte("a\xff"))
		}, 1007},
		"too large": {func(ws *websocket.Conn) error {
			return ws.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte("x"), 2000))
		}, 1009},
		"too large in fragments": {func(ws *websocket.Conn) error {
			half := append([]byte{0x01, 0x80 | 126, 600 >> 8, 600 & 0xff, 0, 0, 0, 0}, make([]byte, 600)...)
			next := append([]byte{0x00}, half[1:]...)
			_, err := ws.NetConn().Write(append(half, next[:8]...)) // what the second says of its length is enough
			return err
		}, 1009},
		"2^62 bytes declared": {func(ws *websocket.Conn) error {
			_, err := ws.NetConn().Write([]byte{0x81, 0x80 | 127, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			return err
		}, 1009},
		"a length with its sign bit": {func(ws *websocket.Conn) error {
			_, err := ws.NetConn().Write([]byte{0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			return err
		}, 1009},
		"reserved bit": {func(ws *websocket.Conn) error {
			_, err := ws.NetConn().Write([]byte{0xC1, 0x80, 0, 0, 0, 0})
			return err
		}, 1002},
		"goodbye": {func(ws *websocket.Conn) error {
			return ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Time{})
		}, 1000},
	}
	h := testHub(t, Options{})
	path, conns := testServer(t, h, UpgradeOptions{MaxFrame: 1000})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := connectTo(t, path, conns)
			if err := tt.send(c.ws); err != nil {
				t.Fatal(err)
			}
			c.expectClose(tt.code)
			c.ws.Close()
			<-c.conn.Done()
		})
	}
	eventually(t, "all connections forgotten", func() bool { return len(h.Conns()) == 0 })
}

func TestRead_checksUTF8OverFragments(t *testing.T) {
	c := connect(t, testHub(t, Options{}))
	mask := func(op byte, p string) []byte { return append([]byte{op, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...) }
	c.ws.NetConn().Write(mask(0x01, "echo \xe3\x81")) // a character in two fragments is fine
	c.ws.NetConn().Write(mask(0x89, "p"))             // with a ping between them
	c.ws.NetConn().Write(mask(0x80, "\x82"))
	c.expect("echo あ")
	c.ws.NetConn().Write(mask(0x01, "echo \xe3\x81"))
	c.ws.NetConn().Write(mask(0x80, "x"))
	c.expectClose(1007)
}

// TestRead_weighsWhatMakesNoMessage: pings and fragments without end would never come to a session, so Pace hears of them before the
// message that follows is there.
func TestRead_weighsWhatMakesNoMessage(t *testing.T) {
	masked := func(op byte, p string) []byte { return append([]byte{op, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...) }
	for name, tt := range map[string]struct {
		first, flood, last []byte
		times, weight      int
	}{
		"nothing":         {nil, nil, masked(0x81, "x"), 0, 0},
		"pings":           {nil, masked(0x89, ""), masked(0x81, "x"), 40, 10},
		"pongs":           {nil, masked(0x8A, ""), masked(0x81, "x"), 640, 10},
		"empty fragments": {masked(0x01, ""), masked(0x00, ""), masked(0x80, "x"), 7000, 10},
	} {
		t.Run(name, func(t *testing.T) {
			path, conns := testServerWithoutReader(t, testHub(t, Options{}), UpgradeOptions{})
			ws := dial(t, path)
			go io.Copy(io.Discard, ws.NetConn())
			conn, weight := <-conns, 0
			conn.Pace = func(n int) { weight += n }
			go ws.NetConn().Write(slices.Concat(tt.first, bytes.Repeat(tt.flood, tt.times), tt.last))
			if p, err := conn.Read(); err != nil || string(p) != "x" {
				t.Fatalf("%q, %v", p, err)
			}
			if weight < tt.weight || weight > tt.weight+3 {
				t.Errorf("weighs %d, want %d", weight, tt.weight)
			}
		})
	}
}

func TestUpgrade_refusesPlainHTTP(t *testing.T) {
	path, _ := testServer(t, testHub(t, Options{}), UpgradeOptions{})
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://ua/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestClose_sendsWhatWaitsThenItsFrame(t *testing.T) {
	c := connect(t, testHub(t, Options{}))
	c.conn.Send(AppendText(nil, []byte("last words")))
	c.conn.Close(CloseForbidden, "kicked")
	c.conn.Send(AppendText(nil, []byte("too late")))
	c.expect("last words")
	c.expectClose(CloseForbidden)
	<-c.conn.Done()
}

// A client answers a close with one of its own: it is the server that closed all the same.
func TestClose_isTheServersThoughTheClientAnswers(t *testing.T) {
	h := testHub(t, Options{})
	path, conns := testServerWithoutReader(t, h, UpgradeOptions{})
	c := connectTo(t, path, conns)
	c.conn.Close(CloseForbidden, "kicked")
	c.expectClose(CloseForbidden) // which answers
	_, err := c.conn.Read()
	var ce *CloseError
	if !errors.As(err, &ce) || ce.Peer || ce.Code != CloseForbidden || ce.Reason != "kicked" {
		t.Errorf("Read: %v", err)
	}
}

func TestClose_cutsAClientThatDoesNotAnswer(t *testing.T) {
	h := testHub(t, Options{CloseTimeout: 50 * time.Millisecond})
	c := connect(t, h)
	c.conn.Close(CloseForbidden, "kicked") // the client never reads, so no echo comes
	select {
	case <-c.conn.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("still open")
	}
}

func TestHubClose_announces1012(t *testing.T) {
	h := testHub(t, Options{CloseTimeout: 5 * time.Second})
	c := connect(t, h)
	go h.Close()
	c.expectClose(CloseRestart)
}

// A client whose socket is full has a half-written frame in its line. What gorilla answers by itself must wait behind it.
func TestSend_pongStandsBehindAHalfWrittenFrame(t *testing.T) {
	c := connect(t, testHub(t, Options{MaxPending: 8 << 20}))
	pongs := make(chan string, 1)
	c.ws.SetPongHandler(func(p string) error { pongs <- p; return nil })
	big := strings.Repeat("b", 300<<10)
	for range 4 {
		c.conn.Send(AppendText(nil, []byte(big)))
	}
	if c.conn.Pending() == 0 {
		t.Fatal("the socket took everything: nothing is half written")
	}
	before := c.conn.Stats().SentBytes
	if err := c.ws.WriteControl(websocket.PingMessage, []byte("due"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pong in the line", func() bool { return c.conn.Stats().SentBytes > before })
	c.conn.Send(AppendText(nil, []byte("end")))
	c.expect(big, big, big, big, "end")
	if got := <-pongs; got != "due" {
		t.Errorf("pong %q", got)
	}
	eventually(t, "nothing pending", func() bool { return c.conn.Pending() == 0 })
	c.conn.Send(AppendText(nil, []byte("direct again")))
	c.expect("direct again")
}

func TestSend_cutsAClientThatLetsAnswersPileUp(t *testing.T) {
	h := testHub(t, Options{MaxPending: 64 << 10})
	c := connect(t, h)
	frame := AppendText(nil, bytes.Repeat([]byte("x"), 10_000))
	eventually(t, "the cut", func() bool {
		c.conn.Send(frame)
		if p := c.conn.Pending(); p > 2*64<<10 {
			t.Fatalf("%d bytes pending", p)
		}
		return h.Stats().Cut > 0
	})
	c.expectClose(CloseSlow)
}

func TestRead_goodbyeWithMuchUnreadEndsWhenItIsOut(t *testing.T) {
	c := connect(t, testHub(t, Options{CloseTimeout: time.Minute, MaxPending: 8 << 20}))
	big := strings.Repeat("b", 1<<20)
	c.conn.Send(AppendText(nil, []byte(big)))
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Time{})
	eventually(t, "the goodbye read", c.conn.isClosing)
	select {
	case <-c.conn.Done():
		t.Error("ended before everything was out")
	case <-time.After(50 * time.Millisecond):
	}
	c.expect(big)
	c.expectClose(1000)
	select {
	case <-c.conn.Done():
	case <-time.After(10 * time.Second):
		t.Error("still open")
	}
}

// The cut may drop what waits, but not the rest of a frame that has begun.
func TestClose_slowReaderGetsWholeFrames(t *testing.T) {
	c := connect(t, testHub(t, Options{CloseTimeout: 10 * time.Second}))
	begun, waiting := strings.Repeat("b", 1<<20), strings.Repeat("w", 1000)
	c.conn.mu.Lock() // keeps the drainer out
	c.conn.putLocked(AppendText(nil, []byte(begun)), true)
	c.conn.putLocked(AppendText(nil, []byte(waiting)), true)
	c.conn.dropWaitingLocked()
	c.conn.mu.Unlock()
	c.conn.Close(CloseSlow, "")
	c.expect(begun)
	c.expectClose(CloseSlow)
}

// Over TCP, closing with unread bytes resets the connection, and the client would never see the reason.
func TestRead_clientThatTalksOnSeesTheCode(t *testing.T) {
	h := testHub(t, Options{CloseTimeout: 10 * time.Second})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := serve(t, h, ln, UpgradeOptions{MaxFrame: 1000})
	for code, kind := range map[int]int{CloseBinary: websocket.BinaryMessage, CloseTooLarge: websocket.TextMessage} {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+ln.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		c := &client{t, ws, <-conns}
		size := 10
		if code == CloseTooLarge {
			size = 2000
		}
		ws.WriteMessage(kind, make([]byte, size))
		eventually(t, "the refusal", c.conn.isClosing)
		for range 20 {
			if err := ws.WriteMessage(websocket.TextMessage, make([]byte, 10_000)); err != nil {
				t.Fatalf("close %d: reset before it was read: %v", code, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		c.expectClose(code)
	}
}

// A descriptor number is handed out again as soon as it is free: a late write must not reach its next owner.
func TestSend_neverReachesAReusedDescriptor(t *testing.T) {
	h := testHub(t, Options{})
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := testConn(t, h, fileConn(t, fds[0]))
	defer syscall.Close(fds[1])
	number := c.sock.fd
	c.nc.Close()

	other, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	taken, peer := other[0], other[1]
	if peer == number {
		taken, peer = peer, taken
	}
	defer syscall.Close(peer)
	if taken != number { // make sure that the number is taken by somebody else now
		if err := syscall.Dup2(taken, number); err != nil {
			t.Fatal(err)
		}
		syscall.Close(taken)
	}
	defer syscall.Close(number)
	c.Send(AppendText(nil, []byte("for the first tenant")))
	if n, err := syscall.Read(peer, make([]byte, 100)); err != syscall.EAGAIN {
		t.Fatalf("the next owner got %d bytes, %v", n, err)
	}
	<-c.Done()
}

func testConn(t testing.TB, h *Hub, nc net.Conn) *Conn {
	t.Helper()
	c, err := newConn(h, nc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fileConn(t *testing.T, fd int) net.Conn {
	t.Helper()
	f := newFile(fd)
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

func TestConn_idleHoldsNoGoroutine(t *testing.T) {
	h := testHub(t, Options{})
	path, conns := testServer(t, h, UpgradeOptions{})
	connectTo(t, path, conns)
	before := runtime.NumGoroutine()
	var clients []*client
	for range 2 * maxSpare {
		c := connectTo(t, path, conns)
		c.join(h, "u", nil)
		clients = append(clients, c)
	}
	for range 2 {
		for _, c := range clients { // all at a time, so that readers are made for all
			c.ws.WriteMessage(websocket.TextMessage, []byte("echo x"))
		}
		for _, c := range clients {
			c.expect("echo x")
		}
		eventually(t, "no goroutine but spare readers", func() bool { return runtime.NumGoroutine() <= before+maxSpare })
	}
}

// Messages that come together are all read before the reader asks to be called later, and what comes at the same moment is not missed.
func TestLater_missesNothing(t *testing.T) {
	c := connect(t, testHub(t, Options{}))
	frame := append([]byte{0x81, 0x80 | 6, 0, 0, 0, 0}, "echo x"...)
	const n = 2000
	go func() {
		for range n / 4 {
			c.ws.NetConn().Write(bytes.Repeat(frame, 3)) // three at once, and one after that
			c.ws.NetConn().Write(frame)
		}
	}()
	for range n {
		c.expect("echo x")
	}
}

// Whatever bytes follow the handshake, the reader ends with a CloseError, and hands out only whole messages within the bound.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00"))
	f.Add([]byte("\x01\x81\x00\x00\x00\x00\xe3\x89\x80\x00\x00\x00\x00\x80\x82\x00\x00\x00\x00\x81\x82")) // a ping between fragments
	f.Add([]byte("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))                             // says that it is endless
	f.Add([]byte("\x81\xfe\x02\x00\x00\x00\x00\x00" + strings.Repeat("x", 512)))
	f.Add([]byte("\xf1\x80\x00\x00\x00\x00"))
	f.Add([]byte("\x81\x02hi"))
	f.Add([]byte("\x81\x81\x00\x00\x00\x00\xff")) // not UTF-8
	const limit = 256
	f.Fuzz(func(t *testing.T, data []byte) {
		h := testHub(t, Options{})
		path, conns := testServerWithoutReader(t, h, UpgradeOptions{MaxFrame: limit})
		ws := dial(t, path)
		c := <-conns
		go func() {
			_, _ = ws.NetConn().Write(data)
			_ = ws.NetConn().Close()
		}()
		for {
			p, err := c.Read()
			if len(p) > limit || cap(p) > maxKeptMessage {
				t.Fatalf("a message of %d bytes in a buffer of %d", len(p), cap(p))
			}
			var closed *CloseError
			if err != nil && !errors.As(err, &closed) {
				t.Fatalf("ended with %v", err)
			}
			if err != nil {
				return
			}
			if !utf8.Valid(p) {
				t.Fatalf("%q is not UTF-8", p)
			}
		}
	})
}

// testServerWithoutReader leaves the reading to the test.
func testServerWithoutReader(t testing.TB, h *Hub, o UpgradeOptions) (path string, conns chan *Conn) {
	t.Helper()
	conns = make(chan *Conn, 1)
	path = filepath.Join(testkit.ShortDir(t), "ua.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := h.Upgrade(w, r, o); err == nil {
			conns <- c
		}
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close(); h.Close() })
	return path, conns
}
