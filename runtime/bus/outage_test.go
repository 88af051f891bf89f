package bus

import (
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/testkit"
)

func TestBus_comesBackAfterServerIsKilled(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
		b.Join("demo", "lobby")
		b.settled(t)
		s.Kill()
		testkit.Eventually(t, 5*time.Second, "both notice", func() bool { return !a.Up() && !b.Up() })
		a.Publish(say("lobby", 1, "lost"))
		if d := a.Stats().Dropped; d != 1 {
			t.Errorf("%d dropped while down, want 1", d)
		}
		b.Join("demo", "joined-while-down")
		s.Restart()
		a.waitUp(t)
		b.waitUp(t)
		b.settled(t)
		a.Publish(say("lobby", 2, "again"))
		a.Publish(say("joined-while-down", 1, "again"))
		testkit.Eventually(t, 5*time.Second, "b hears both channels again", func() bool { return b.count() == 2 })
		if n := a.Stats().Reconnects; n != 1 {
			t.Errorf("%d reconnects, want 1", n)
		}
		if up, down := a.happened("state true"), a.happened("state false"); up != 2 || down != 1 {
			t.Errorf("told up %d times and down %d times, want 2 and 1", up, down)
		}
	})
}

func TestBus_noticesFrozenServer(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		a, b := upPeer(t, testLink(s), "ua-a"), upPeer(t, testLink(s), "ua-b")
		b.Join("demo", "lobby")
		b.settled(t)
		s.Freeze()
		start := time.Now()
		stop := make(chan struct{})
		var publishing sync.WaitGroup
		publishing.Go(func() { // the writer waits at a barrier: that must end, too
			for i := int64(1); ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
					a.Publish(say("lobby", i, strings.Repeat("x", 1000)))
				}
			}
		})
		testkit.Eventually(t, 7*time.Second, "both notice", func() bool { return !a.Up() && !b.Up() })
		t.Logf("noticed after %v", time.Since(start))
		close(stop)
		publishing.Wait()
		s.Thaw()
		a.waitUp(t)
		b.waitUp(t)
		b.settled(t)
		before := b.count()
		a.Publish(say("lobby", 1000000, "after"))
		testkit.Eventually(t, 5*time.Second, "b hears a again", func() bool { return b.count() > before })
	})
}

func TestBus_goesToNextServer(t *testing.T) {
	t.Parallel()
	closed, refusing, good := "", testkit.StartIRC(t, NgIRCd), testkit.StartIRC(t, NgIRCd)
	closed = testkit.FreeAddr(t)
	link := testLink(good) // its password is not refusing's
	link.Servers = []string{closed, refusing.Addr, good.Addr}
	a := upPeer(t, link, "ua-a")
	if got := a.Stats().Server; got != good.Addr {
		t.Errorf("on %s, want %s", got, good.Addr)
	}
}

func TestBus_nickTaken(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		watcher := upPeer(t, link, "watcher")
		a, b := upPeer(t, link, "ua-same"), (*peer)(nil)
		b = upPeer(t, link, "ua-same")
		if na, nb := a.Stats().Nick, b.Stats().Nick; na != "ua-same" || baseNick(nb) != "ua-same" || na == nb {
			t.Fatalf("nicks %q and %q", na, nb)
		}
		a.Close()
		b.settled(t)
		watcher.settled(t)
		if watcher.happened("gone ua-same") != 0 {
			t.Error("told that the peer is gone while it is there under another nick")
		}
		b.Close()
		testkit.Eventually(t, 5*time.Second, "the peer is gone", func() bool { return watcher.happened("gone ua-same") == 1 })
		upPeer(t, link, "a nick that no server takes, \r\nQUIT :日本語 and longer than any server would take it for granted")
	})
}

func TestBus_tellsWhoCameAndWent(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		before := upPeer(t, link, "before")
		a := upPeer(t, link, "ua-a")
		testkit.Eventually(t, 5*time.Second, "who was there before us", func() bool { return a.happened("here before") == 1 })
		stays, goes := upPeer(t, link, "stays"), upPeer(t, link, "goes")
		testkit.Eventually(t, 5*time.Second, "who came", func() bool { return a.happened("here stays") == 1 && a.happened("here goes") == 1 })
		before.Close()
		testkit.Eventually(t, 5*time.Second, "who went", func() bool { return a.happened("gone before") == 1 })
		s.Kill()
		testkit.Eventually(t, 5*time.Second, "the server is gone", func() bool { return !a.Up() && !stays.Up() && !goes.Up() })
		goes.Close()
		s.Restart()
		testkit.Eventually(t, 10*time.Second, "who did not come back", func() bool { return a.happened("gone goes") == 1 })
		if a.happened("gone stays") != 0 || a.happened("gone ua-a") != 0 {
			t.Errorf("told that peers are gone which came back, or we ourselves")
		}
	})
}

