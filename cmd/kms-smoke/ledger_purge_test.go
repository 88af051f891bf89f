package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// A tenant keeps messages for an hour at least, which a run does not last: messages are made older by agedBy once they are, but
// in a calm run, agedAfter old, when nothing that hangs in a frozen process brings one of them again.
const (
	keepFor   = time.Hour
	agedBy    = 2 * keepFor
	agedAfter = 10 * time.Second
)

// purge makes all but the newest messages of a channel too old to be kept, past the place of the sleeper, and returns when they have
// gone and the sleeper was told.
func (c *chaos) purge(ctx context.Context, channel string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	st, err := store.Open(ctx, c.storeURL(), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	upTo := int64(0)
	for upTo == 0 {
		if upTo, err = c.age(ctx, st, channel); upTo == 0 && !pause(ctx, 300*time.Millisecond) {
			return errors.Join(errors.New("nothing was old enough"), err)
		}
	}
	for {
		ch, err := st.Channel(ctx, tenant, channel)
		if err == nil && ch.First > upTo {
			break
		}
		if !pause(ctx, 100*time.Millisecond) {
			return errors.Join(fmt.Errorf("the log still begins at %d", ch.First), err)
		}
	}
	pause(ctx, 1500*time.Millisecond) // else the servers have it in memory yet, and nobody misses anything
	c.sleeper.wake()
	for c.sleeper.at(channel) < upTo && pause(ctx, 50*time.Millisecond) {
	}
	c.sleeper.sleep()
	return ctx.Err()
}

// age writes down what is to go, before it can, and returns the last seq of it; 0: nothing. The newest message stays, so that the purge
// has to stop before one.
func (c *chaos) age(ctx context.Context, st *store.Store, channel string) (int64, error) {
	rows, err := readChannel(ctx, st, channel)
	if err != nil {
		return 0, err
	}
	n := c.book.settled(rows[:max(0, len(rows)-1)], time.Now().Add(-c.agedAfter))
	if n == 0 || rows[n-1].seq <= c.sleeper.at(channel) {
		return 0, fmt.Errorf("%d of %d rows are settled, and the sleeper is at %d", n, len(rows), c.sleeper.at(channel))
	}
	ch, err := st.Channel(ctx, tenant, channel)
	if err != nil {
		return 0, err
	}
	upTo := rows[n-1].seq
	c.book.remove(channel, rows[:n])
	return upTo, st.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE messages SET at = at - ? WHERE channel_pk = ? AND seq <= ?`, agedBy.Milliseconds(), ch.PK, upTo)
		return err
	})
}

// settled is how many of the first rows are older than a time and have their answer: whoever sends a message again that is
// forgotten says it again.
func (b *book) settled(rows []logRow, before time.Time) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := map[string]bool{}
	for _, s := range b.sent {
		if s.acked.IsZero() && s.refused == "" {
			waiting[s.id] = true
		}
	}
	for n < len(rows) && rows[n].at.Before(before) && !waiting[rows[n].id] {
		n++
	}
	return n
}

// remove writes down rows that follow those removed before, and whose messages may be gone from now on.
func (b *book) remove(channel string, rows []logRow) {
	b.note(func() {
		for _, row := range rows {
			if row.seq > b.removedUpTo(channel) {
				row.removed = true
				b.removed[channel] = append(b.removed[channel], row)
			}
		}
	})
}

// removedUpTo is the last seq that may be gone. The book is locked.
func (b *book) removedUpTo(channel string) int64 { return int64(len(b.removed[channel])) }

// whole is the log with what was removed from it in its place. What is in the log still counts as it stands there, but for the time.
func (b *book) whole(log map[string][]logRow) map[string][]logRow {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string][]logRow{}
	for channel, rows := range log {
		whole := append([]logRow{}, b.removed[channel]...)
		for _, row := range rows {
			if row.seq > int64(len(b.removed[channel])) {
				whole = append(whole, row)
				continue
			}
			row.at = whole[row.seq-1].at
			whole[row.seq-1] = row
		}
		all[channel] = whole
	}
	return all
}

// truncation is that a client was told that its place is gone. Kept is what the server said of the log.
type truncation struct {
	who, channel string
	at           position
	kept         seqs
}

// truncated writes down an answer to a resume that says so, and reports whether it was right: the store was restored, or something
// after the place was removed, and the log does not begin later than was said.
func (b *book) truncated(who string, at position, o op2) (right bool) {
	b.note(func() {
		if o.Truncated == nil || o.Resumed || o.Truncated.Last != o.Seq {
			return
		}
		b.truncations = append(b.truncations, truncation{who, o.Ch, at, *o.Truncated})
		gone := b.removedUpTo(o.Ch)
		if o.Epoch != at.Epoch {
			right = b.restored != nil
			return
		}
		right = at.Seq < gone && o.Truncated.First > at.Seq+1 && o.Truncated.First <= gone+1
	})
	return right
}

// sleep has a client leave and stay away until wake.
func (c *keeper) sleep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asleep = make(chan struct{})
	if c.current != nil {
		c.current.left = true
		goodbye(c.current.ws)
	}
}

// at is where it is in a channel.
func (c *keeper) at(channel string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.places[channel]; p != nil {
		return p.Seq
	}
	return math.MaxInt64
}

// wake may be called twice.
func (c *keeper) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asleep != nil {
		close(c.asleep)
		c.asleep = nil
	}
}

// rested returns once the client is not asleep.
func (c *keeper) rested() {
	c.mu.Lock()
	asleep := c.asleep
	c.mu.Unlock()
	if asleep == nil {
		return
	}
	select {
	case <-asleep:
	case <-c.ctx.Done():
	}
}
