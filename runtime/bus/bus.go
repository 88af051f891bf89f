package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// Config is what Open needs. The callbacks may be nil; they are called one at a time for each connection, from goroutines of
// the bus that wait for them: they must not block and must not call Close.
type Config struct {
	Link    Link
	Nick    string // told to peers by Gone and Here; letters, digits and '-', at most 24 bytes are kept
	Logger  *slog.Logger
	Receive func(*envelope.Envelope) // everything that others publish on the IRC channels we are on, KMS channels not joined included
	Gone    func(nick string)        // a peer left the network, or did not come back within 5 s after we were away
	Here    func(nick string)        // a peer is there: at our start, at its own, or back after Gone
	State   func(up bool)
	Watch   func(Seen) // whatever comes on any of the link's channels, refused lines too; whoever watches is on all of them

	timing *timing // tests shorten the waits
	dial   dialer  // tests lead it to a network in memory
}

// Seen is one envelope as Watch is told of it, or a line or envelope that is dropped.
type Seen struct {
	Nick     string             // the sender's
	Size     int                // bytes of the envelope, of the whole text when that is refused
	Envelope *envelope.Envelope // nil when refused
	Refused  error              // why it is dropped
}

type timing struct {
	tick       time.Duration // how often a connection is looked at
	pingEvery  time.Duration
	silence    time.Duration // a server that says nothing for so long is given up
	register   time.Duration // from connect to being on the channels
	backoff    time.Duration // first wait before a new attempt; doubles up to maxBackoff
	maxBackoff time.Duration
	grace      time.Duration // peers have to return after we do
	settle     time.Duration // all are on a new link before anyone speaks there
	linger     time.Duration // the old link is still heard after the switch
	goodbye    time.Duration // to hand over what is queued at Close
}

var defaultTiming = timing{
	tick: 250 * time.Millisecond, pingEvery: 1500 * time.Millisecond, silence: 4500 * time.Millisecond, register: 10 * time.Second,
	backoff: 100 * time.Millisecond, maxBackoff: 3 * time.Second, grace: 5 * time.Second,
	settle: 3 * time.Second, linger: 10 * time.Second, goodbye: time.Second,
}

// ErrDown is what Ping returns while there is no connection.
var ErrDown = errors.New("the bus is down")

// Bus is a process's connection to the others. All methods may be called from any goroutine.
type Bus struct {
	cfg    Config
	t      timing
	log    *slog.Logger
	nick   string
	cancel context.CancelFunc
	done   chan struct{}

	out     atomic.Pointer[network] // where we speak; nil without a link
	reloads chan Link
	count   counters

	mu       sync.Mutex
	interest map[string]int // tenant NUL channel -> joins
	nets     []*network     // that Join and Leave reach

	told struct { // what the callbacks have said last
		sync.Mutex
		up   bool
		here map[string]bool
	}
}

