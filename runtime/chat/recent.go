package chat

import (
	"sync"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/ledgerfault"
)

// messageKey is what makes two sends the same message.
type messageKey struct {
	channelPK    int64
	user, id     string
	kind, target string
}

// maxWaiters bounds how many retries wait for one message that is under way.
const maxWaiters = 16

// recent remembers the messages of the last while, so that a retry is answered without the log: with the receipt, or together with
// the first when that one is still under way. It is bounded: the oldest half is forgotten when it is full.
type recent struct {
	mu       sync.Mutex
	max      int
	pending  map[messageKey][]func(chatlog.Receipt, error)
	now, old map[messageKey]chatlog.Receipt
}

func newRecent(max int) *recent {
	return &recent{
		max:     max,
		pending: map[messageKey][]func(chatlog.Receipt, error){},
		now:     map[messageKey]chatlog.Receipt{},
		old:     map[messageKey]chatlog.Receipt{},
	}
}

// seen reports whether the message is known; then done gets its answer, at once or with the first one's.
func (r *recent) seen(key messageKey, done func(chatlog.Receipt, error)) bool {
	r.mu.Lock()
	if waiters, ok := r.pending[key]; ok {
		full := len(waiters) >= maxWaiters
		if !full {
			r.pending[key] = append(waiters, done)
		}
		r.mu.Unlock()
		if full {
			done(chatlog.Receipt{}, retryable(CodeBusy, "the message is on its way"))
		}
		return true
	}
	receipt, ok := r.now[key]
	if !ok {
		receipt, ok = r.old[key]
	}
	r.mu.Unlock()
	if ok {
		receipt.Duplicate = true
		done(receipt, nil)
	}
	return ok
}

// begin notes that a message is on its way to the log.
func (r *recent) begin(key messageKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.pending[key]; !twice { // two connections of one user: the log's index settles it
		r.pending[key] = nil
	}
}

// finish answers whoever asked in the meantime. A failed message is forgotten: its retry is a first try again.
func (r *recent) finish(key messageKey, receipt chatlog.Receipt, err error) {
	r.mu.Lock()
	waiters := r.pending[key]
	delete(r.pending, key)
	if err == nil || ledgerfault.Is(ledgerfault.AckFailedRetry) {
		if len(r.now) >= r.max/2 {
			r.now, r.old = map[messageKey]chatlog.Receipt{}, r.now
		}
		r.now[key] = receipt
	}
	r.mu.Unlock()
	receipt.Duplicate = err == nil
	for _, done := range waiters {
		done(receipt, err)
	}
}
