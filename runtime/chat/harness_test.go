package chat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testStore is an SQLite database with the tenant demo, a world channel "lobby", a guild "guild" and a "quick" one without history.
func testStore(t testing.TB) *store.Store {
	t.Helper()
	ctx := t.Context()
	st, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "kms.db"), store.Options{})
	check(t, err)
	t.Cleanup(func() { st.Close() })
	check(t, st.Migrate(ctx))
	_, err = st.CreateTenant(ctx, store.Tenant{ID: "demo", Name: "Demo"})
	check(t, err)
	for _, ch := range []store.Channel{
		{Tenant: "demo", ID: "lobby", Kind: "world", History: "log"},
		{Tenant: "demo", ID: "guild", Kind: "guild", History: "log"},
		{Tenant: "demo", ID: "quick", Kind: "world", History: "none"},
	} {
		_, err := st.CreateChannel(ctx, ch)
		check(t, err)
	}
	return st
}

func putToken(t testing.TB, st *store.Store, user, token string, expires time.Time) {
	t.Helper()
	check(t, st.PutToken(t.Context(), store.Token{
		Tenant: "demo", User: user, Name: strings.ToUpper(user), Hash: auth.Hash(token), ExpiresAt: expires,
	}))
}

// network is a bus in memory: what one process publishes, the others that joined the channel receive at once.
type network struct {
	mu    sync.Mutex
	ports []*port
}

type port struct {
	net    *network
	on     BusEvents
	mu     sync.Mutex
	joined map[string]int
	cut    atomic.Bool
}

func (n *network) open(on BusEvents) Bus {
	p := &port{net: n, on: on, joined: map[string]int{}}
	n.mu.Lock()
	n.ports = append(n.ports, p)
	n.mu.Unlock()
	return p
}

func (p *port) Publish(e *envelope.Envelope) {
	if p.cut.Load() {
		return
	}
	p.net.mu.Lock()
	others := slices.Clone(p.net.ports)
	p.net.mu.Unlock()
	for _, o := range others {
		if o != p && !o.cut.Load() && (e.Channel == "" || o.has(e.Tenant, e.Channel)) {
			o.on.Receive(e.Clone())
		}
	}
}

func (p *port) has(tenant, channel string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.joined[tenant+"/"+channel] > 0
}

func (p *port) Join(tenant, channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joined[tenant+"/"+channel]++
}

func (p *port) Leave(tenant, channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joined[tenant+"/"+channel]--
}

// lines is a protocol of one text frame a message: kind, channel, seq, user, text.
type lines struct{}

func (lines) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for _, e := range batch {
		dst = hub.AppendText(dst, fmt.Appendf(nil, "%s %s %d %s %s", e.Kind, e.Channel, e.Seq, e.User, e.Text))
	}
	return dst
}

// process is a UA process without a protocol: tests speak to its service directly and read what its clients are sent.
type process struct {
	*Service
	t      testing.TB
	srv    *httptest.Server
	conns  chan *hub.Conn
	closed sync.Once
}

func startProcess(t testing.TB, cfg Config) *process {
	t.Helper()
	if cfg.Log == nil {
		l := chatlog.Open(cfg.Store.(interface{ real() *store.Store }).real(), chatlog.Options{})
		t.Cleanup(func() { l.Close() })
		cfg.Log = l
	}
	cfg.Hub = &hub.Options{Codec: lines{}, CloseTimeout: 200 * time.Millisecond}
	p := &process{Service: New(cfg), t: t, conns: make(chan *hub.Conn, 1)}
	p.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := p.Hub().Upgrade(w, r, hub.UpgradeOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		p.conns <- conn
	}))
	t.Cleanup(p.close)
	check(t, p.Ready(t.Context()))
	return p
}

func (p *process) close() {
	p.closed.Do(func() {
		p.Service.Close()
		p.srv.Close()
	})
}

// realStore lets startProcess open a log on a Store that may be wrapped.
type realStore struct{ *store.Store }

func (r realStore) real() *store.Store { return r.Store }

// testConfig is a process's configuration on st and n.
func testConfig(st *store.Store, n *network, origin string) Config {
	return Config{Store: realStore{st}, Bus: n.open, Origin: origin, Limits: Limits{PerSecond: 10000, Burst: 10000}}
}

// client is both ends of one logged-in connection.
type client struct {
	t       testing.TB
	p       *process
	id      Identity
	conn    *hub.Conn
	ws      *websocket.Conn
	frames  chan string
	removed chan string
	notices chan store.Deprecation
	ended   chan string
}

func (c *client) Identity() Identity             { return c.id }
func (c *client) Conn() *hub.Conn                { return c.conn }
func (c *client) Removed(channel, code string)   { c.removed <- channel + " " + code }
func (c *client) Deprecated(d store.Deprecation) { c.notices <- d }
func (c *client) End(code int, reason string) {
	c.ended <- fmt.Sprint(code, " ", reason)
	c.conn.Close(code, reason)
}

