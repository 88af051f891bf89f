package hub

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ledgerfault"
)

// room is a channel with subscribers. head is the newest seq in order here, sent the newest that was handed to the workers,
// want the newest that is known to exist.
type room struct {
	h    *Hub
	ch   Channel // as it was when the room was made; epoch is the one in force
	refs int     // subscriptions and joins under way, under Hub.mu

	mu     sync.Mutex
	closed bool
	stop   chan struct{} // closed with the room

	flight *flight // a read of the head under way
	loaded bool
	epoch  string
	first  int64
	head   int64
	sent   int64
	want   int64

	held     map[int64]*envelope.Envelope // came before their turn
	checking bool
	healing  bool
	gapTimer *time.Timer // armed while gapArmed
	gapArmed bool
	gapSeq   int64

	queue   []*envelope.Envelope // in order, for the next batch
	subs    []*sub
	dead    int // removed while a batch was under way
	phase   phase
	batches uint64
	cut     chan struct{} // closed at the next cut, when somebody waits for one

	tickTimer *time.Timer
	lastCut   time.Time
	lastMsg   time.Time
	rate      float64 // messages a second, over about half a second

	ring        ring
	ringCounted int // its bytes in Hub.rings
	pages       map[int64]*page
}

// phase of a room in fan-out.
type phase uint8

const (
	resting phase = iota
	due           // in the work queue, or its tick is running
	busy          // a batch is being written
)

const (
	maxQueue = 4096 // messages waiting for a batch; what is over stays in the log until there is room
	maxHeld  = 4096
)

func newRoom(h *Hub, ch Channel) *room {
	r := &room{h: h, ch: ch, stop: make(chan struct{}), epoch: ch.Epoch}
	r.loaded = !ch.logged()
	return r
}

func (r *room) channelLocked() Channel {
	ch := r.ch
	ch.Epoch = r.epoch
	return ch
}

func (r *room) liveLocked() int { return len(r.subs) - r.dead }

// accept takes a message from Deliver.
func (r *room) accept(e *envelope.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
	case !r.ch.logged() || !e.Logged() && e.Seq <= 0:
		r.passLocked(e)
	case e.Seq <= 0:
		r.h.stats.dropped.Add(1)
	case !r.loaded:
		r.holdLocked(e)
	case e.Epoch != r.epoch:
		r.checkLocked()
	default:
		r.orderLocked(e)
	}
}

// passLocked takes what has no place in the order.
func (r *room) passLocked(e *envelope.Envelope) {
	if !e.Known() || e.Ref || len(r.queue) >= maxQueue {
		r.h.stats.dropped.Add(1)
		return
	}
	r.queueLocked(e)
	if e.Kind == envelope.Say && ledgerfault.Is(ledgerfault.UnloggedTwice) {
		r.queueLocked(e)
	}
}

// orderLocked takes a message of the current epoch: the next one goes on its way with what was waiting for it, a later one
// waits, an earlier one is a duplicate.
func (r *room) orderLocked(e *envelope.Envelope) {
	switch {
	case ledgerfault.Is(ledgerfault.NoOrder):
		r.head = max(r.head, e.Seq)
		r.queueLocked(e)
	case e.Seq <= r.head:
		if ledgerfault.Is(ledgerfault.LateLineTwice) {
			r.queueLocked(e)
		}
	case e.Seq > r.head+1 && ledgerfault.Is(ledgerfault.NoGapCheck):
		r.nextLocked(e)
	case e.Ref:
		r.want = max(r.want, e.Seq)
		r.healLocked()
	case e.Seq > r.head+1 || len(r.queue) >= maxQueue:
		r.holdLocked(e)
		r.armGapLocked()
	default:
		r.nextLocked(e)
		r.releaseLocked()
	}
}

// nextLocked moves the head to e, whatever is missing in between.
func (r *room) nextLocked(e *envelope.Envelope) {
	r.head = e.Seq
	r.want = max(r.want, e.Seq)
	if e.Target != "" {
		r.changeLocked(e)
	}
	r.ring.add(e, r.ringLimit())
	r.countRingLocked()
	r.queueLocked(e)
}

// ringLimit gives many talking rooms smaller shares than a few.
func (r *room) ringLimit() int {
	if r.h.rings.Load() > int64(r.h.o.RingTotal) {
		return r.h.o.RingBytes / 16
	}
	return r.h.o.RingBytes
}

func (r *room) countRingLocked() {
	r.h.rings.Add(int64(r.ring.bytes - r.ringCounted))
	r.ringCounted = r.ring.bytes
}

// releaseLocked lets those go that were waiting for the head.
func (r *room) releaseLocked() {
	for len(r.held) > 0 && len(r.queue) < maxQueue {
		e := r.held[r.head+1]
		if e == nil {
			break
		}
		delete(r.held, e.Seq)
		r.nextLocked(e)
	}
	if len(r.held) > 0 || r.want > r.head {
		r.armGapLocked()
	}
}

