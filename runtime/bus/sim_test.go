package bus

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// These tests run whole buses, with the waits that they have in earnest, against a network in memory and on synctest's clock: it
// goes on only when nobody has anything to do, and the bubble fails when a goroutine is left.

func simLink(servers ...string) Link {
	return Link{Name: "main", Kind: InspIRCd, Servers: servers, Key: []byte("0123456789abcdef"), Channels: 4, Active: true}
}

func simPeer(t *testing.T, n *simNet, link Link, nick string) *peer {
	return newPeer(t, Config{Link: link, Nick: nick, dial: n.dial})
}

func (n *simNet) dialled() []simDial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]simDial(nil), n.dials...)
}

func wantUp(t *testing.T, up bool, peers ...*peer) {
	t.Helper()
	synctest.Wait()
	for _, p := range peers {
		if p.Up() != up {
			t.Fatalf("up %v: %+v", p.Up(), p.Stats())
		}
	}
}

func TestSim_waitsLongerAndLongerAndTriesEveryServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSimNet(512, "a:1", "b:1")
		n.kill("a:1")
		n.kill("b:1")
		p := simPeer(t, n, simLink("a:1", "b:1"), "ua-a")
		time.Sleep(time.Minute)
		wantUp(t, false, p)
		tries := n.dialled()
		for i, d := range tries {
			if want := []string{"a:1", "b:1"}[i%2]; d.server != want {
				t.Fatalf("attempt %d went to %s, want %s", i, d.server, want)
			}
			if i == 0 {
				continue
			}
			gap, step := d.at.Sub(tries[i-1].at), min(defaultTiming.backoff<<(i-1), defaultTiming.maxBackoff)
			if gap < step/2 || gap > step*3/2 {
				t.Errorf("attempt %d came after %v, want about %v", i, gap, step)
			}
		}
		n.start("b:1")
		time.Sleep(2 * defaultTiming.maxBackoff * 3 / 2)
		wantUp(t, true, p)
		before := len(n.dialled())
		n.kill("b:1")
		n.start("a:1")
		time.Sleep(time.Second) // the waits have begun anew
		wantUp(t, true, p)
		if tries := len(n.dialled()) - before; tries > 3 {
			t.Errorf("%d attempts", tries)
		}
	})
}

// A server that hangs, in whatever way, is left for the next one.
func TestSim_leavesAServerThatHangs(t *testing.T) {
	for name, c := range map[string]struct {
		hang   func(*simNet)
		within time.Duration
	}{
		"frozen":        {func(n *simNet) { n.freeze("a:1") }, defaultTiming.silence + time.Second},
		"answers none":  {func(n *simNet) { n.set("a:1", func(s *simServer) { s.deaf = true }) }, 5 * defaultTiming.silence},
		"lets none in":  {func(n *simNet) { n.set("a:1", func(s *simServer) { s.mute = true }); n.drop("a:1") }, defaultTiming.register + time.Second},
		"frozen at all": {func(n *simNet) { n.freeze("a:1"); n.drop("a:1") }, defaultTiming.silence + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newSimNet(512, "a:1", "b:1")
				p, other := simPeer(t, n, simLink("a:1", "b:1"), "ua-a"), simPeer(t, n, simLink("b:1"), "ua-b")
				time.Sleep(time.Second)
				wantUp(t, true, p, other)
				chatter, stop := make(chan struct{}), make(chan struct{})
				go func() { // what a deaf server still passes on is no sign that it listens
					defer close(chatter)
					for {
						select {
						case <-stop:
							return
						case <-time.After(100 * time.Millisecond):
							other.Publish(&envelope.Envelope{Kind: envelope.Change})
						}
					}
				}()
				c.hang(n)
				time.Sleep(c.within)
				close(stop)
				<-chatter
				wantUp(t, true, p)
				if got := p.Stats().Server; got != "b:1" {
					t.Errorf("after %v still on %s", c.within, got)
				}
				n.unfreeze("a:1")
			})
		})
	}
}

// drop ends a server's connections; it takes new ones.
func (n *simNet) drop(server string) {
	n.kill(server)
	n.start(server)
}

// Processes learn of another link seconds apart, in any order; what anybody says arrives all the same.
func TestSim_movesWithoutLoss(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 0))
			n := newSimNet(512, "a:1", "b:1")
			from, to := simLink("a:1"), simLink("b:1")
			n.split("b:1", 1) // they are two networks
			to.Name, to.Channels = "second", 7
			peers := []*peer{simPeer(t, n, from, "ua-a"), simPeer(t, n, from, "ua-b"), simPeer(t, n, from, "ua-c")}
			for _, p := range peers {
				p.Join("demo", "lobby")
			}
			time.Sleep(time.Second)
			wantUp(t, true, peers...)
			var moves sync.WaitGroup
			for _, p := range peers {
				wait := time.Duration(draw.Int64N(int64(defaultTiming.settle - 500*time.Millisecond)))
				moves.Go(func() {
					time.Sleep(wait)
					p.Reload([]Link{to})
				})
			}
			const said = 400
			for i := range said {
				for _, p := range peers {
					p.Publish(say("lobby", int64(i+1), "moving"))
				}
				time.Sleep(50 * time.Millisecond)
			}
			moves.Wait()
			n.kill("a:1") // nobody is there any more
			time.Sleep(time.Second)
			for _, p := range peers {
				if st := p.Stats(); p.count() != said*(len(peers)-1) || st.Link != "second" || st.Dropped != 0 || p.happened("gone ua-b") != 0 {
					t.Fatalf("seed %d: heard %d of %d, told %v, %+v", seed, p.count(), said*(len(peers)-1), p.events, st)
				}
			}
		})
	}
}