func (p *process) login(token string) *client {
	p.t.Helper()
	id, err := p.Login(p.t.Context(), "demo", token)
	check(p.t, err)
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(p.srv.URL, "http"), nil)
	check(p.t, err)
	c := &client{
		t: p.t, p: p, id: id, conn: <-p.conns, ws: ws,
		frames: make(chan string, 10000), removed: make(chan string, 10), notices: make(chan store.Deprecation, 10), ended: make(chan string, 10),
	}
	var wg sync.WaitGroup
	wg.Go(c.serve)
	wg.Go(c.read)
	check(p.t, p.Attach(c))
	p.t.Cleanup(func() { ws.Close(); wg.Wait() })
	return c
}

func (c *client) serve() {
	for {
		if _, err := c.conn.Read(); err != nil {
			c.p.Detach(c)
			return
		}
	}
}

func (c *client) read() {
	for {
		_, frame, err := c.ws.ReadMessage()
		if err != nil {
			close(c.frames)
			return
		}
		c.frames <- string(frame)
	}
}

func (c *client) join(channel string) error {
	c.t.Helper()
	return c.joinFrom(channel, nil)
}

func (c *client) joinFrom(channel string, from *hub.Position) error {
	return c.p.Join(c.t.Context(), c, channel, from, func(hub.Joined) []byte { return nil })
}

func (c *client) mustJoin(channels ...string) *client {
	c.t.Helper()
	for _, channel := range channels {
		check(c.t, c.join(channel))
	}
	return c
}

func (c *client) say(r SayRequest) (chatlog.Receipt, error) {
	c.t.Helper()
	type result struct {
		receipt chatlog.Receipt
		err     error
	}
	got := make(chan result, 2)
	c.p.Say(c, r, func(receipt chatlog.Receipt, err error) { got <- result{receipt, err} })
	select {
	case r := <-got:
		return r.receipt, r.err
	case <-time.After(10 * time.Second):
		c.t.Fatal("no answer to a say within 10 s")
		panic("unreachable")
	}
}

func (c *client) mustSay(channel, text string) chatlog.Receipt {
	c.t.Helper()
	r, err := c.say(SayRequest{Channel: channel, Text: text})
	check(c.t, err)
	return r
}

// expect waits for the next frame that is no presence.
func (c *client) expect(want string) {
	c.t.Helper()
	for {
		got := c.next(5 * time.Second)
		if strings.HasPrefix(got, "join ") || strings.HasPrefix(got, "leave ") {
			continue
		}
		if got != want {
			c.t.Fatalf("got frame %q, want %q", got, want)
		}
		return
	}
}

// await reads on until that frame has come.
func (c *client) await(want string) {
	c.t.Helper()
	for c.next(10*time.Second) != want {
		continue
	}
}

func (c *client) next(within time.Duration) string {
	c.t.Helper()
	select {
	case got, ok := <-c.frames:
		if !ok {
			c.t.Fatal("the connection was closed")
		}
		return got
	case <-time.After(within):
		c.t.Fatalf("no frame within %v", within)
		return ""
	}
}

func expectOn(t testing.TB, ch <-chan string, within time.Duration, want string) {
	t.Helper()
	select {
	case got := <-ch:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(within):
		t.Fatalf("no %q within %v", want, within)
	}
}

func expectCode(t testing.TB, err error, code string, retry bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want the code %s", err, code)
	}
	if e.Code != code || e.Retry != retry {
		t.Fatalf("error is %v (retry %v), want the code %s (retry %v)", err, e.Retry, code, retry)
	}
}

// faultyStore fails on demand, as a database that is away.
type faultyStore struct {
	*store.Store
	away   atomic.Bool
	frozen atomic.Bool // the changes feed alone
}

func (f *faultyStore) real() *store.Store { return f.Store }

func (f *faultyStore) fault() error {
	if f.away.Load() {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, net.ErrClosed)
	}
	return nil
}

func (f *faultyStore) ChangesHead(ctx context.Context) (string, int64, error) {
	if err := f.fault(); err != nil || f.frozen.Load() {
		return "", 0, errors.Join(store.ErrUnavailable, err)
	}
	return f.Store.ChangesHead(ctx)
}

func (f *faultyStore) ChangesAfter(ctx context.Context, n int64, limit int) (string, []store.Change, error) {
	if err := f.fault(); err != nil || f.frozen.Load() {
		return "", nil, errors.Join(store.ErrUnavailable, err)
	}
	return f.Store.ChangesAfter(ctx, n, limit)
}

func (f *faultyStore) LookupToken(ctx context.Context, tenant, hash string) (store.Token, error) {
	if err := f.fault(); err != nil {
		return store.Token{}, err
	}
	return f.Store.LookupToken(ctx, tenant, hash)
}
