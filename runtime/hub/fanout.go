package hub

import (
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

const (
	maxBatch      = 512      // messages
	maxBatchBytes = 64 << 10 // of text, so that one batch does not overrun a reader's limit
	chunkSubs     = 128      // receivers that one worker takes at a time: a large channel keeps every core busy
)

// batch is what a room gathered, on its way to those who were subscribed when it was cut. A room has one at a time, which
// keeps the order for each receiver whichever worker serves it.
type batch struct {
	room *room
	n    uint64
	last int64 // the room's newest seq with this batch
	envs []*envelope.Envelope
	subs []*sub
	left atomic.Int32 // chunks under way

	frames  []byte
	special map[string][]byte // for users that see shadowed messages of their own
}

// fanOut cuts a batch, encodes it once and writes it: the first chunk itself, the others for whichever worker is free.
func (r *room) fanOut() {
	b := r.cutBatch()
	if b == nil {
		return
	}
	r.h.stats.batches.Add(1)
	if len(b.subs) > 0 {
		b.encode(r.h.o.Codec)
	}
	b.left.Store(int32(max(1, (len(b.subs)+chunkSubs-1)/chunkSubs)))
	for lo := chunkSubs; lo < len(b.subs); lo += chunkSubs {
		r.h.work.pushNow(task{batch: b, lo: lo, hi: min(lo+chunkSubs, len(b.subs))})
	}
	b.write(0, min(chunkSubs, len(b.subs)))
}

func (r *room) cutBatch() *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.queue) == 0 {
		r.phase = resting
		return nil
	}
	n, size, last := 0, 0, r.sent
	for n < len(r.queue) && n < maxBatch && (n == 0 || size+len(r.queue[n].Text) <= maxBatchBytes) {
		size += len(r.queue[n].Text)
		last = max(last, r.queue[n].Seq)
		n++
	}
	r.batches++
	b := &batch{room: r, n: r.batches, last: last, envs: r.queue[:n:n], subs: r.subs[:len(r.subs):len(r.subs)]}
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	r.sent, r.phase, r.lastCut = last, busy, time.Now()
	if r.cut != nil {
		close(r.cut)
		r.cut = nil
	}
	if len(r.held) > 0 {
		r.releaseLocked()
	}
	return b
}

// write brings the batch to some of its receivers.
func (b *batch) write(lo, hi int) {
	writes := 0
	for _, s := range b.subs[lo:hi] {
		switch s.conn.deliver(s, b) {
		case delivered:
			writes++
		case tooSlow:
			s.conn.settle(true, nil)
		case broken:
			s.conn.kill()
		}
	}
	if writes > 0 {
		b.room.h.stats.writes.Add(uint64(writes))
		b.room.h.stats.deliveries.Add(uint64(writes * len(b.envs)))
	}
	if b.left.Add(-1) == 0 {
		b.room.finish(b)
	}
}

// finish ends a batch: the room may be cut again.
func (r *room) finish(b *batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = resting
	r.compactLocked()
	if len(b.envs) == 1 && len(b.frames) > 0 && b.envs[0].Seq > 0 {
		r.ring.keepFrames(b.envs[0], b.frames)
	}
	r.scheduleLocked(time.Now())
}

// encode makes the frames for everybody and, where the batch has shadowed messages, for each of their authors.
func (b *batch) encode(codec Codec) {
	plain, authors := b.envs, map[string]bool(nil)
	for i, e := range b.envs {
		if !e.Known() || e.Shadow {
			plain, authors = sift(b.envs, i)
			break
		}
	}
	b.frames = encode(codec, plain)
	if len(authors) == 0 {
		return
	}
	b.special = make(map[string][]byte, len(authors))
	for user := range authors {
		b.special[user] = encode(codec, visible(b.envs, user))
	}
}

// sift separates what everybody sees from the authors of shadowed messages. The first n envelopes are for everybody.
func sift(envs []*envelope.Envelope, n int) ([]*envelope.Envelope, map[string]bool) {
	plain := append([]*envelope.Envelope(nil), envs[:n]...)
	authors := make(map[string]bool)
	for _, e := range envs[n:] {
		switch {
		case !e.Known():
		case e.Shadow:
			authors[e.User] = true
		default:
			plain = append(plain, e)
		}
	}
	return plain, authors
}

func (b *batch) framesFor(user string) []byte {
	if frames, ok := b.special[user]; ok {
		return frames
	}
	return b.frames
}

// visible is what one user gets to see of envs.
func visible(envs []*envelope.Envelope, user string) []*envelope.Envelope {
	var list []*envelope.Envelope
	for _, e := range envs {
		if e.Known() && (!e.Shadow || e.User == user) {
			list = append(list, e)
		}
	}
	return list
}

// encode allocates for each batch: slow readers and the ring keep the bytes, so they are never reused.
func encode(codec Codec, envs []*envelope.Envelope) []byte {
	if len(envs) == 0 {
		return nil
	}
	size := 0
	for _, e := range envs {
		size += len(e.Text) + len(e.Name) + 160
	}
	return codec.AppendBatch(make([]byte, 0, size), envs)
}
