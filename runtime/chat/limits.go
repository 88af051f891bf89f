package chat

import "cmp"

// Limits bound what clients may ask for. Zero means the default.
type Limits struct {
	MaxTextChars   int     // code points of a message, 1000
	PerSecond      float64 // messages a user may send per second, 20
	Burst          int     // and at once, 40
	LoginsParallel int     // logins that may read the database at a time, 64
	LoginsWaiting  int     // and that may wait for it, 20000
}

const (
	maxUsers  = 1 << 16 // users whose rate is remembered
	maxRecent = 1 << 16 // messages whose retries are answered from memory
)

// SetLimits replaces the limits of a running service. Every user's bucket starts full again.
func (s *Service) SetLimits(l Limits) {
	s.maxText.Store(int64(cmp.Or(l.MaxTextChars, 1000)))
	s.rates.Set(cmp.Or(l.PerSecond, 20), cmp.Or(l.Burst, 40))
	s.parking.Resize(cmp.Or(l.LoginsParallel, 64), cmp.Or(l.LoginsWaiting, 20000))
}