// Open returns at once; the connection is made in the background and made again, forever, whenever it is lost.
func Open(cfg Config) *Bus {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Bus{
		cfg: cfg, t: defaultTiming, log: cfg.Logger, nick: cleanNick(cfg.Nick), cancel: cancel, done: make(chan struct{}),
		reloads: make(chan Link, 1), interest: map[string]int{},
	}
	if cfg.timing != nil {
		b.t = *cfg.timing
	}
	if b.cfg.dial == nil {
		b.cfg.dial = dial
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.told.here = map[string]bool{}
	b.out.Store(b.start(ctx, cfg.Link))
	go b.run(ctx)
	return b
}

// Close hands over what is queued, for a second at most, leaves the network and returns when nothing of the bus runs any more.
func (b *Bus) Close() {
	b.cancel()
	<-b.done
}

// Up reports whether what is published now goes out.
func (b *Bus) Up() bool {
	n := b.out.Load()
	return n != nil && n.isUp()
}

// Publish sends the envelope to whoever has joined its channel, except ourselves. It never blocks: while the bus is down or
// its queue is full the envelope is dropped and counted. An envelope too long for a line goes as a Ref when it has a seq,
// else in parts. An envelope without a channel goes to every process. The caller may change e afterwards.
func (b *Bus) Publish(e *envelope.Envelope) {
	if n := b.out.Load(); n != nil {
		n.publish(e)
		return
	}
	b.count.dropped.Add(1)
}

// Join asks for what is published in the channel, until as many calls of Leave. It returns before the server has agreed.
func (b *Bus) Join(tenant, channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := tenant + "\x00" + channel
	b.interest[key]++
	if b.interest[key] > 1 {
		return
	}
	for _, n := range b.nets {
		n.want(n.link.index(tenant, channel), 1)
	}
}

// Leave takes one Join back.
func (b *Bus) Leave(tenant, channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := tenant + "\x00" + channel
	if b.interest[key] > 1 {
		b.interest[key]--
		return
	}
	if b.interest[key] == 0 {
		return
	}
	delete(b.interest, key)
	for _, n := range b.nets {
		n.want(n.link.index(tenant, channel), -1)
	}
}

// Reload goes over to the first active link, if that is another one than ours: both are listened to while the processes move,
// and we speak on the new one a moment after we have joined it, so that a move under traffic loses nothing while both live.
// A broken link is logged and changes nothing; no active link at all ends the connection.
func (b *Bus) Reload(links []Link) {
	link := Active(links)
	for {
		select {
		case b.reloads <- link:
			return
		case <-b.done:
			return
		default:
		}
		select { // a newer list replaces one that was not looked at yet
		case <-b.reloads:
		default:
		}
	}
}

// Ping measures the way to the server and back. The answer also says that the server knows of every Join and Leave before it.
func (b *Bus) Ping(ctx context.Context) (time.Duration, error) {
	n := b.out.Load()
	if n == nil {
		return 0, ErrDown
	}
	return n.ping(ctx)
}

// Room returns how many bytes an envelope may have to travel in one line of that channel, 0 while the bus is down.
func (b *Bus) Room(tenant, channel string) int {
	n := b.out.Load()
	if n == nil {
		return 0
	}
	return n.room(tenant, channel)
}

// start connects to a link, nil when there is none or it cannot be used.
func (b *Bus) start(ctx context.Context, link Link) *network {
	if len(link.Servers) == 0 && link.Name == "" {
		return nil
	}
	if err := link.Check(); err != nil {
		b.log.Error("the bus stays down", "err", err)
		return nil
	}
	n := newNetwork(b, link)
	b.mu.Lock()
	for key := range b.interest {
		tenant, channel, _ := strings.Cut(key, "\x00")
		n.want(link.index(tenant, channel), 1)
	}
	if b.cfg.Watch != nil {
		for index := range link.Channels {
			n.want(index+1, 1)
		}
	}
	b.nets = append(b.nets, n)
	b.mu.Unlock()
	ctx, n.cancel = context.WithCancel(ctx)
	go n.run(ctx)
	return n
}

// stop ends a network and waits for it.
func (b *Bus) stop(n *network) {
	if n == nil {
		return
	}
	b.mu.Lock()
	for i := range b.nets {
		if b.nets[i] == n {
			b.nets = append(b.nets[:i:i], b.nets[i+1:]...)
			break
		}
	}
	b.mu.Unlock()
	n.cancel()
	<-n.done
}

// tellState calls State when the answer of Up has changed since the last call.
func (b *Bus) tellState() {
	b.told.Lock()
	defer b.told.Unlock()
	up := b.Up()
	if up == b.told.up {
		return
	}
	b.told.up = up
	if b.cfg.State != nil {
		b.cfg.State(up)
	}
}

// tellPeers calls Here or Gone for the peers whose state is another than was told.
func (b *Bus) tellPeers(here bool, nicks ...string) {
	b.told.Lock()
	defer b.told.Unlock()
	for _, nick := range nicks {
		if nick == b.nick || b.told.here[nick] == here {
			continue
		}
		tell := b.cfg.Here
		if here {
			b.told.here[nick] = true
		} else {
			delete(b.told.here, nick)
			tell = b.cfg.Gone
		}
		if tell != nil {
			tell(nick)
		}
	}
}

// toldHere returns the peers that were last told to be there.
func (b *Bus) toldHere() []string {
	b.told.Lock()
	defer b.told.Unlock()
	nicks := make([]string, 0, len(b.told.here))
	for nick := range b.told.here {
		nicks = append(nicks, nick)
	}
	return nicks
}
