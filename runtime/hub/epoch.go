package hub

// checkLocked asks the log which epoch holds, after something of another one came: it may be the first after a restore, or a late
// line from before. What came is not kept: if the epoch holds, the log has it.
func (r *room) checkLocked() {
	if r.checking || r.closed {
		return
	}
	r.checking = r.h.spawn(r.check)
}

func (r *room) check() {
	pause := firstPause
	for {
		head, err := r.h.readHead(r.ch)
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

// newEpochReason is what a client reads whose position means nothing any more.
const newEpochReason = "the channel's log was replaced"

// restartLocked goes over to the epoch that the log names. A position of the old one means nothing in it, so whoever is here is closed:
// they come back, and are told.
func (r *room) restartLocked(head Head) {
	if r.closed || head.Epoch == r.epoch {
		return
	}
	r.turnOutLocked(newEpochReason)
	r.epoch, r.first = head.Epoch, max(head.First, 1)
	r.head, r.sent, r.want = head.Seq, head.Seq, head.Seq
	r.queue, r.held, r.pages = nil, nil, nil
	r.ring.restart(r.head)
}
