package hub

import (
	"context"
	"fmt"
	"sort"

	"github.com/kmsctl/kms/runtime/ledgerfault"
)

// flight is one read of the head that several joins wait for.
type flight struct {
	done chan struct{}
	head Head
	err  error
}

// begin finds out where a subscription starts.
func (r *room) begin(ctx context.Context, from *Position) (Joined, int64, error) {
	if !r.ch.logged() {
		return Joined{Epoch: r.ch.Epoch}, 0, nil
	}
	if err := r.ready(ctx); err != nil {
		return Joined{}, 0, err
	}
	if from == nil {
		j := r.state()
		return j, j.Head, nil
	}
	if err := r.catchClient(ctx, *from); err != nil {
		return Joined{}, 0, err
	}
	j := r.state()
	if ledgerfault.Is(ledgerfault.PurgeUnsaid) {
		from = &Position{Epoch: from.Epoch, Seq: max(from.Seq, j.First-1)}
	}
	if from.Epoch != j.Epoch || from.Seq < j.First-1 || from.Seq > j.Head {
		j.Truncated = true
		return j, j.Head, nil
	}
	kept, err := r.kept(ctx, from.Seq)
	if err != nil {
		return Joined{}, 0, err
	}
	if !kept { // removed since the room last heard of its log
		if j.First, err = r.oldest(ctx); err != nil {
			return Joined{}, 0, err
		}
		j.Truncated = true
		return j, j.Head, nil
	}
	j.Resumed = true
	if ledgerfault.Is(ledgerfault.ResumeOffByOne) {
		return j, from.Seq + 1, nil
	}
	return j, from.Seq, nil
}

func (r *room) state() Joined {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Joined{Epoch: r.epoch, Head: r.sent, First: r.first}
}

// ready waits until the room knows the head of its log: one read for all who join.
func (r *room) ready(ctx context.Context) error {
	r.mu.Lock()
	if r.loaded {
		r.mu.Unlock()
		return nil
	}
	f := r.flightLocked(r.load)
	r.mu.Unlock()
	_, err := f.wait(ctx)
	return err
}

// flightLocked reads the head in a goroutine of its own, as no single joiner's patience should decide for the others.
func (r *room) flightLocked(then func(*flight)) *flight {
	if r.flight != nil {
		return r.flight
	}
	f := &flight{done: make(chan struct{})}
	run := func() {
		f.head, f.err = r.h.readHead(r.ch)
		r.mu.Lock()
		r.flight = nil
		if f.err == nil && !r.closed {
			then(f)
		}
		r.mu.Unlock()
		close(f.done)
	}
	if !r.h.spawn(run) {
		f.err = errEvicted
		close(f.done)
		return f
	}
	r.flight = f
	return f
}

func (f *flight) wait(ctx context.Context) (Head, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return Head{}, ctx.Err()
	}
	if f.err != nil {
		return Head{}, fmt.Errorf("cannot read the channel's head: %w", f.err)
	}
	return f.head, nil
}

// load begins the room at the log's head. What came before that was known is put in its place now. The room is locked.
func (r *room) load(f *flight) {
	r.loaded = true
	r.epoch, r.first = f.head.Epoch, max(f.head.First, 1)
	r.head, r.sent = f.head.Seq, f.head.Seq
	if !ledgerfault.Is(ledgerfault.RingNotRebuilt) {
		r.ring.restart(r.head)
	}
	held := r.held
	r.held, r.want = nil, r.head
	seqs := make([]int64, 0, len(held))
	for seq, e := range held {
		if e.Epoch == r.epoch {
			seqs = append(seqs, seq)
		}
	}
	sort.Slice(seqs, func(i, j int) bool { return seqs[i] < seqs[j] })
	for _, seq := range seqs {
		r.orderLocked(held[seq])
	}
}

// catchClient brings the room to where the client is already: on another process it may have seen what has not come here
// yet. A position that the log does not have either is left to the caller.
func (r *room) catchClient(ctx context.Context, from Position) error {
	r.mu.Lock()
	ahead := from.Epoch == r.epoch && from.Seq > r.sent
	var f *flight
	if ahead && from.Seq > r.head {
		f = r.flightLocked(r.refreshed)
	}
	r.mu.Unlock()
	if !ahead {
		return nil
	}
	if f != nil {
		head, err := f.wait(ctx)
		if err != nil {
			return err
		}
		if head.Epoch != from.Epoch || head.Seq < from.Seq {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.reached(ctx, from.Seq)
}

// refreshed acts on a head that was read because somebody is ahead of this room. The room is locked.
func (r *room) refreshed(f *flight) {
	if f.head.Epoch != r.epoch {
		r.checkLocked()
		return
	}
	r.removedLocked(f.head.First)
	if r.want = max(r.want, f.head.Seq); r.want > r.head {
		r.healLocked()
	}
}

// kept reports whether what follows pos can be had without a hole.
func (r *room) kept(ctx context.Context, pos int64) (bool, error) {
	r.mu.Lock()
	inRing := r.ring.covers(pos)
	r.mu.Unlock()
	if inRing {
		return true, nil
	}
	p, err := r.page(ctx, pos)
	if err != nil {
		return false, err
	}
	return p.next(pos) == pos+1, nil
}

// oldest asks the log for the oldest seq that it keeps.
func (r *room) oldest(ctx context.Context) (int64, error) {
	r.mu.Lock()
	f := r.flightLocked(r.refreshed)
	r.mu.Unlock()
	head, err := f.wait(ctx)
	return head.First, err
}