func (r *room) holdLocked(e *envelope.Envelope) {
	r.want = max(r.want, e.Seq)
	if e.Ref || len(r.held) >= maxHeld {
		return // the log has it
	}
	if r.held == nil {
		r.held = make(map[int64]*envelope.Envelope)
	}
	r.held[e.Seq] = e
}

// changeLocked does to what is kept for those who come later what an edit or a deletion has done to the log.
func (r *room) changeLocked(e *envelope.Envelope) {
	r.ring.change(e)
	r.pages = nil
}

func (r *room) queueLocked(e *envelope.Envelope) {
	if r.liveLocked() == 0 && e.Seq <= 0 {
		return
	}
	r.queue = append(r.queue, e)
	now := time.Now()
	r.countLocked(now)
	r.scheduleLocked(now)
}

// rateWindow is the time over which the rate of a room is felt.
const rateWindow = 500 * time.Millisecond

func (r *room) countLocked(now time.Time) {
	gone := now.Sub(r.lastMsg).Seconds() / rateWindow.Seconds()
	r.rate = r.rate*math.Exp(-gone) + 1/rateWindow.Seconds()
	r.lastMsg = now
}

// A room gathers for tickPerRate for each message a second, and for crowd receivers; more of them, and it gathers for longer.
const (
	tickPerRate = 120 * time.Microsecond
	crowd       = 1000
)

// tickLocked is how long after the last batch the next one waits for company: nothing in a room where that would save few writes,
// then in proportion to what there is to write. Before up to a thousand receivers 100 messages a second go out as they come, and 417
// gather for 50 ms; before 5,000, 50 gather for 30 ms.
func (r *room) tickLocked() time.Duration {
	load := r.rate * max(1, float64(r.liveLocked())/crowd)
	tick := min(time.Duration(load*float64(tickPerRate)), r.h.o.Tick)
	if load*tick.Seconds() < 2 {
		return 0
	}
	return tick
}

// scheduleLocked brings the room to a worker, now or when its tick has passed.
func (r *room) scheduleLocked(now time.Time) {
	if r.phase != resting || len(r.queue) == 0 || r.closed {
		return
	}
	r.phase = due
	wait := r.tickLocked() - now.Sub(r.lastCut)
	switch {
	case wait <= 0 || len(r.queue) >= maxBatch:
		r.h.work.push(task{room: r})
	case r.tickTimer == nil:
		r.tickTimer = time.AfterFunc(wait, func() { r.h.work.push(task{room: r}) })
	default:
		r.tickTimer.Reset(wait)
	}
}

// add puts a subscriber in and reports false when the room is closed, its epoch no longer that of the acknowledgement, or the
// connection has ended meanwhile.
func (r *room) add(s *sub) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if r.closed || s.gone || s.epoch != r.epoch {
		return false
	}
	s.slot = len(r.subs)
	r.subs = append(r.subs, s)
	return true
}

// remove takes out a subscriber that is marked as gone, and lets go of the room in its name. Batches under way hold the
// same array, so while there is one the place only falls vacant.
func (r *room) remove(s *sub) {
	r.mu.Lock()
	if s.slot >= 0 {
		if r.phase == busy {
			r.dead++
		} else {
			last := len(r.subs) - 1
			r.subs[s.slot] = r.subs[last]
			r.subs[s.slot].slot = s.slot
			r.subs[last] = nil
			r.subs = r.subs[:last]
		}
		s.slot = -1
	}
	r.mu.Unlock()
	r.h.leave(r)
}

// compactLocked fills the places that fell vacant during a batch.
func (r *room) compactLocked() {
	if r.dead == 0 {
		return
	}
	kept := r.subs[:0]
	for _, s := range r.subs {
		if s.slot >= 0 {
			s.slot = len(kept)
			kept = append(kept, s)
		}
	}
	clear(r.subs[len(kept):])
	r.subs, r.dead = kept, 0
}

// evict empties a room that gave way to a newer channel of the same name.
func (r *room) evict() {
	r.mu.Lock()
	subs := append([]*sub(nil), r.subs...)
	r.mu.Unlock()
	for _, s := range subs {
		if s.conn.removeSub(s) {
			r.remove(s)
		}
	}
	r.close()
}

func (c *Conn) removeSub(s *sub) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone {
		return false
	}
	s.gone = true
	for i, other := range c.subs {
		if other == s {
			c.subs = append(c.subs[:i], c.subs[i+1:]...)
			break
		}
	}
	return true
}

func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	close(r.stop)
	for _, t := range []*time.Timer{r.gapTimer, r.tickTimer} {
		if t != nil {
			t.Stop()
		}
	}
	r.queue, r.held, r.pages, r.ring = nil, nil, nil, ring{}
	r.countRingLocked()
}

// reached waits until everything up to seq has been handed to the workers.
func (r *room) reached(ctx context.Context, seq int64) error {
	for {
		r.mu.Lock()
		if r.sent >= seq {
			r.mu.Unlock()
			return nil
		}
		if r.cut == nil {
			r.cut = make(chan struct{})
		}
		cut := r.cut
		r.mu.Unlock()
		select {
		case <-cut:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.stop:
			return errEvicted
		}
	}
}
