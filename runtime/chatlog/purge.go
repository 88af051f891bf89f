package chatlog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/ledgerfault"
	"github.com/kmsctl/kms/runtime/store"
)

// One transaction of a purge is as small as a writer's: who writes meanwhile waits for one of them at most, and purging has a fifth
// of the time when there is much to do.
const (
	purgeRows     = 200
	purgeChannels = 10
	purgeRest     = 4 // times as long as the transaction took
	purgePause    = 20 * time.Millisecond
)

// Purged counts what a purge removed: messages, rows of deleted channels, and of the changes feed.
type Purged struct{ Messages, Channels, Changes int }

// Purge removes the messages that are older than their tenants' retention, deleted channels with all that they have, and changes that
// are older than store.KeepChanges, in small transactions with rests between. A channel's First rises in the transaction that removes
// what was before it. One purge at a time: the caller's lease sees to that, though two would only hinder each other.
func Purge(ctx context.Context, st *store.Store) (Purged, error) {
	p := purge{st: st}
	err := p.changes(ctx) // which are few: no flood of messages makes them wait
	if err == nil {
		err = p.messages(ctx)
	}
	if err != nil {
		return p.done, fmt.Errorf("cannot remove what is old: %w", store.Wrap(err))
	}
	return p.done, nil
}

type purge struct {
	st   *store.Store
	done Purged
}

// expired is a channel with something to remove: all that was committed before a time.
type expired struct {
	pk, before int64
	deleted    bool
}

// cut is a piece of a channel's log that goes in one transaction: from first up to, not including, upTo.
type cut struct {
	expired
	first, upTo int64
	last        bool // nothing more is to be removed of the channel
}

func (p *purge) changes(ctx context.Context) error {
	for {
		began := time.Now()
		n, err := p.st.ForgetChanges(ctx, store.KeepChanges, purgeRows)
		p.done.Changes += n
		if err == nil && n == purgeRows {
			err = p.rest(ctx, began)
		}
		if err != nil || n < purgeRows {
			return err
		}
	}
}

func (p *purge) messages(ctx context.Context) error {
	list, err := p.expired(ctx)
	for err == nil && len(list) > 0 {
		var cuts []cut
		if cuts, list, err = p.plan(ctx, list); err != nil {
			break
		}
		began := time.Now()
		if err = p.remove(ctx, cuts); err == nil {
			err = p.rest(ctx, began)
		}
	}
	return err
}

// rest follows a transaction.
func (p *purge) rest(ctx context.Context, began time.Time) error {
	t := time.NewTimer(max(purgePause, purgeRest*time.Since(began)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expired asks each channel's oldest message only.
func (p *purge) expired(ctx context.Context) (list []expired, err error) {
	now := p.st.Dialect().NowMS()
	rows, err := p.st.DB().QueryContext(ctx, `SELECT c.pk, `+now+` - t.retention, 0 FROM tenants t JOIN channels c ON c.tenant = t.id AND c.live = 1
		JOIN messages m ON m.channel_pk = c.pk AND m.seq = c.first WHERE m.at < `+now+` - t.retention
		UNION ALL SELECT pk, ?, 1 FROM channels WHERE deleted_at IS NOT NULL`, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e expired
		if err := rows.Scan(&e.pk, &e.before, &e.deleted); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// plan takes what goes in the next transaction off the list, in the order in which channels are locked. Channels with more come
// again after all others.
func (p *purge) plan(ctx context.Context, list []expired) (cuts []cut, rest []expired, err error) {
	var more []expired
	for rows := int64(0); len(list) > 0 && len(cuts) < purgeChannels && rows < purgeRows; list = list[1:] {
		c, err := p.cut(ctx, list[0], purgeRows-rows)
		if err != nil {
			return nil, nil, err
		}
		rows += c.upTo - c.first
		cuts = append(cuts, c)
		if !c.last {
			more = append(more, list[0])
		}
	}
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.pk, b.pk) })
	return cuts, append(list, more...), nil
}

// cut ends before the first message that is to stay: what is older and has a later seq, since a clock went back, stays with it.
func (p *purge) cut(ctx context.Context, e expired, rows int64) (cut, error) {
	c := cut{expired: e, last: true}
	var head int64
	err := p.st.DB().QueryRowContext(ctx, `SELECT first, head FROM channels WHERE pk = ?`, e.pk).Scan(&c.first, &head)
	if errors.Is(err, sql.ErrNoRows) {
		return cut{last: true}, nil
	}
	if err != nil {
		return c, err
	}
	c.upTo = min(c.first+rows, head+1)
	var stays sql.NullInt64
	err = p.st.DB().QueryRowContext(ctx, `SELECT MIN(seq) FROM messages WHERE channel_pk = ? AND seq >= ? AND seq < ? AND at >= ?`,
		e.pk, c.first, c.upTo, e.before).Scan(&stays)
	if stays.Valid {
		c.upTo = stays.Int64
		if ledgerfault.Is(ledgerfault.PurgeTooMuch) {
			c.upTo++
		}
	} else {
		c.last = c.upTo == head+1
	}
	return c, err
}

// remove is one transaction.
func (p *purge) remove(ctx context.Context, cuts []cut) error {
	var done Purged
	err := p.st.Write(ctx, func(tx *store.Tx) error {
		done = Purged{}
		for _, c := range cuts {
			if err := c.remove(ctx, tx, &done); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		p.done.Messages += done.Messages
		p.done.Channels += done.Channels
	}
	return err
}

// remove locks the channel first, as those who write to it do.
func (c cut) remove(ctx context.Context, tx *store.Tx, done *Purged) error {
	if c.upTo > c.first {
		raised, err := tx.ExecContext(ctx, `UPDATE channels SET first = ? WHERE pk = ? AND first = ?`, c.upTo, c.pk, c.first)
		if err != nil {
			return err
		}
		if n, err := raised.RowsAffected(); err != nil || n == 0 {
			return err // another purge was here
		}
		removed, err := tx.ExecContext(ctx, `DELETE FROM messages WHERE channel_pk = ? AND seq >= ? AND seq < ?`, c.pk, c.first, c.upTo)
		if err != nil {
			return err
		}
		n, err := removed.RowsAffected()
		if err != nil {
			return err
		}
		done.Messages += int(n)
	}
	if c.deleted && c.last {
		if _, err := tx.ExecContext(ctx, `DELETE FROM channels WHERE pk = ?`, c.pk); err != nil {
			return err
		}
		done.Channels++
	}
	return nil
}
