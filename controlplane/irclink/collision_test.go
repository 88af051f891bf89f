package irclink

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

// Two processes of one nick live on two servers that have lost each other, as when one moved on from a connection that its server
// still holds. When the servers find each other one of the two, or both, must give the nick up: InspIRCd renames, ngIRCd kills.
func TestNetjoin_nickCollision(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testkit.Need(t, kind)
			n := testNetwork(t, kind, 2, nil)
			first, err := n.options(0)
			if err != nil {
				t.Fatal(err)
			}
			second, err := n.options(1)
			if err != nil {
				t.Fatal(err)
			}
			wire := testkit.NewWire(t, second.Peers[0].Address)
			wire.Cut(true)
			second.Peers[0].Address = wire.Addr
			startServer(t, kind, first)
			startServer(t, kind, second)

			var all []*witness
			for _, server := range n.Servers {
				link := testLink(t, kind, n.Password, server.Address)
				link.Key = []byte("the same key for all of them....")
				all = append(all, startWitness(t, link, "same"), startWitness(t, link, "watch"+server.Name))
			}
			for _, w := range all {
				testkit.Eventually(t, 20*time.Second, w.nick+" is up", w.Up)
			}
			wire.Cut(false)
			testkit.Eventually(t, 40*time.Second, "each hears each other", func() bool { return allHeard(all) })
			for _, w := range all {
				testkit.Eventually(t, 10*time.Second, w.nick+" has its name", func() bool {
					name, _, _ := strings.Cut(w.Stats().Nick, "_")
					return name == w.nick
				})
			}
			for _, w := range []*witness{all[1], all[3]} {
				testkit.Eventually(t, 10*time.Second, w.nick+" holds the two for there", func() bool { return w.last("same") == "here" })
			}
			if again := all[0].Stats().Reconnects + all[2].Stats().Reconnects; again == 0 || again > 2 {
				t.Errorf("the two came back %d times, want once each at most", again)
			}
		})
	}
}

// witness is a process that notes whom it hears and what it is told of others.
type witness struct {
	*bus.Bus
	nick  string
	mu    sync.Mutex
	heard map[string]bool
	told  map[string]string // by nick: here or gone, whichever came last
}

func startWitness(t *testing.T, link bus.Link, nick string) *witness {
	w := &witness{nick: nick, heard: map[string]bool{}, told: map[string]string{}}
	note := func(what string) func(string) {
		return func(nick string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told[nick] = what
		}
	}
	w.Bus = bus.Open(bus.Config{Link: link, Nick: nick, Here: note("here"), Gone: note("gone"), Receive: func(e *envelope.Envelope) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heard[e.Origin] = true
	}})
	t.Cleanup(w.Close)
	return w
}

// last is what was last told of a nick.
func (w *witness) last(nick string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[nick]
}

// allHeard has everybody speak and reports whether each has heard all others.
func allHeard(all []*witness) bool {
	complete := true
	for i, w := range all {
		w.Publish(&envelope.Envelope{Kind: probeKind, Origin: string(rune('0' + i))})
		w.mu.Lock()
		complete = complete && len(w.heard) == len(all)-1
		w.mu.Unlock()
	}
	return complete
}
