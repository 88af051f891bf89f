package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rates is one token bucket per key, at most max of them: the fullest buckets are forgotten first, since a new one starts full too.
// It is safe for concurrent use.
type Rates[K comparable] struct {
	mu      sync.Mutex
	every   rate.Limit
	burst   int
	max     int
	buckets map[K]*rate.Limiter
}

// NewRates makes buckets of burst tokens that refill at perSecond; max bounds how many are remembered.
func NewRates[K comparable](perSecond float64, burst, max int) *Rates[K] {
	return &Rates[K]{every: rate.Limit(perSecond), burst: burst, max: max, buckets: map[K]*rate.Limiter{}}
}

// Set changes rate and burst for everyone; all buckets start full again.
func (r *Rates[K]) Set(perSecond float64, burst int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.every, r.burst = rate.Limit(perSecond), burst
	clear(r.buckets)
}

// Take takes one token of key's bucket. When there is none it takes nothing and says how long until there is one.
func (r *Rates[K]) Take(key K) (after time.Duration, ok bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[key]
	if b == nil {
		if len(r.buckets) >= r.max {
			r.forgetLocked(now)
		}
		b = rate.NewLimiter(r.every, r.burst)
		r.buckets[key] = b
	}
	if b.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - b.TokensAt(now)
	return time.Duration(missing / float64(r.every) * float64(time.Second)), false
}

// forgetLocked frees a sixteenth of the room: full buckets, and where these do not suffice whatever comes first.
func (r *Rates[K]) forgetLocked(now time.Time) {
	want := r.max - r.max/16 - 1
	for key, b := range r.buckets {
		if b.TokensAt(now) >= float64(r.burst) {
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