// There is nobody left to wait for on a link that is dead.
func TestSim_leavesADeadLinkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSimNet(512, "a:1", "b:1")
		p := simPeer(t, n, simLink("a:1"), "ua-a")
		time.Sleep(time.Second)
		n.kill("a:1")
		to := simLink("b:1")
		to.Name = "second"
		p.Reload([]Link{to})
		time.Sleep(defaultTiming.settle / 2)
		wantUp(t, true, p)
		if st := p.Stats(); st.Link != "second" {
			t.Errorf("%+v", st)
		}
	})
}

// TestSim_throughTroubles has processes talk while servers freeze, die and lose each other at random: nobody ever hears a thing
// twice or cut, or out of the order in which it went into one connection; afterwards everybody hears everybody, and knows who is there.
func TestSim_throughTroubles(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) { newTroubles(t, seed).run() })
	}
}

type troubles struct {
	t     *testing.T
	seed  uint64
	draw  *rand.Rand
	net   *simNet
	peers []*peer
	next  map[string]int64 // by sender and channel: seq
}

var simServers = []string{"a:1", "b:1", "c:1"}

func newTroubles(t *testing.T, seed uint64) *troubles {
	r := &troubles{t: t, seed: seed, draw: rand.New(rand.NewPCG(seed, 1)), net: newSimNet(512, simServers...), next: map[string]int64{}}
	for i := range simServers {
		servers := append(append([]string(nil), simServers[i:]...), simServers[:i]...)
		p := simPeer(t, r.net, simLink(servers...), "process-"+string(rune('a'+i))) // not shorter than what a server would call it
		for channel := range 4 {
			p.Join("demo", fmt.Sprint("c", channel))
		}
		r.peers = append(r.peers, p)
	}
	return r
}

func (r *troubles) run() {
	time.Sleep(time.Second)
	wantUp(r.t, true, r.peers...)
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() { r.chaos(rand.New(rand.NewPCG(r.seed, 2)), stop) })
	for range 300 {
		synctest.Wait() // so that it is plain into which connection it goes
		r.speak(r.draw.IntN(4))
		time.Sleep(time.Duration(r.draw.IntN(200)) * time.Millisecond)
	}
	close(stop)
	chaos.Wait()
	time.Sleep(30 * time.Second)
	wantUp(r.t, true, r.peers...)
	var before []int
	for _, p := range r.peers {
		before = append(before, p.count())
	}
	for range 20 {
		r.speak(3)
	}
	time.Sleep(time.Second)
	for i, p := range r.peers {
		if got := p.count() - before[i]; got != 20*3*(len(r.peers)-1) {
			r.t.Errorf("seed %d: in peace %s heard %d", r.seed, p.nick, got)
		}
		r.check(p)
	}
}

// speak has every process publish a few envelopes, some too long for a line, some of channels without history.
func (r *troubles) speak(count int) {
	for _, p := range r.peers {
		for range count {
			channel := fmt.Sprint("c", r.draw.IntN(4))
			key := p.nick + channel
			r.next[key]++
			e := say(channel, r.next[key], strings.Repeat("日本", r.draw.IntN(90)))
			e.Origin, e.At, e.Epoch = p.nick, r.next[key], fmt.Sprint(p.Stats().Reconnects)
			if channel == "c3" {
				e.Seq = 0
			}
			p.Publish(e)
		}
	}
}

// chaos lets one server after the other suffer until stop is closed, then heals all.
func (r *troubles) chaos(draw *rand.Rand, stop chan struct{}) {
	for {
		server := simServers[draw.IntN(len(simServers))]
		heal := func() {}
		switch draw.IntN(5) {
		case 0:
			r.net.kill(server)
			heal = func() { r.net.start(server) }
		case 1:
			r.net.freeze(server)
			heal = func() { r.net.unfreeze(server) }
		case 2:
			r.net.split(server, 1+draw.IntN(2))
			heal = func() { r.net.split(server, 0) }
		case 3: // who leaves it has two nicks when it is back
			r.net.freeze(server)
			r.net.split(server, 3)
			heal = func() { r.net.split(server, 0); r.net.unfreeze(server) }
		}
		over := false
		select {
		case <-stop:
			over = true
		case <-time.After(time.Duration(draw.IntN(7000)) * time.Millisecond):
		}
		heal()
		if over {
			return
		}
	}
}

func (r *troubles) check(p *peer) {
	last, heard := map[string]int64{}, map[string]bool{}
	for _, e := range p.heard() {
		key := e.Origin + e.Channel + e.Epoch // a server that thaws says what it was told on a connection long left
		if e.Ref {                            // as At is not sent along, its seq says which one it is
			e.At = e.Seq
		} else if strings.Trim(e.Text, "日本") != "" {
			r.t.Fatalf("seed %d: a text came broken: %q", r.seed, e.Text)
		}
		if e.At <= last[key] {
			r.t.Fatalf("seed %d: %s heard %d of %s after %d", r.seed, p.nick, e.At, key, last[key])
		}
		last[key] = e.At
		if key := fmt.Sprint(e.Origin, e.Channel, " ", e.At); heard[key] {
			r.t.Fatalf("seed %d: %s heard %s twice", r.seed, p.nick, key)
		} else {
			heard[key] = true
		}
	}
	if st := p.Stats(); st.Refused != 0 || st.Malformed != 0 {
		r.t.Errorf("seed %d: %+v", r.seed, st)
	}
	for _, o := range r.peers {
		if here := p.happened("here "+o.nick) - p.happened("gone "+o.nick); o != p && here != 1 || o == p && here != 0 {
			r.t.Errorf("seed %d: %s holds %s for there %d times: %v", r.seed, p.nick, o.nick, here, p.events)
		}
	}
}
