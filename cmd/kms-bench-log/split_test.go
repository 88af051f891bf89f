package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/testkit"
)

// member talks and listens in one channel. Its connection has to last.
type member struct {
	*client
	mu      sync.Mutex
	last    int64 // seq
	head    int64 // of what was acknowledged to it
	owed    int   // messages that were sent and are not acknowledged
	arrived []arrival
}

// arrival is when a message came, and how long it took.
type arrival struct {
	at   time.Time
	took time.Duration
}

// take holds what comes to be without a hole.
func (m *member) take(o op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch string(o.name) {
	case "ack":
		m.head = max(m.head, o.seq)
		m.owed--
	case "nack":
		return fmt.Errorf("refused: %s", o.whole)
	case "msg":
		if o.seq != m.last+1 {
			return fmt.Errorf("in %s, %d came after %d", m.channel, o.seq, m.last)
		}
		m.last = o.seq
		took, err := age(o.id)
		m.arrived = append(m.arrived, arrival{time.Now(), took})
		return err
	}
	return nil
}

// say sends a message; an error shows when reading.
func (m *member) say() {
	m.mu.Lock()
	m.owed++
	m.mu.Unlock()
	_ = m.send(1)
}

// between are the times that messages took which were sent in a span of time and had arrived by its end.
func (m *member) between(from, to time.Time) (times []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arrived {
		if sent := a.at.Add(-a.took); sent.After(from) && sent.Before(to) {
			times = append(times, a.took)
		}
	}
	return times
}

// party is members of the same channels on two processes, talking.
type party struct {
	members []*member
	here    *ua
	there   *ua
	wait    func() error
	stop    func()
}

// startParty has users on both processes talk in each of the channels, every 50 ms.
func startParty(t *testing.T, ctx context.Context, here, there *ua, channels int) *party {
	t.Helper()
	p := &party{here: here, there: there}
	byClient := map[*client]*member{}
	var clients []*client
	for n := range 2 * channels {
		c, err := []*ua{here, there}[n%2].enter(ctx, n, channelName(n/2))
		if err != nil {
			t.Fatal(err)
		}
		m := &member{client: c}
		p.members, clients, byClient[c] = append(p.members, m), append(clients, c), m
	}
	talking, hush := context.WithCancel(ctx)
	var talk sync.WaitGroup
	for n, m := range p.members {
		if n%4 == 3 {
			continue // in every other channel one side only listens: nothing it says itself tells it what it lacks
		}
		talk.Go(func() {
			for talking.Err() == nil {
				m.say()
				sleep(talking, 50*time.Millisecond)
			}
		})
	}
	wait, stop := readAll(clients, func(c *client, o op) error { return byClient[c].take(o) })
	p.wait = wait
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			hush()
			talk.Wait()
			p.settle(ctx)
			stop()
		})
	}
	t.Cleanup(func() {
		p.stop()
		leaveAll(clients)
	})
	return p
}

// settle waits until all that was sent is acknowledged and everybody has it, if that ever comes.
func (p *party) settle(ctx context.Context) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && p.behind() > 0 && ctx.Err() == nil; {
		time.Sleep(50 * time.Millisecond)
	}
}

// behind counts the members that lack something: a message, or an acknowledgement.
func (p *party) behind() (n int) {
	heads := map[string]int64{}
	for _, m := range p.members {
		m.mu.Lock()
		heads[m.channel] = max(heads[m.channel], m.head, m.last)
		m.mu.Unlock()
	}
	for _, m := range p.members {
		m.mu.Lock()
		if m.last < heads[m.channel] || m.owed > 0 {
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// during is how long messages took, over all members, that were sent in a span of time.
func (p *party) during(from, to time.Time) (times []time.Duration) {
	for _, m := range p.members {
		times = append(times, m.between(from, to)...)
	}
	slices.Sort(times)
	return times
}

// TestLinkedServers_losesNothing has users of two UA processes, each on its own of two linked IRC servers, talk while the servers
// lose each other, and while one of them is frozen. Nobody is cut off, nothing is missing, doubled or out of order, and what the bus
// does not carry comes about a second late.
func TestLinkedServers_losesNothing(t *testing.T) {
	testkit.Need(t, "inspircd")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const channels = 4
	h, err := newHost(ctx, testBuilds, "sqlite", 2*channels, channels)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	var link *testkit.Wire
	var servers []*ircd
	servers, err = h.startIRC(2, func(peer string) (string, error) {
		link = testkit.NewWire(t, peer)
		return link.Addr, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	here, err := h.startUA(ctx, servers[0])
	if err != nil {
		t.Fatal(err)
	}
	there, err := h.startUA(ctx, servers[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitCrossing(ctx, here, there); err != nil {
		t.Fatal(err)
	}
	p := startParty(t, ctx, here, there, channels)
	sleep(ctx, 2*time.Second)

	p.trouble(t, ctx, "split", 6*time.Second, func() { link.Cut(true) }, func() { link.Cut(false) })
	signal := func(s syscall.Signal) func() {
		return func() {
			if err := servers[1].cmd.Process.Signal(s); err != nil {
				t.Error(err)
			}
		}
	}
	p.trouble(t, ctx, "frozen", 4*time.Second, signal(syscall.SIGSTOP), signal(syscall.SIGCONT))

	p.stop()
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	if n := p.behind(); n > 0 {
		t.Errorf("%d of %d never got everything", n, len(p.members))
	}
	var got atomic.Int64
	for _, m := range p.members {
		got.Add(int64(len(m.arrived)))
	}
	t.Logf("%d messages received", got.Load())
}

// late is how long a message may take that the bus does not carry: the next look at the log, on a machine that does much else.
const late = 4 * time.Second

// trouble lasts for a while; then the bus has to work again by itself.
func (p *party) trouble(t *testing.T, ctx context.Context, what string, lasts time.Duration, begin, end func()) {
	t.Helper()
	healed := p.here.value(ctx, "healed_total") + p.there.value(ctx, "healed_total")
	from := time.Now()
	begin()
	sleep(ctx, lasts)
	end()
	to := time.Now()
	sleep(ctx, late)
	healed = p.here.value(ctx, "healed_total") + p.there.value(ctx, "healed_total") - healed
	if healed == 0 {
		t.Errorf("%s: nothing was read from the log, so the bus carried everything", what)
	}
	times := p.during(from, to)
	t.Logf("%s for %s: %d messages, half within %s, 99 %% within %s, all within %s; %.0f read from the log", what, lasts, len(times),
		figure.Quantile(0.5, times).Round(time.Millisecond), figure.Quantile(0.99, times).Round(time.Millisecond), figure.Quantile(1, times).Round(time.Millisecond), healed)
	if len(times) == 0 || figure.Quantile(0.99, times) > late {
		t.Errorf("%s: %d messages, 99 %% within %s, want about a second", what, len(times), figure.Quantile(0.99, times))
	}
	if err := awaitCrossing(ctx, p.here, p.there); err != nil {
		t.Errorf("%s: afterwards %v", what, err)
	}
}
