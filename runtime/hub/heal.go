package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ledgerfault"
)

const (
	readTimeout = 5 * time.Second
	readLimit   = 512
	firstPause  = 50 * time.Millisecond
	maxPause    = 2 * time.Second
	fullPause   = 5 * time.Millisecond // until workers have made room in a queue
)

// read reads from the log, a few reads at a time over the whole hub; tenants take turns.
func (h *Hub) read(ch Channel, after, upTo int64, limit int) ([]*envelope.Envelope, error) {
	ctx, done, err := h.beginRead(ch.Tenant)
	if err != nil {
		return nil, err
	}
	defer done()
	return h.o.Log.Read(ctx, ch.PK, after, upTo, limit)
}

func (h *Hub) readHead(ch Channel) (Head, error) {
	ctx, done, err := h.beginRead(ch.Tenant)
	if err != nil {
		return Head{}, err
	}
	defer done()
	return h.o.Log.Head(ctx, ch.PK)
}

func (h *Hub) beginRead(tenant string) (ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithTimeout(h.ctx, readTimeout)
	leave, err := h.reads.Enter(ctx, tenant)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	h.stats.logReads.Add(1)
	return ctx, func() { leave(); cancel() }, nil
}

// pause waits with jitter and doubles d up to maxPause. It reports false when the room or the hub has ended.
func (r *room) pause(d *time.Duration) bool {
	t := time.NewTimer(*d/2 + rand.N(*d/2))
	defer t.Stop()
	*d = min(*d*2, maxPause)
	select {
	case <-t.C:
		return true
	case <-r.stop:
	case <-r.h.ctx.Done():
	}
	return false
}

// advance learns from a head check how far the log is.
func (r *room) advance(head Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.loaded || !r.ch.logged() || head.PK != r.ch.PK {
		return
	}
	if head.Epoch != r.epoch {
		r.checkLocked()
		return
	}
	r.removedLocked(head.First)
	if head.Seq > r.head {
		r.want = max(r.want, head.Seq)
		r.armGapLocked()
	}
}

// removedLocked learns that the log begins at first now: what was before it is not given to anybody any more.
func (r *room) removedLocked(first int64) {
	if first <= r.first {
		return
	}
	r.first = first
	r.ring.forget(first)
	r.countRingLocked()
	r.pages = nil
}

// armGapLocked gives everything that is known to exist GapWait to come by itself: the lines of two publishers cross.
func (r *room) armGapLocked() {
	if r.gapArmed || r.healing || r.closed || r.want <= r.head {
		return
	}
	r.gapArmed, r.gapSeq = true, r.want
	if r.gapTimer == nil {
		r.gapTimer = time.AfterFunc(r.h.o.GapWait, r.gapPassed)
		return
	}
	r.gapTimer.Reset(r.h.o.GapWait)
}

func (r *room) gapPassed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gapArmed = false
	if r.head < r.gapSeq {
		r.healLocked()
		return
	}
	r.armGapLocked()
}

// healLocked starts reading what is missing, unless that is under way.
func (r *room) healLocked() {
	if r.healing || r.closed || ledgerfault.Is(ledgerfault.NoHeal) {
		return
	}
	r.healing = r.h.spawn(r.heal)
}

// heal reads until the room has everything that is known to exist: one read at a time, however many wait for it.
func (r *room) heal() {
	pause := firstPause
	for {
		after, upTo, full := r.missing()
		if upTo <= after {
			return
		}
		if full {
			wait := fullPause
			if !r.pause(&wait) {
				return
			}
			continue
		}
		envs, err := r.h.read(r.ch, after, upTo, readLimit)
		if errors.Is(err, chatlog.ErrGone) {
			r.giveUp()
			return
		}
		if err != nil {
			r.h.o.Logger.Warn("cannot read missing messages", "tenant", r.ch.Tenant, "channel", r.ch.ID, "err", err)
			if !r.pause(&pause) {
				return
			}
			continue
		}
		pause = firstPause
		r.healed(upTo, envs)
	}
}

// giveUp ends the healing of a channel that was deleted.
func (r *room) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healing = false
	r.want, r.held = r.head, nil
}

// missing returns the range to read, an empty one when the healing is over, and whether the queue has to shrink first.
func (r *room) missing() (after, upTo int64, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.want <= r.head {
		r.healing = false
		return 0, 0, false
	}
	return r.head, r.want, len(r.queue) >= maxQueue-readLimit
}

// healed takes what the log had. What it does not have up to upTo no longer exists: removed while this room was behind.
func (r *room) healed(upTo int64, envs []*envelope.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if len(envs) > 0 && envs[0].Seq > r.head+1 && envs[0].Epoch == r.epoch {
		r.skipLocked(envs[0].Seq - 1)
	}
	for _, e := range envs {
		if e.Seq > r.head && e.Epoch == r.epoch {
			r.h.stats.healed.Add(1)
			r.nextLocked(e)
		}
	}
	if len(envs) < readLimit && r.head < upTo {
		r.skipLocked(upTo)
	}
	r.releaseLocked()
}

// skipLocked goes on after base: what is missing up to there was removed from the log.
func (r *room) skipLocked(base int64) {
	r.h.o.Logger.Warn("messages are no longer in the log", "tenant", r.ch.Tenant, "channel", r.ch.ID, "after", r.head, "upTo", base)
	r.turnOutLocked(lateReason)
	r.removedLocked(base + 1)
	r.head, r.sent, r.queue = base, base, nil
	for seq := range r.held {
		if seq <= base {
			delete(r.held, seq)
		}
	}
	if r.cut != nil {
		close(r.cut)
		r.cut = nil
	}
}

// lateReason is what a client reads that is to come back and hear that some of the past is gone.
const lateReason = "missed messages are no longer in the log"

// turnOutLocked closes whoever would get a hole or another log's messages, and gives them nothing more before that. They come back at
// once, resume, and are told what is kept.
func (r *room) turnOutLocked(reason string) {
	for _, s := range r.subs {
		conn := s.conn
		conn.mu.Lock()
		s.liveAt = notLive
		conn.mu.Unlock()
		r.h.spawn(func() { conn.Close(CloseRestart, reason) })
	}
}
