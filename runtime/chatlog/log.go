// Package chatlog is the message log: the truth about what was said, in which order. Messages are committed in groups, each
// gets the next seq of its channel without a gap, and a message's id settles every retry, whichever process it comes to.
// Acknowledged means committed. Several processes write the same channels at the same time; the channel's row in the store
// is the lock between them. The tables belong to runtime/store.
package chatlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

var (
	// ErrBusy answers a message that could not be committed in time, or that found the queue full. It may still have been
	// committed: send it again with the same id, and the first receipt comes back.
	ErrBusy = errors.New("message log is busy")
	// ErrGone answers a message to a channel that was deleted. Sending it again does not help.
	ErrGone = errors.New("channel is deleted")
	// ErrNoTarget answers an edit or a deletion of what is not there, is deleted already, or is another user's.
	ErrNoTarget = errors.New("there is no such message")
	// ErrTaken answers a message whose id another user has used in the channel, or the same user for something else: an edit is not
	// the message that it changes.
	ErrTaken = errors.New("the message id is taken")
	// ErrUnavailable answers while the database is away or the log is closed. Sending again with the same id is safe.
	ErrUnavailable = store.ErrUnavailable
)

// attemptLimit bounds one try to commit a batch.
const attemptLimit = 5 * time.Second

// Options of a Log; zero means the default.
type Options struct {
	Interval time.Duration // from the beginning of one commit to the next, 10 ms
	MaxBatch int           // messages in one commit, 500
	Timeout  time.Duration // how long a sender waits, 2 s
	Logger   *slog.Logger
}

// Receipt says where a message stands in its channel. Duplicate: it had been committed before this call.
type Receipt struct {
	ID, Epoch string
	Seq, At   int64
	Duplicate bool
}

// Log commits messages in groups. It is safe for concurrent use.
type Log struct {
	st       *store.Store
	write    func(context.Context, func(*store.Tx) error) error // st.Write; tests lose answers here
	interval time.Duration
	maxBatch int
	timeout  time.Duration
	logger   *slog.Logger

	mu      sync.Mutex
	queue   queue    // waits for a commit
	refused []*entry // found no room in it, not yet told
	closed  bool

	wake    chan struct{}
	batches chan []*entry
	results chan struct{}
	stopped chan struct{}
	warned  sync.Once // a body in the log that this build cannot read
}

// entry is one message on its way. The committer owns the middle part while the message is in a batch; the sender may have
// been told ErrBusy by then, so nothing but the dispatcher touches its envelope.
type entry struct {
	key
	kind, target string
	shadow       bool
	body         []byte
	deadline     time.Time

	receipt Receipt
	err     error
	tried   int64 // the seq that a commit with unknown outcome gave it
	hidden  bool  // changes what only its sender sees, and so is only for him

	env      *envelope.Envelope
	done     func(Receipt, error)
	answered bool
}

// key is what makes a message unique.
type key struct {
	pk       int64
	id, user string
}

// Open starts a log on st, which stays the caller's. Close it before st.
func Open(st *store.Store, o Options) *Log { return open(st, st.Write, o) }

func open(st *store.Store, write func(context.Context, func(*store.Tx) error) error, o Options) *Log {
	l := &Log{
		st: st, write: write, interval: o.Interval, maxBatch: o.MaxBatch, timeout: o.Timeout, logger: o.Logger,
		wake: make(chan struct{}, 1), batches: make(chan []*entry, 1), results: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if l.interval <= 0 {
		l.interval = 10 * time.Millisecond
	}
	if l.maxBatch <= 0 {
		l.maxBatch = 500
	}
	if l.timeout <= 0 {
		l.timeout = 2 * time.Second
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	go l.commitBatches()
	go l.dispatch()
	return l
}

// Close commits what waits, as long as its senders wait, and ends the log. Later messages are refused.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.stopped
	return nil
}

// Append queues a message for the next commit and returns at once; where more wait than a commit holds, tenants take turns. done is
// called once, from the log's own goroutine, in the order of Append within a channel (a full queue is answered before what stands in
// it); it must not block. On success
// e's Seq, Epoch and At are set just before, and Shadow if it changes a shadowed message. Until done is called e belongs to the log.
//
// An edit or a deletion names its target, a message of the channel. One with a User changes only what that user has said. What is
// stored of the target changes with it: it has the new text, or none.
func (l *Log) Append(channelPK int64, e *envelope.Envelope, done func(Receipt, error)) {
	it := &entry{key: key{channelPK, e.ID, e.User}, kind: e.Kind, target: e.Target, shadow: e.Shadow, env: e, done: done}
	it.err = checkRow(e)
	if it.err == nil {
		it.body = body(e)
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		done(Receipt{}, ErrUnavailable)
		return
	}
	it.deadline = time.Now().Add(l.timeout) // under the lock, so that deadlines rise along the queue
	first := l.queue.len == 0
	if it.err == nil && !l.queue.add(it) {
		it.err, it.body = ErrBusy, nil
	}
	if it.err != nil {
		l.refused = append(l.refused, it)
		first = true
	}
	l.mu.Unlock()
	if first {
		l.signal()
	}
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
