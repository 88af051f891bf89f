package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

// eventBuffer is how far a follower may lag before it is cut off; a follower that is cut asks again.
const eventBuffer = 256

// events hands what happens to whoever follows. A slow follower never holds up the daemon.
type events struct {
	mu        sync.Mutex
	followers map[chan controlplane.Event]int64 // -> release, 0 for all
}

func newEvents() *events { return &events{followers: map[chan controlplane.Event]int64{}} }

// emit tells the followers. An event that carries a release's end closes those who follow just that release.
func (e *events) emit(ev controlplane.Event) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
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

// follow starts with what past returns, then whatever happens until ctx ends or the release has. Nothing can happen between
// the two: past runs while events wait.
func (e *events) follow(ctx context.Context, release int64, past func() ([]controlplane.Event, error)) (<-chan controlplane.Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, err := past()
	if err != nil {
		return nil, err
	}
	c := make(chan controlplane.Event, eventBuffer+len(first))
	e.followers[c] = release
	for _, ev := range first {
		c <- ev
		if ev.Ended != nil {
			e.dropLocked(c)
			return c, nil
		}
	}
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.dropLocked(c)
	})
	return c, nil
}
