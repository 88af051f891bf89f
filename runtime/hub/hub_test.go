package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(sinkEnv) != "" {
		runSink()
	}
	goleak.VerifyTestMain(m)
}

const testEpoch = "e1"

var testChannel = Channel{PK: 7, Tenant: "demo", ID: "world", Epoch: testEpoch, History: "log"}

// lineCodec makes a text frame "seq kind user text" of each envelope.
type lineCodec struct{}

func (lineCodec) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for _, e := range batch {
		dst = AppendText(dst, fmt.Appendf(nil, "%d %s %s %s", e.Seq, e.Kind, e.User, e.Text))
	}
	return dst
}

// fakeLog is the log: entries by seq from first to head.
type fakeLog struct {
	mu      sync.Mutex
	epoch   string
	first   int64
	entries []*envelope.Envelope // entries[i] has seq i+1
	reads   int
	heads   int
	fail    error
	gate    chan struct{} // when set, reads wait for it
}

func newFakeLog(n int) *fakeLog {
	l := &fakeLog{epoch: testEpoch, first: 1}
	for range n {
		l.add()
	}
	return l
}

func (l *fakeLog) add() *envelope.Envelope {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := int64(len(l.entries) + 1)
	e := say(seq)
	e.Epoch = l.epoch
	l.entries = append(l.entries, e)
	return e
}

func say(seq int64) *envelope.Envelope {
	return &envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: "world", Epoch: testEpoch, Seq: seq,
		ID: "m" + strconv.FormatInt(seq, 10), User: "anna", Text: "t" + strconv.FormatInt(seq, 10)}
}

func (l *fakeLog) Read(ctx context.Context, pk, after, upTo int64, limit int) ([]*envelope.Envelope, error) {
	l.mu.Lock()
	gate := l.gate
	l.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.fail != nil {
		return nil, l.fail
	}
	var out []*envelope.Envelope
	for seq := max(after+1, l.first); seq <= min(upTo, int64(len(l.entries))) && len(out) < limit; seq++ {
		out = append(out, l.entries[seq-1])
	}
	return out, nil
}

func (l *fakeLog) Head(_ context.Context, pk int64) (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heads++
	if l.fail != nil {
		return Head{}, l.fail
	}
	return Head{PK: pk, Tenant: "demo", Channel: "world", Epoch: l.epoch, First: l.first, Seq: int64(len(l.entries))}, nil
}

func (l *fakeLog) setFail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// setFirst removes what is before it.
func (l *fakeLog) setFirst(first int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = first
}

// setTexts changes what is stored; who has read it before keeps what it was.
func (l *fakeLog) setTexts(texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, text := range texts {
		if e := *l.entries[i]; e.Text != text {
			e.Text = text
			l.entries[i] = &e
		}
	}
}

func (l *fakeLog) counts() (reads, heads int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads, l.heads
}

func testHub(t testing.TB, o Options) *Hub {
	t.Helper()
	if o.Codec == nil {
		o.Codec = lineCodec{}
	}
	if o.Log == nil {
		o.Log = newFakeLog(0)
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 100 * time.Millisecond
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = 10 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := New(o)
	t.Cleanup(h.Close)
	return h
}

// testServer upgrades everything that comes to a unix socket and passes the connections on.
func testServer(t testing.TB, h *Hub, o UpgradeOptions) (path string, conns chan *Conn) {
	t.Helper()
	path = filepath.Join(testkit.ShortDir(t), "ua.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return path, serve(t, h, ln, o)
}

func serve(t testing.TB, h *Hub, ln net.Listener, o UpgradeOptions) chan *Conn {
	t.Helper()
	conns := make(chan *Conn, 10000)
	var readers sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := h.Upgrade(w, r, o)
		if err != nil {
			return
		}
		readers.Add(1) // before anybody knows of c: counting must not race with the wait below
		conns <- c
		if read := func() { readAll(c, readers.Done) }; !c.Later(read) {
			go read()
		}
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close(); h.Close(); readers.Wait() })
	return conns
}

// readAll echoes what begins with "echo ", and holds no goroutine while nothing comes.
func readAll(c *Conn, done func()) {
	for {
		p, err := c.Read()
		if err != nil {
			done()
			return
		}
		if bytes.HasPrefix(p, []byte("echo ")) {
			c.Send(AppendText(nil, p))
		}
		if c.Later(func() { readAll(c, done) }) {
			return
		}
	}
}

func dial(t testing.TB, path string) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{
		NetDialContext:  func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
		ReadBufferSize:  512,
		WriteBufferSize: 512,
	}
	ws, _, err := d.Dial("ws://ua/ua/2.0/demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

// client is one connection, both ends of it.
type client struct {
	t    testing.TB
	ws   *websocket.Conn
	conn *Conn
}

func connect(t testing.TB, h *Hub) *client {
	t.Helper()
	path, conns := testServer(t, h, UpgradeOptions{})
	return connectTo(t, path, conns)
}

func connectTo(t testing.TB, path string, conns chan *Conn) *client {
	t.Helper()
	ws := dial(t, path)
	return &client{t, ws, <-conns}
}

func (c *client) join(h *Hub, user string, from *Position) Joined {
	c.t.Helper()
	var joined Joined
	err := h.Subscribe(context.Background(), c.conn, user, testChannel, from, func(j Joined) []byte {
		joined = j
		return AppendText(nil, []byte("joined"))
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.expect("joined")
	return joined
}

func (c *client) next() string {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, p, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatalf("cannot read: %v", err)
	}
	return string(p)
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// expectSeqs reads says of these seqs.
func (c *client) expectSeqs(from, to int64) {
	c.t.Helper()
	for seq := from; seq <= to; seq++ {
		if got := c.next(); !strings.HasPrefix(got, fmt.Sprintf("%d say ", seq)) {
			c.t.Fatalf("got %q, want seq %d", got, seq)
		}
	}
}

// expectNothing proves that nothing else is under way to the client: an echo comes back first.
func (c *client) expectNothing() {
	c.t.Helper()
	c.ws.WriteMessage(websocket.TextMessage, []byte("echo mark"))
	c.expect("echo mark")
}

func (c *client) expectClose(code int) {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, _, err := c.ws.ReadMessage()
		var ce *websocket.CloseError
		if errors.As(err, &ce) {
			if ce.Code != code {
				c.t.Fatalf("closed with %d %q, want %d", ce.Code, ce.Text, code)
			}
			return
		}
		if err != nil {
			c.t.Fatalf("got %v, want close %d", err, code)
		}
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, what, cond)
}
