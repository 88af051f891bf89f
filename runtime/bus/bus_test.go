package bus

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eachServer(t *testing.T, test func(t *testing.T, s *testkit.IRCServer)) {
	for _, kind := range []string{InspIRCd, NgIRCd} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, testkit.StartIRC(t, kind))
		})
	}
}

func testLink(s *testkit.IRCServer) Link {
	return Link{
		Name: "main", Kind: s.Kind, Servers: []string{s.Addr}, Password: s.Password, Key: []byte("0123456789abcdef0123456789abcdef"),
		Channels: 16, MaxLine: s.MaxLine, Active: true,
	}
}

// peer is a bus and what it heard.
type peer struct {
	*Bus
	mu     sync.Mutex
	got    []*envelope.Envelope
	events []string
}

// fast shortens the waits that are not what a test is about.
func fast() *timing {
	t := defaultTiming
	t.tick, t.backoff, t.maxBackoff = 20*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond
	t.grace, t.settle, t.linger = 1500*time.Millisecond, 300*time.Millisecond, 600*time.Millisecond
	return &t
}

func openPeer(t testing.TB, link Link, nick string) *peer {
	t.Helper()
	return newPeer(t, Config{Link: link, Nick: nick, timing: fast()})
}

func newPeer(t testing.TB, cfg Config) *peer {
	p := &peer{}
	note := func(what string) func(string) {
		return func(nick string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, what+" "+nick)
		}
	}
	cfg.Gone, cfg.Here = note("gone"), note("here")
	cfg.State = func(up bool) { note("state")(fmt.Sprint(up)) }
	cfg.Receive = func(e *envelope.Envelope) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, e)
	}
	p.Bus = Open(cfg)
	t.Cleanup(p.Close)
	return p
}

func upPeer(t testing.TB, link Link, nick string) *peer {
	t.Helper()
	p := openPeer(t, link, nick)
	p.waitUp(t)
	return p
}

func (p *peer) waitUp(t testing.TB) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, "the bus is up", p.Up)
}

// settled waits until the server has taken all that the peer has asked for.
func (p *peer) settled(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := p.Ping(ctx); err != nil {
		t.Fatalf("cannot ping: %v", err)
	}
}

func (p *peer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

func (p *peer) heard() []*envelope.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*envelope.Envelope(nil), p.got...)
}

func (p *peer) happened(event string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.events {
		if e == event {
			n++
		}
	}
	return n
}

func say(channel string, seq int64, text string) *envelope.Envelope {
	return &envelope.Envelope{
		Kind: envelope.Say, Tenant: "demo", Channel: channel, Epoch: "e1", Seq: seq, ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", User: "u1",
		Name: "太郎", Text: text, At: 1700000000000, Origin: "n1/s1/ua",
	}
}

func TestBus_deliversToThoseWhoJoined(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a, b, c := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b"), upPeer(t, link, "ua-c")
		a.Join("demo", "lobby")
		b.Join("demo", "lobby")
		a.settled(t)
		b.settled(t)
		want := say("lobby", 1, "こんにちは \" \\ \x00 \r\n hello")
		c.Publish(want) // without having joined
		testkit.Eventually(t, 5*time.Second, "a and b hear c", func() bool { return a.count() == 1 && b.count() == 1 })
		got := a.heard()[0]
		if got.Text != want.Text || got.Seq != 1 || got.Name != want.Name || got.Ref {
			t.Errorf("got %+v, want %+v", got, want)
		}
		a.Publish(say("lobby", 2, "from a"))
		a.Publish(&envelope.Envelope{Kind: envelope.Change})
		testkit.Eventually(t, 5*time.Second, "wake-ups reach all", func() bool { return b.count() == 3 && c.count() == 1 })
		b.Leave("demo", "lobby")
		b.settled(t)
		a.Publish(say("lobby", 3, "nobody is left"))
		a.Publish(&envelope.Envelope{Kind: envelope.Change})
		testkit.Eventually(t, 5*time.Second, "the next wake-up reaches b", func() bool { return b.count() >= 4 })
		if last := b.heard()[3]; last.Kind != envelope.Change {
			t.Errorf("b heard %+v after it left", last)
		}
		if a.count() != 1 {
			t.Error("a hears itself")
		}
	})
}

func TestBus_interestIsCounted(t *testing.T) {
	t.Parallel()
	s := testkit.StartIRC(t, NgIRCd)
	link := testLink(s)
	link.Channels = 1 // every KMS channel shares the one IRC channel
	a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
	b.Join("demo", "x")
	b.Join("demo", "x")
	b.Join("demo", "y")
	b.Leave("demo", "x")
	b.Leave("demo", "y")
	b.Leave("demo", "never-joined")
	b.settled(t)
	a.Publish(say("x", 1, "still here"))
	testkit.Eventually(t, 5*time.Second, "one Join of two is left", func() bool { return b.count() == 1 })
	b.Leave("demo", "x")
	b.settled(t)
	if n := b.Stats().Channels; n != 1 {
		t.Errorf("on %d IRC channels after the last Leave, want the control channel alone", n)
	}
}

func TestBus_burstArrivesCompleteAndInOrder(t *testing.T) { // not beside others: it is timed
	const total = 8000
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a := upPeer(t, link, "ua-a")
		listeners := []*peer{upPeer(t, link, "ua-b"), upPeer(t, link, "ua-c")}
		for _, l := range listeners {
			for ch := range 8 {
				l.Join("demo", fmt.Sprint("ch", ch))
			}
			l.settled(t)
		}
		start := time.Now()
		for i := range total {
			a.Publish(say(fmt.Sprint("ch", i%8), int64(i/8+1), "a message of an ordinary length, 日本語も少し"))
		}
		for _, l := range listeners {
			testkit.Eventually(t, 60*time.Second, "all arrive", func() bool { return l.count() == total })
			next := map[string]int64{}
			for _, e := range l.heard() {
				if next[e.Channel]++; e.Seq != next[e.Channel] {
					t.Fatalf("channel %s: seq %d where %d was due", e.Channel, e.Seq, next[e.Channel])
				}
			}
		}
		took := time.Since(start)
		t.Logf("%d envelopes to 2 receivers in %v, %d lines", total, took, a.Stats().LinesOut)
		if took > 20*time.Second {
			t.Errorf("the burst took %v: the server was overrun", took)
		}
		st := a.Stats()
		if st.Dropped != 0 {
			t.Errorf("%d dropped", st.Dropped)
		}
		if s.Kind == InspIRCd && st.LinesOut > total/4 { // ngIRCd's lines hold one or two
			t.Errorf("%d lines: they are not packed", st.LinesOut)
		}
	})
}
