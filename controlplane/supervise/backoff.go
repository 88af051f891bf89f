package supervise

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Backoff says when to start a crashed process again, and when to give up. It waits for nothing itself. The zero value is ready:
// 200 ms after the first crash, doubling up to 30 s, a fifth more or less; the sixth crash within a minute is a loop.
type Backoff struct {
	First  time.Duration
	Max    time.Duration
	Window time.Duration
	Limit  int            // crashes within Window that are still restarted
	Rand   func() float64 // in [0,1); nil: random

	Crashes []time.Time // within the window, oldest first; may be saved and restored
}

// Crashed counts a crash. It returns how long to wait before the next start, or failed: a crash loop, start it no more.
func (b *Backoff) Crashed(now time.Time) (wait time.Duration, failed bool) {
	window := orElse(b.Window, time.Minute)
	b.Crashes = slices.DeleteFunc(b.Crashes, func(at time.Time) bool {
		return at.After(now) || now.Sub(at) > window // a clock set back must not make old crashes eternal
	})
	b.Crashes = append(b.Crashes, now)
	n := len(b.Crashes)
	if n > orElse(b.Limit, 5) {
		return 0, true
	}
	wait, most := orElse(b.First, 200*time.Millisecond), orElse(b.Max, 30*time.Second)
	for range n - 1 {
		wait = min(wait*2, most)
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	wait = min(wait, most)
	return time.Duration(float64(wait) * (0.8 + 0.4*random())), false
}

// Reset forgets all crashes: an operator started it anew.
func (b *Backoff) Reset() { b.Crashes = nil }

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
