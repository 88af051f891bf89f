package chat

import (
	"context"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/ledgerfault"
)

const (
	headEvery = time.Second
	headsAll  = time.Minute
)

// headLoop asks the log once a second which channels moved and lets the hub read what it lacks: that heals lines lost on the bus,
// killed publishers and commits whose outcome was unknown, and carries the chat while the bus is dead.
func (s *Service) headLoop(ctx context.Context) {
	tick := time.NewTicker(headEvery)
	defer tick.Stop()
	var last look
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			last.since = s.checkHeads(ctx, last.next(now))
		}
	}
}

// look is when the log was last asked: since is what it answered, the database's clock; all when for every head, this process's.
type look struct{ since, all time.Time }

// next returns since when to ask now: zero, for all heads, once in headsAll, since what moved may have been told wrongly.
func (l *look) next(now time.Time) time.Time {
	if now.Sub(l.all) >= headsAll {
		l.since, l.all = time.Time{}, now
	}
	return l.since
}

// checkHeads returns from when on to ask next time. An error leaves that unchanged, so that the next look covers this one too.
func (s *Service) checkHeads(ctx context.Context, since time.Time) time.Time {
	if len(s.hub.Rooms()) == 0 || ledgerfault.Is(ledgerfault.NoHeadCheck) {
		return since
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	moved, now, err := s.cfg.Log.Moved(ctx, since)
	if err != nil {
		return since
	}
	heads := make([]hub.Head, len(moved))
	for i, h := range moved {
		heads[i] = hub.Head(h)
	}
	s.hub.Heads(heads)
	return now
}

// hubLog is the log as the hub reads it.
type hubLog struct{ Log }

func (l hubLog) Head(ctx context.Context, pk int64) (hub.Head, error) {
	h, err := l.Log.Head(ctx, pk)
	return hub.Head(h), err
}
