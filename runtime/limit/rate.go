package limit

import (
	"sync"
	"time"
)

// Rate is what a bucket holds and how fast it fills.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Rates is one token bucket per key, at most max of them: the fullest buckets are forgotten first, since a new one starts full too.
// It is safe for concurrent use.
type Rates[K comparable] struct {
	mu      sync.Mutex
	max     int
	buckets map[K]*bucket
}

// bucket had tokens at a moment; below zero they are owed.
type bucket struct {
	Rate
	tokens float64
	at     time.Time
}

// NewRates makes buckets; max bounds how many are remembered.
func NewRates[K comparable](max int) *Rates[K] {
	return &Rates[K]{max: max, buckets: map[K]*bucket{}}
}

// Take takes one token of key's bucket, which follows rate from now on. When there is none it takes nothing and says how long until
// there is one, a millisecond at least: clients are told in whole ones.
func (r *Rates[K]) Take(key K, rate Rate) (after time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bucketLocked(key, rate)
	if b.tokens < 1 {
		return max(b.until(1), time.Millisecond), false
	}
	b.tokens--
	return 0, true
}

// Reserve takes n tokens of key's bucket, which follows rate from now on, also if they are not there yet, and says how long until
// they will be: callers who wait that long are served in the order of their calls, at the rate.
func (r *Rates[K]) Reserve(key K, rate Rate, n int) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bucketLocked(key, rate)
	b.tokens -= float64(n)
	return max(b.until(0), 0)
}

// bucketLocked returns key's bucket as it is now.
func (r *Rates[K]) bucketLocked(key K, rate Rate) *bucket {
	now := time.Now()
	b := r.buckets[key]
	if b == nil {
		if len(r.buckets) >= r.max {
			r.forgetLocked(now)
		}
		b = &bucket{Rate: rate, tokens: float64(rate.Burst), at: now}
		r.buckets[key] = b
		return b
	}
	b.tokens, b.at = b.level(now), now
	b.Rate, b.tokens = rate, min(b.tokens, float64(rate.Burst))
	return b
}

// level is how many tokens there are at a moment.
func (b *bucket) level(now time.Time) float64 {
	return min(float64(b.Burst), b.tokens+now.Sub(b.at).Seconds()*b.PerSecond)
}

// until is how long it takes until there are n tokens.
func (b *bucket) until(n float64) time.Duration {
	return time.Duration((n - b.tokens) / b.PerSecond * float64(time.Second))
}

// forgetLocked frees a sixteenth of the room: full buckets, and where these do not suffice whatever comes first.
func (r *Rates[K]) forgetLocked(now time.Time) {
	want := r.max - r.max/16 - 1
	for key, b := range r.buckets {
		if b.level(now) >= float64(b.Burst) {
			delete(r.buckets, key)
		}
	}
	for key := range r.buckets {
		if len(r.buckets) <= want {
			return
		}
		delete(r.buckets, key)
	}
}
