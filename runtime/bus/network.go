package bus

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// maxQueue bounds what waits for the server, in bytes: about a second of the fastest server.
const maxQueue = 16 << 20

// network is one link in use: what we want there, what is queued for it, and its connection while there is one.
type network struct {
	b      *Bus
	link   Link // Servers under mu, the rest never changes
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // the writer has something to look at

	mu        sync.Mutex
	up        bool // registered, on our channels, budget known
	server    string
	software  string
	nick      string
	nickLost  bool   // somebody of our name collided with us
	detail    string // why the last connection ended
	interest  map[int]int
	dirty     map[int]struct{} // channels whose interest may differ from on
	on        map[int]bool     // channels we have asked the server for
	joinFirst bool             // this server refuses lines from outside a channel
	queue     queue
	control   []string // commands that go before the queue
	overhead  int      // bytes that receivers see around channel and text, CRLF included
	lineLen   int
	quit      bool
	peers     peers
	sweepAt   time.Time // when those who did not come back are gone
	pings     map[string]chan struct{}
	pingSeq   int
}

// queue holds encoded envelopes in one buffer, in the order of Publish.
type queue struct {
	data  []byte
	items []queued
}

type queued struct {
	channel     int
	end         int // in data; it begins where the one before ends
	part, parts int // 0 for a whole envelope
}

func newNetwork(b *Bus, link Link) *network {
	return &network{
		b: b, link: link, log: b.log.With("link", link.Name), done: make(chan struct{}), wake: make(chan struct{}, 1),
		interest: map[int]int{}, dirty: map[int]struct{}{}, on: map[int]bool{}, pings: map[string]chan struct{}{},
	}
}

// accept takes over a changed list of servers and reports true when our connection is good for link, too.
func (n *network) accept(link Link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if link.Check() != nil || !n.link.sameNetwork(link) || (n.up && !slices.Contains(link.Servers, n.server)) {
		return false
	}
	n.link.Servers = link.Servers
	return true
}

func (n *network) isUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

// run connects, serves and connects again until ctx ends.
func (n *network) run(ctx context.Context) {
	defer close(n.done)
	wait, said := n.b.t.backoff, ""
	for attempt := 0; ctx.Err() == nil; attempt++ {
		n.mu.Lock()
		server := n.link.Servers[attempt%len(n.link.Servers)]
		n.mu.Unlock()
		up, err := n.connect(ctx, server)
		if ctx.Err() != nil {
			return
		}
		if up {
			wait = n.b.t.backoff
		}
		// Every attempt of an outage says the same; once is enough.
		if text := server + err.Error(); up || text != said {
			said = text
			n.log.Warn("the bus has no connection", "server", server, "err", err)
		}
		pause := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		wait = min(2*wait, n.b.t.maxBackoff)
	}
}

// connect serves one connection to its end and reports whether it was ever up.
func (n *network) connect(ctx context.Context, server string) (bool, error) {
	conn, err := n.b.cfg.dial(ctx, n.link, server)
	if err != nil {
		n.mu.Lock()
		n.detail = err.Error()
		n.mu.Unlock()
		return false, err
	}
	s := newSession(n, conn, server)
	err = s.serve(ctx)
	n.mu.Lock()
	up := n.up
	n.b.count.dropped.Add(uint64(len(n.queue.items)))
	n.up, n.server, n.nick, n.detail = false, "", "", err.Error()
	n.queue, n.control, n.on, n.peers = queue{}, nil, map[int]bool{}, peers{}
	for token, waiting := range n.pings {
		delete(n.pings, token)
		close(waiting)
	}
	n.mu.Unlock()
	n.b.tellState()
	return up, err
}

// want changes the number of KMS channels that we need the IRC channel for.
func (n *network) want(index, delta int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.interest[index] += delta
	if n.interest[index] == 0 {
		delete(n.interest, index)
	}
	n.dirty[index] = struct{}{}
	n.poke()
}

func (n *network) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// command queues a command of ours that stands before all envelopes.
func (n *network) command(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.control = append(n.control, text)
	n.poke()
}

// roomLocked returns the bytes that items may have in one line of the channel.
func (n *network) roomLocked(index int) int {
	return n.lineLen - n.overhead - len(channelName(index)) - lineHead
}

func (n *network) room(tenant, channel string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up {
		return 0
	}
	room := n.roomLocked(n.link.index(tenant, channel))
	return room - 2 - digits(room)
}

// publish queues the envelope in a form that fits the server's lines.
func (n *network) publish(e *envelope.Envelope) {
	index := n.link.index(e.Tenant, e.Channel)
	n.mu.Lock()
	defer n.mu.Unlock()
	q := &n.queue
	if !n.up || n.quit || len(q.data) > maxQueue {
		n.b.count.dropped.Add(1)
		return
	}
	start := len(q.data)
	q.data = e.Append(q.data)
	it, room := item{kind: 'E', data: q.data[start:]}, n.roomLocked(index)
	if it.headLen()+len(it.data) > room {
		if e.Seq == 0 {
			n.fragmentLocked(index, start, room)
			return
		}
		ref := envelope.Envelope{
			Kind: e.Kind, Tenant: e.Tenant, Channel: e.Channel, Epoch: e.Epoch, Seq: e.Seq, Shadow: e.Shadow, Ref: true, Origin: e.Origin,
		}
		q.data = ref.Append(q.data[:start])
		n.b.count.refs.Add(1)
	}
	q.items = append(q.items, queued{channel: index, end: len(q.data)})
	n.poke()
}

// fragmentLocked queues the envelope at the end of the queue's data in parts.
func (n *network) fragmentLocked(index, start, room int) {
	q := &n.queue
	head := item{kind: 'F', part: maxParts, parts: maxParts, data: make([]byte, room)}
	pieces := split(q.data[start:], room-head.headLen())
	if pieces == nil || len(q.data)-start > envelope.MaxBytes {
		q.data = q.data[:start]
		n.b.count.dropped.Add(1)
		return
	}
	for i, piece := range pieces {
		start += len(piece)
		q.items = append(q.items, queued{channel: index, end: start, part: i + 1, parts: len(pieces)})
	}
	n.b.count.fragments.Add(uint64(len(pieces)))
	n.poke()
}

func (n *network) ping(ctx context.Context) (time.Duration, error) {
	n.mu.Lock()
	if !n.up {
		n.mu.Unlock()
		return 0, ErrDown
	}
	n.pingSeq++
	token := tokenAsked + strconv.Itoa(n.pingSeq)
	answered := make(chan struct{}, 1)
	n.pings[token] = answered
	n.control = append(n.control, "PING :"+token)
	n.poke()
	n.mu.Unlock()
	start := time.Now()
	select {
	case _, ok := <-answered:
		if !ok {
			return 0, ErrDown
		}
		return time.Since(start), nil
	case <-ctx.Done():
		n.mu.Lock()
		delete(n.pings, token)
		n.mu.Unlock()
		return 0, ctx.Err()
	}
}
