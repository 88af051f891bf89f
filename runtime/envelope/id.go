package envelope

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

var (
	idMu      sync.Mutex
	idEntropy = ulid.Monotonic(rand.Reader, 0)
)

// NewID makes a message id: a ULID in its canonical form. Ids made for the same millisecond rise in the order of the calls.
// It is safe for concurrent use.
func NewID(now time.Time) string {
	ms := min(uint64(max(now.UnixMilli(), 0)), ulid.MaxTime())
	idMu.Lock()
	defer idMu.Unlock()
	id, err := ulid.New(ms, idEntropy)
	if err != nil {
		// The 80 random bits ran over within this millisecond: start them afresh.
		idEntropy = ulid.Monotonic(rand.Reader, 0)
		id = ulid.MustNew(ms, idEntropy)
	}
	return id.String()
}
