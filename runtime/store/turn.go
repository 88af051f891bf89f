package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// turnLock makes the writers of one SQLite file take turns, across processes. Two flocks: whoever wants to write queues on
// `queue`, waits there for `writer`, and lets go of `queue` once it has it. So whoever has just written stands behind
// everyone who waits, where a single lock lets a busy process take it again before a sleeping one has woken.
type turnLock struct {
	queue, writer *os.File
	turn          chan struct{} // one place: this process sends one waiter at a time

	mu      sync.Mutex
	waiting bool       // a goroutine sits in flock
	claimed bool       // somebody wants what it gets
	got     chan error // its answer, while claimed
	closed  bool
	closing sync.Once
}

func openTurnLock(path string) (*turnLock, error) {
	queue, err := os.OpenFile(path+".queue", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	writer, err := os.OpenFile(path+".writer", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, queue.Close())
	}
	return &turnLock{queue: queue, writer: writer, turn: make(chan struct{}, 1)}, nil
}

// acquire waits until it is this caller's turn to write, or ctx ends: ErrUnavailable when that was a deadline.
func (l *turnLock) acquire(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return notInTime(ctx)
	}
	if err := l.lock(ctx); err != nil {
		<-l.turn
		return err
	}
	return nil
}

func notInTime(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: no turn to write in time: %w", ErrUnavailable, ctx.Err())
	}
	return ctx.Err()
}

func (l *turnLock) lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return notInTime(ctx)
	}
	got, err := l.tryOrWait()
	if got == nil {
		return err
	}
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-got: // it came in the same moment
		if err == nil {
			l.unlockWriter()
		}
	default:
		l.claimed = false
	}
	return notInTime(ctx)
}

// tryOrWait takes both locks without waiting if they are free (a nil channel), and otherwise leaves a goroutine waiting for
// them. flock cannot be interrupted, so when a caller gives up the goroutine stays, and the next caller takes it over: there
// is never more than one, and it ends when the holder lets go or dies.
func (l *turnLock) tryOrWait() (chan error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, os.ErrClosed
	}
	if l.waiting {
		l.claimed, l.got = true, make(chan error, 1)
		return l.got, nil
	}
	switch err := l.try(); {
	case err == nil:
		return nil, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return nil, fmt.Errorf("cannot lock %q: %w", l.writer.Name(), err)
	}
	l.waiting, l.claimed, l.got = true, true, make(chan error, 1)
	go l.wait()
	return l.got, nil
}

func (l *turnLock) try() error {
	if err := flock(l.queue, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	defer flock(l.queue, unix.LOCK_UN)
	return flock(l.writer, unix.LOCK_EX|unix.LOCK_NB)
}

func (l *turnLock) wait() {
	err := flock(l.queue, unix.LOCK_EX)
	if err == nil {
		err = flock(l.writer, unix.LOCK_EX)
		flock(l.queue, unix.LOCK_UN)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = false
	if l.claimed {
		l.got <- err
		return
	}
	if l.closed {
		l.closeFiles() // which unlocks
	} else if err == nil {
		l.unlockWriter()
	}
}

func (l *turnLock) release() {
	l.unlockWriter()
	<-l.turn
}

func (l *turnLock) unlockWriter() { flock(l.writer, unix.LOCK_UN) }

// close waits for a transaction under way and lets the descriptors go. A goroutine that still waits for a frozen holder ends,
// and closes them, when that holder does.
func (l *turnLock) close() error {
	l.closing.Do(func() { l.turn <- struct{}{} }) // never given back
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.waiting {
		return nil
	}
	return l.closeFiles()
}

func (l *turnLock) closeFiles() error { return errors.Join(l.queue.Close(), l.writer.Close()) }

// flock repeats a call that a signal has interrupted.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
