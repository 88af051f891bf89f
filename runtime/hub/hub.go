// Package hub owns the WebSocket connections of one process and what is said to them. It puts the messages of each channel
// in order, heals what the bus lost by reading the log, keeps recent messages for clients that resume, and writes every
// message to every subscriber: encoded once, from a few workers, without ever waiting for a slow reader.
//
// Lock order: Hub.mu, then room.mu, then Conn.mu. No lock is held over a log read, a callback or a blocking write.
package hub

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/limit"
)

// Codec turns envelopes into what one protocol sends. It appends ready WebSocket frames (AppendText helps), is called from
// several goroutines at once, and must not keep or change the envelopes.
type Codec interface {
	AppendBatch(dst []byte, batch []*envelope.Envelope) []byte
}

// Reader is the log. Read returns entries after < seq <= upTo in seq order, at most limit of them.
type Reader interface {
	Read(ctx context.Context, pk, after, upTo int64, limit int) ([]*envelope.Envelope, error)
	Head(ctx context.Context, pk int64) (Head, error)
}

// Options of a hub; zero values get the defaults named here.
type Options struct {
	Codec  Codec
	Log    Reader
	Logger *slog.Logger

	// OnRoom tells that a channel got its first subscriber here or lost its last. It must not block. Calls about one
	// channel that follow each other closely may overlap, so the receiver counts.
	OnRoom func(ch Channel, active bool)

	GapWait      time.Duration // how long a missing seq may still come by itself: 100 ms
	Tick         time.Duration // the longest that a busy room gathers messages: 50 ms
	RingBytes    int           // recent messages kept for each room: 256 KiB
	RingTotal    int           // and for all rooms together; past it each keeps a sixteenth of its share: 64 MiB
	MaxPending   int           // bytes waiting for one slow reader: 256 KiB
	PingInterval time.Duration // a connection silent for this long is pinged: 30 s
	IdleTimeout  time.Duration // and closed when it stays silent for this long: 75 s
	CloseTimeout time.Duration // from a close frame to the end of the connection: 5 s
	SweepEvery   time.Duration // how exact the three above are: 1 s
	Workers      int           // fan-out workers: one per core
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnRoom == nil {
		o.OnRoom = func(Channel, bool) {}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.GapWait, 100 * time.Millisecond}, {&o.Tick, 50 * time.Millisecond}, {&o.PingInterval, 30 * time.Second}, {&o.IdleTimeout, 75 * time.Second},
		{&o.CloseTimeout, 5 * time.Second}, {&o.SweepEvery, time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.RingBytes == 0 {
		o.RingBytes = 256 << 10
	}
	if o.RingTotal == 0 {
		o.RingTotal = 64 << 20
	}
	if o.MaxPending == 0 {
		o.MaxPending = 256 << 10
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
}

// Channel names a channel to subscribe to. PK and Epoch are the store's.
type Channel struct {
	PK      int64
	Tenant  string
	ID      string
	Epoch   string
	History string // "log", or "none" for a channel without seqs
}

func (ch Channel) logged() bool { return ch.History != "none" }

// Position is the last message that a client has seen.
type Position struct {
	Epoch string
	Seq   int64
}

// Joined says how a subscription begins. With Resumed everything after the client's position follows. With Truncated that
// position is of another epoch or outside First-1..Head, and what follows begins after Head, as without a position.
type Joined struct {
	Epoch     string
	Head      int64
	First     int64
	Resumed   bool
	Truncated bool
}

// Room is a channel that has subscribers here.
type Room struct {
	Channel     Channel
	Subscribers int
	Head        int64
}

// Hub is safe for use by several goroutines.
type Hub struct {
	o     Options
	work  workQueue
	stats counters
	clock atomic.Int64 // Unix milliseconds, set by the sweeper: exact enough for timeouts, free to read
	rings atomic.Int64 // bytes in all rings

	mu    sync.RWMutex
	rooms map[roomKey]*room

	connsMu  sync.Mutex
	conns    []*Conn
	upgrades atomic.Uint64 // connections that ever were
	rush     rush          // the sweeper's

	reads *limit.Parking // log reads

	pollerMu sync.Mutex
	poller   *poller // nil before the first socket

	ctx    context.Context
	cancel context.CancelFunc

	lifeMu  sync.Mutex
	closing bool
	tasks   sync.WaitGroup
}

type roomKey struct{ tenant, channel string }

// maxReads is how many log reads one hub has in flight: enough for a pooled reader, little enough to leave the log's
// writer its share. Those that wait are bounded by the channels that connections are in.
const maxReads = 4

// New starts a hub: its workers and its sweeper run until Close.
func New(o Options) *Hub {
	o.setDefaults()
	h := &Hub{o: o, rooms: make(map[roomKey]*room), reads: limit.NewParking(maxReads, math.MaxInt)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.clock.Store(time.Now().UnixMilli())
	h.work.init()
	for range o.Workers {
		h.spawn(h.runWorker)
	}
	h.spawn(h.runSweeper)
	return h
}

// Close announces 1012 to the connections that are left, cuts them after at most CloseTimeout and ends all goroutines.
func (h *Hub) Close() {
	h.lifeMu.Lock()
	if h.closing {
		h.lifeMu.Unlock()
		h.tasks.Wait()
		return
	}
	h.lifeMu.Unlock()
	conns := h.Conns()
	for _, c := range conns {
		c.Close(CloseRestart, "server is stopping")
	}
	h.waitClosed(conns)
	h.lifeMu.Lock()
	h.closing = true
	h.lifeMu.Unlock()
	h.cancel()
	for _, c := range h.Conns() {
		c.kill()
	}
	h.work.close()
	h.endPoller()
	h.tasks.Wait()
}

func (h *Hub) waitClosed(conns []*Conn) {
	limit := time.NewTimer(h.o.CloseTimeout)
	defer limit.Stop()
	for _, c := range conns {
		select {
		case <-c.done:
		case <-limit.C:
			return
		}
	}
}

// spawn runs f in a goroutine that Close waits for. It reports false, and runs nothing, once the hub is closing.
func (h *Hub) spawn(f func()) bool {
	h.lifeMu.Lock()
	defer h.lifeMu.Unlock()
	if h.closing {
		return false
	}
	h.tasks.Go(f)
	return true
}

// Deliver takes a message from the bus or from a commit of this process: in any order, as often as it comes. It never
// blocks; what nobody here subscribes to is dropped.
func (h *Hub) Deliver(e *envelope.Envelope) {
	if r := h.find(roomKey{e.Tenant, e.Channel}); r != nil {
		r.accept(e)
	}
}

// Heads tells how far the log is. Rooms behind it read what they lack unless it comes by itself within GapWait.
func (h *Hub) Heads(heads []Head) {
	for _, head := range heads {
		if r := h.find(roomKey{head.Tenant, head.Channel}); r != nil {
			r.advance(head)
		}
	}
}

// Rooms lists the channels that have subscribers here, in no order.
func (h *Hub) Rooms() []Room {
	h.mu.RLock()
	rooms := make([]*room, 0, len(h.rooms))
	for _, r := range h.rooms {
		rooms = append(rooms, r)
	}
	h.mu.RUnlock()
	list := make([]Room, 0, len(rooms))
	for _, r := range rooms {
		r.mu.Lock()
		list = append(list, Room{Channel: r.channelLocked(), Subscribers: r.liveLocked(), Head: r.head})
		r.mu.Unlock()
	}
	return list
}

func (h *Hub) find(key roomKey) *room {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.rooms[key]
}

// enter returns the channel's room, made if need be, and holds it until leave. A room of an earlier channel with the same
// name gives way: its subscribers were members of something that is gone.
func (h *Hub) enter(ch Channel) *room {
	key := roomKey{ch.Tenant, ch.ID}
	h.mu.Lock()
	old := h.rooms[key]
	if old != nil && old.ch.PK == ch.PK {
		old.refs++
		h.mu.Unlock()
		return old
	}
	r := newRoom(h, ch)
	r.refs = 1
	h.rooms[key] = r
	h.mu.Unlock()
	if old != nil {
		old.evict()
	}
	h.o.OnRoom(ch, true)
	return r
}

// leave lets go of a room. The last one out removes it.
func (h *Hub) leave(r *room) {
	h.mu.Lock()
	r.refs--
	last := r.refs == 0
	if key := (roomKey{r.ch.Tenant, r.ch.ID}); last && h.rooms[key] == r {
		delete(h.rooms, key)
	}
	h.mu.Unlock()
	if last {
		r.close()
		h.o.OnRoom(r.ch, false)
	}
}
