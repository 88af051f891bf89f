package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

const (
	// eventBuffer is how far a follower may lag before it is cut off; a follower that is cut asks again.
	eventBuffer = 256
	// eventsKept is how many events are told to who comes later; a new control plane begins with none.
	eventsKept = 1000
)

// events hands what happens to whoever follows. A slow follower never holds up the daemon.
type events struct {
	mu        sync.Mutex
	followers map[chan controlplane.Event]int64 // -> release, 0 for all
	recent    []controlplane.Event              // the last of them, the oldest first
}

func newEvents() *events { return &events{followers: map[chan controlplane.Event]int64{}} }

// emit tells the followers. An event that carries a release's end closes those who follow just that release.
func (e *events) emit(ev controlplane.Event) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recent = append(e.recent, ev); len(e.recent) > 2*eventsKept {
		e.recent = slices.Clone(e.recent[eventsKept:])
	}
	for c, release := range e.followers {
		if release != 0 && release != ev.Release {
			continue
		}
		select {
		case c <- ev:
		default:
			e.dropLocked(c)
			continue
		}
		if release != 0 && ev.Ended != nil {
			e.dropLocked(c)
		}
	}
}

func (e *events) dropLocked(c chan controlplane.Event) {
	if _, ok := e.followers[c]; ok {
		delete(e.followers, c)
		close(c)
	}
}

// follow starts with the last events and what past returns, then tells whatever happens until ctx ends or the release has. Nothing can
// happen in between: past runs while events wait.
func (e *events) follow(ctx context.Context, q controlplane.EventQuery, past func() ([]controlplane.Event, error)) (<-chan controlplane.Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, err := past()
	if err != nil {
		return nil, err
	}
	if q.Release == 0 {
		first = e.recent[len(e.recent)-min(q.Last, eventsKept, len(e.recent)):]
	}
	c := make(chan controlplane.Event, eventBuffer+len(first))
	e.followers[c] = q.Release
	for _, ev := range first {
		c <- ev
		if q.Release != 0 && ev.Ended != nil {
			e.dropLocked(c)
			return c, nil
		}
	}
	if !q.Follow {
		e.dropLocked(c)
		return c, nil
	}
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.dropLocked(c)
	})
	return c, nil
}
