package hub

import "github.com/kmsctl/kms/runtime/envelope"

// strangeLocked keeps a message of another epoch until the log has told which one holds: it may be the first after a
// restore, or a late line from before.
func (r *room) strangeLocked(e *envelope.Envelope) {
	if len(r.foreign) < maxForeign {
		r.foreign = append(r.foreign, e)
	}
	r.checkLocked()
}

func (r *room) checkLocked() {
	if r.checking || r.closed {
		return
	}
	r.checking = r.h.spawn(r.check)
}

func (r *room) check() {
	pause := firstPause
	for {
		head, err := r.h.readHead(r.ch.PK)
		if err == nil {
			r.mu.Lock()
			r.checking = false
			r.restartLocked(head)
			r.mu.Unlock()
			return
		}
		if !r.pause(&pause) {
			return
		}
	}
}

// restartLocked goes over to the epoch that the log names, beginning with the first message of it that was seen here.
// What was under way of the old one is not sent any more.
func (r *room) restartLocked(head Head) {
	foreign := r.foreign
	r.foreign = nil
	if r.closed || head.Epoch == r.epoch {
		return
	}
	base := head.Seq
	for _, e := range foreign {
		if e.Epoch == head.Epoch {
			base = min(base, e.Seq-1)
		}
	}
	r.epoch, r.first = head.Epoch, max(head.First, 1)
	r.gen++
	r.head, r.sent, r.want = base, base, head.Seq
	r.queue, r.held, r.pages = nil, nil, nil
	r.ring.restart(base)
	for _, s := range r.subs {
		s.conn.mu.Lock()
		s.gen, s.pos = r.gen, base
		if s.liveAt != notLive {
			s.liveAt = r.batches + 1
		}
		s.conn.mu.Unlock()
	}
	for _, e := range foreign {
		if e.Epoch == r.epoch {
			r.orderLocked(e)
		}
	}
	if r.want > r.head {
		r.healLocked()
	}
}
