// Package limit holds back what comes faster than it can be served. Parking is the one middleware for logins and API calls: N run,
// M wait first come first served, the rest are told when to come again. Slots and waiting room are shared between tenants, so that
// one tenant's herd stands behind its own and not before everybody else.
package limit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// FullError says that nothing could be served in time; After is when to try again at the earliest.
type FullError struct {
	After time.Duration
}

func (e *FullError) Error() string { return fmt.Sprintf("too many at once, try again in %v", e.After) }

// Parking admits at most parallel holders at a time and lets at most waiting others wait. It is safe for concurrent use.
type Parking struct {
	mu       sync.Mutex
	parallel int
	waiting  int
	running  int
	parked   int
	queues   map[string]*queue
	turn     []*queue // tenants with waiters, the next to be served first
}

type queue struct {
	tenant  string
	waiters []*waiter // first come first served
}

// waiter gets true when it may run and false when it was sent away; ready is buffered, so nobody blocks on handing over.
type waiter struct {
	ready chan bool
}

// NewParking returns a parking lot for parallel running and waiting parked callers.
func NewParking(parallel, waiting int) *Parking {
	return &Parking{parallel: parallel, waiting: waiting, queues: map[string]*queue{}}
}

// Resize changes both bounds. Whoever runs or waits already stays.
func (p *Parking) Resize(parallel, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parallel, p.waiting = parallel, waiting
	p.admitLocked()
}

// Enter waits for a slot until ctx ends. The caller calls leave exactly once when it is done. The error is a *FullError when there
// was no room or the wait took too long.
func (p *Parking) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	p.mu.Lock()
	if p.running < p.parallel && p.parked == 0 {
		p.running++
		p.mu.Unlock()
		return p.leave, nil
	}
	if p.parked >= p.waiting && !p.makeRoomLocked(tenant) {
		p.mu.Unlock()
		return nil, &FullError{After: time.Second}
	}
	w := &waiter{ready: make(chan bool, 1)}
	p.parkLocked(tenant, w)
	p.mu.Unlock()

	select {
	case admitted := <-w.ready:
		if !admitted {
			return nil, &FullError{After: time.Second}
		}
		return p.leave, nil
	case <-ctx.Done():
		p.giveUp(tenant, w)
		return nil, &FullError{After: time.Second}
	}
}

// Waiting returns how many run and how many wait.
func (p *Parking) Waiting() (running, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running, p.parked
}

func (p *Parking) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	p.admitLocked()
}

func (p *Parking) parkLocked(tenant string, w *waiter) {
	q := p.queues[tenant]
	if q == nil {
		q = &queue{tenant: tenant}
		p.queues[tenant] = q
		p.turn = append(p.turn, q)
	}
	q.waiters = append(q.waiters, w)
	p.parked++
}

// admitLocked fills free slots, one tenant after the other.
func (p *Parking) admitLocked() {
	for p.running < p.parallel && len(p.turn) > 0 {
		q := p.turn[0]
		p.turn = p.turn[1:]
		w := q.waiters[0]
		q.waiters = q.waiters[1:]
		p.parked--
		p.running++
		w.ready <- true
		if len(q.waiters) == 0 {
			delete(p.queues, q.tenant)
		} else {
			p.turn = append(p.turn, q)
		}
	}
}

// makeRoomLocked sends away the last that came of the longest queue, when that is longer than the tenant's own would become.
func (p *Parking) makeRoomLocked(tenant string) bool {
	own := 0
	if q := p.queues[tenant]; q != nil {
		own = len(q.waiters)
	}
	var longest *queue
	for _, q := range p.turn {
		if longest == nil || len(q.waiters) > len(longest.waiters) {
			longest = q
		}
	}
	if longest == nil || len(longest.waiters) <= own+1 {
		return false
	}
	last := len(longest.waiters) - 1
	w := longest.waiters[last]
	longest.waiters = longest.waiters[:last]
	p.parked--
	w.ready <- false
	return true
}

// giveUp takes a waiter out again; one that was admitted in the meantime hands its slot on.
func (p *Parking) giveUp(tenant string, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case admitted := <-w.ready:
		if admitted {
			p.running--
			p.admitLocked()
		}
		return
	default:
	}
	q := p.queues[tenant]
	for i := range q.waiters {
		if q.waiters[i] == w {
			q.waiters = append(q.waiters[:i], q.waiters[i+1:]...)
			p.parked--
			break
		}
	}
	if len(q.waiters) > 0 {
		return
	}
	delete(p.queues, tenant)
	for i := range p.turn {
		if p.turn[i] == q {
			p.turn = append(p.turn[:i], p.turn[i+1:]...)
			break
		}
	}
}