// The processes of a network learn of a new link one after the other. All of them speak all the time.
func TestBus_movesToAnotherLinkWithoutLoss(t *testing.T) {
	t.Parallel()
	first, second := testkit.StartIRC(t, InspIRCd), testkit.StartIRC(t, NgIRCd)
	from, to := testLink(first), testLink(second)
	from.Active, to.Name, to.Channels = false, "second", 5
	a, b := upPeer(t, testLink(first), "ua-a"), upPeer(t, testLink(first), "ua-b")
	for _, p := range []*peer{a, b} {
		p.Join("demo", "lobby")
		p.settled(t)
	}
	sent := int64(0)
	publish := func(what string, until func() bool) {
		t.Helper()
		testkit.Eventually(t, 15*time.Second, what, func() bool {
			sent++
			a.Publish(say("lobby", sent, "moving"))
			b.Publish(say("lobby", sent, "moving"))
			return until()
		})
	}
	alone := func(p *peer) bool {
		p.Bus.mu.Lock()
		defer p.Bus.mu.Unlock()
		return len(p.nets) == 1 && p.Stats().Link == "second"
	}
	a.Reload([]Link{from, to})
	later := time.Now().Add(fast().settle / 2)
	publish("b learns later", func() bool { return time.Now().After(later) })
	b.Reload([]Link{from, to})
	publish("both have left the old link", func() bool { return alone(a) && alone(b) })
	b.Join("demo", "joined-after-move")
	b.settled(t)
	first.Kill() // nobody is there any more
	a.Publish(say("joined-after-move", 1, "x"))
	testkit.Eventually(t, 5*time.Second, "all arrive", func() bool { return b.count() >= int(sent)+1 && a.count() >= int(sent) })
	for _, p := range []*peer{a, b} {
		next := int64(0)
		for _, e := range p.heard() {
			if next++; e.Channel == "lobby" && e.Seq != next {
				t.Errorf("seq %d where %d was due", e.Seq, next)
			}
		}
		if d := p.Stats().Dropped; d != 0 {
			t.Errorf("%d dropped", d)
		}
		if p.happened("gone ua-a")+p.happened("gone ua-b") != 0 {
			t.Error("told that a peer is gone which moved along")
		}
	}
	a.Reload(nil)
	testkit.Eventually(t, 5*time.Second, "no link, no bus", func() bool { return !a.Up() && a.happened("state false") == 1 })
}

func TestBus_leavesDeadLinkAtOnce(t *testing.T) {
	t.Parallel()
	first, second := testkit.StartIRC(t, NgIRCd), testkit.StartIRC(t, NgIRCd)
	a := upPeer(t, testLink(first), "ua-a")
	first.Kill()
	to := testLink(second)
	to.Name = "second"
	a.Reload([]Link{to})
	testkit.Eventually(t, 5*time.Second, "up on the second", func() bool { return a.Up() && a.Stats().Link == "second" })
	bad, more := to, to
	bad.Name, bad.Key = "bad", nil
	a.Reload([]Link{bad})
	more.Servers = append([]string{"127.0.0.1:1"}, to.Servers...)
	a.Reload([]Link{more})
	testkit.Eventually(t, 5*time.Second, "the longer list is taken over", func() bool {
		n := a.out.Load()
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.link.Servers) == 2
	})
	if st := a.Stats(); !st.Up || st.Link != "second" || st.Reconnects != 1 {
		t.Errorf("after a broken link and a longer list of servers: %+v", st)
	}
}

func TestBus_withoutLinkStaysDown(t *testing.T) { // alone: it counts goroutines
	s := testkit.StartIRC(t, NgIRCd)
	a := Open(Config{})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := Open(Config{})
	b.Close()
	t.Cleanup(a.Close)
	a.Join("demo", "lobby")
	a.Publish(say("lobby", 1, "x"))
	if a.Up() || a.Stats().Dropped != 1 {
		t.Errorf("up %v, stats %+v", a.Up(), a.Stats())
	}
	if _, err := a.Ping(t.Context()); err != ErrDown {
		t.Errorf("Ping: %v", err)
	}
	if room := a.Room("demo", "lobby"); room != 0 {
		t.Errorf("room for %d bytes", room)
	}
	a.Reload([]Link{testLink(s)})
	testkit.Eventually(t, 5*time.Second, "up after a link was added", a.Up)
	a.Reload(nil)
	testkit.Eventually(t, 5*time.Second, "down after all links were removed", func() bool { return !a.Up() && a.Stats().Link == "" })
	a.Close()
}
