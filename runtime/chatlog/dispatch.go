package chatlog

import "time"

// dispatch is the goroutine that decides when a batch starts and that calls every done: after a commit, or when a sender
// has waited long enough. Commits run beside it, so a database that hangs holds up no answer.
func (l *Log) dispatch() {
	defer close(l.stopped)
	defer close(l.batches)
	var inFlight []*entry
	var began time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		expire(inFlight, now)
		queued, closed := l.tidy(now)
		if inFlight == nil && queued && (closed || !now.Before(began.Add(l.interval))) {
			inFlight, began = l.take(), now
			l.batches <- inFlight
		}
		if closed && !queued && inFlight == nil {
			return
		}
		timer.Reset(l.untilNext(now, inFlight, began))
		select {
		case <-l.wake:
		case <-timer.C:
		case <-l.results:
			for _, it := range inFlight {
				it.answer()
			}
			inFlight = nil
		}
	}
}

// answer tells the sender how the commit ended, unless it has stopped waiting.
func (it *entry) answer() {
	if it.answered {
		return
	}
	it.answered = true
	if it.err != nil {
		it.done(Receipt{}, it.err)
		return
	}
	it.env.Shadow = it.env.Shadow || it.hidden
	it.env.Epoch, it.env.Seq, it.env.At = it.receipt.Epoch, it.receipt.Seq, it.receipt.At
	it.done(it.receipt, nil)
}

// giveUp tells the sender that it has waited long enough. The commit may be under way: neither its result nor the
// committer's fields are looked at.
func (it *entry) giveUp() {
	if !it.answered {
		it.answered = true
		it.done(Receipt{}, ErrBusy)
	}
}

func expire(inFlight []*entry, now time.Time) {
	for _, it := range inFlight {
		if now.Before(it.deadline) {
			return // deadlines rise along a batch
		}
		it.giveUp()
	}
}

// tidy answers what was refused and what has waited too long in the queue; that will never be committed.
func (l *Log) tidy(now time.Time) (queued, closed bool) {
	l.mu.Lock()
	refused := l.refused
	l.refused = nil
	late := l.queue.expired(now)
	queued, closed = l.queue.len > 0, l.closed
	l.mu.Unlock()
	for _, it := range refused {
		it.answer()
	}
	for _, it := range late {
		it.giveUp()
	}
	return queued, closed
}

func (l *Log) take() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.take(l.maxBatch)
}

// untilNext is how long nothing needs to be done unless something arrives.
func (l *Log) untilNext(now time.Time, inFlight []*entry, began time.Time) time.Duration {
	wait := time.Hour
	for _, it := range inFlight {
		if !it.answered {
			wait = it.deadline.Sub(now)
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.len == 0 {
		return wait
	}
	next := l.queue.deadline()
	if start := began.Add(l.interval); inFlight == nil && start.Before(next) {
		next = start
	}
	return min(wait, next.Sub(now))
}
