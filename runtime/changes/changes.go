// Package changes follows the feed of what running processes must unlearn: revoked tokens, removed members, suspended
// tenants, new NG lists. It reads the database twice a second and when woken, so that a change is known within a second
// even while no bus line arrives. A new epoch, a number that went back or a hole means that everything must be reloaded.
// Whoever relies on the feed asks Stale before it lets anything in: what cannot be read may have revoked it.
package changes

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

const (
	pageSize    = 500
	readTimeout = 3 * time.Second
	// wakeGap keeps a storm of wake-ups from becoming a storm of reads.
	wakeGap = 10 * time.Millisecond
)

// Source is where the feed is read; *store.Store is one.
type Source interface {
	ChangesHead(ctx context.Context) (epoch string, n int64, err error)
	ChangesAfter(ctx context.Context, n int64, limit int) (epoch string, list []store.Change, err error)
}

// Options of a Follower. Both callbacks come from one goroutine, never at the same time, and hold up the feed while they run.
type Options struct {
	Interval  time.Duration // between reads, 500 ms
	OnChanges func([]store.Change)
	OnReload  func() // also called at the first read: what was learnt before it may be old
	Logger    *slog.Logger
}

// Follower reads the feed until it is closed.
type Follower struct {
	source Source
	o      Options
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	start   time.Time
	current atomic.Int64 // nanoseconds from start to the begin of the last read that was carried out to its end

	// Owned by the goroutine.
	known bool
	epoch string
	n     int64
	away  bool
}

// Follow begins to read at once, in the background.
func Follow(source Source, o Options) *Follower {
	if o.Interval <= 0 {
		o.Interval = 500 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{source: source, o: o, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), start: time.Now()}
	f.current.Store(math.MinInt64)
	go f.run(ctx)
	return f
}

// Wake makes the follower read now. It never blocks, and any number of calls cost few reads.
func (f *Follower) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Stale is how old the knowledge of the feed is: the time since the begin of the last read whose changes have been handed
// over. It is the largest Duration before the first.
func (f *Follower) Stale() time.Duration {
	current := f.current.Load()
	if current == math.MinInt64 {
		return math.MaxInt64
	}
	return time.Since(f.start) - time.Duration(current)
}

// Close ends the follower and waits for a callback that runs.
func (f *Follower) Close() {
	f.cancel()
	<-f.done
}

func (f *Follower) run(ctx context.Context) {
	defer close(f.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		f.read(ctx)
		timer.Reset(wakeGap)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(f.o.Interval - min(wakeGap, f.o.Interval))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.wake:
		}
	}
}

func (f *Follower) read(ctx context.Context) {
	began := time.Since(f.start)
	err := f.catchUp(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !f.away:
		f.away = true
		f.o.Logger.Warn("cannot read changes", "err", err)
	case err == nil && f.away:
		f.away = false
		f.o.Logger.Info("changes are read again", "n", f.n)
	}
	if err == nil {
		f.current.Store(int64(began))
	}
}

// catchUp hands over what came since the last read, or asks for a reload where it cannot know what came.
func (f *Follower) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		epoch, head, err := f.source.ChangesHead(ctx)
		if err != nil {
			return err
		}
		if !f.known || epoch != f.epoch {
			// The number is read before the reload: what changes during it comes again.
			f.known, f.epoch, f.n = true, epoch, head
			f.o.OnReload()
			return nil
		}
		if f.n == head {
			return nil
		}
		epoch, list, err := f.source.ChangesAfter(ctx, f.n, pageSize)
		if err != nil {
			return err
		}
		// A number that went back comes as an empty list here.
		if epoch != f.epoch || !follows(list, f.n) {
			f.known = false
			continue
		}
		f.n += int64(len(list))
		f.o.OnChanges(list)
	}
}

// follows reports whether the list goes on without a hole after n; old rows may have been purged.
func follows(list []store.Change, n int64) bool {
	for i, c := range list {
		if c.N != n+int64(i)+1 {
			return false
		}
	}
	return len(list) > 0
}
