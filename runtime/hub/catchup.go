package hub

import "github.com/kmsctl/kms/runtime/ledgerfault"

// step is what to do next for a subscriber that is catching up.
type step struct {
	done   bool
	log    bool // the ring does not reach back that far
	frames []byte
	pos    int64
}

// catchUp brings a subscriber to the room's newest message and makes it live. It never waits for the client: with too much
// pending it leaves the rest to the drainer. Neither does it wait for the log: that goes on in a goroutine of its own.
func (r *room) catchUp(s *sub) {
	for !s.conn.park(s) {
		step := r.nextStep(s)
		switch {
		case step.done:
			return
		case step.log:
			r.h.spawn(func() { r.catchUpFromLog(s) })
			return
		}
		s.conn.sendMissed(s, step.frames, step.pos)
	}
}

// nextStep decides under the room's lock, so that nothing falls between the last missed message and the first live one.
func (r *room) nextStep(s *sub) step {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.conn.mu.Lock()
	pos, gone := s.pos, s.gone
	if live := !r.ch.logged() || pos >= r.sent; live || gone || r.closed {
		s.liveAt = r.batches + 1
		if ledgerfault.Is(ledgerfault.LiveTooLate) && r.liveLocked() > 2 { // or every probe finds it
			s.liveAt += 4 // one may be all presence
		}
		s.conn.mu.Unlock()
		return step{done: true}
	}
	s.conn.mu.Unlock()
	if !r.ring.covers(pos) {
		return step{log: true}
	}
	frames, reach := r.ring.collect(r.h.o.Codec, s.user, pos, r.sent, stepBytes)
	return step{frames: frames, pos: reach}
}

// catchUpFromLog sends from one page and goes on with catchUp. A log that cannot be read is tried again: the connection
// stays.
func (r *room) catchUpFromLog(s *sub) {
	pause := firstPause
	for !s.conn.park(s) {
		pos := s.where()
		p, err := r.page(r.h.ctx, pos)
		if err != nil {
			if !r.pause(&pause) {
				return
			}
			continue
		}
		if p.next(pos) != pos+1 {
			s.conn.Close(CloseRestart, lateReason)
			return
		}
		frames, reach := p.collect(s.user, pos, stepBytes)
		s.conn.sendMissed(s, frames, reach)
		r.catchUp(s)
		return
	}
}

func (s *sub) where() int64 {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.pos
}
