package chatlog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// checkRow refuses what could only spoil a batch.
func checkRow(e *envelope.Envelope) error {
	switch {
	case !e.Logged():
		return fmt.Errorf("internal error: kind %q is not logged", e.Kind)
	case len(e.ID) != 26, e.Target != "" && len(e.Target) != 26:
		return fmt.Errorf("internal error: message id %q or target %q is no ULID", e.ID, e.Target)
	case isChange(e.Kind) != (e.Target != ""):
		return fmt.Errorf("internal error: %s %q has the target %q", e.Kind, e.ID, e.Target)
	case len(e.User) > 64, len(e.Text) > envelope.MaxText:
		return fmt.Errorf("internal error: message %q is too large for the log", e.ID)
	}
	return nil
}

// body is what the columns do not say. Unknown fields stay in it.
func body(e *envelope.Envelope) []byte {
	c := e.Clone()
	c.Tenant, c.Channel, c.Epoch, c.Seq, c.ID, c.User, c.Target, c.At, c.Ref = "", "", "", 0, "", "", "", 0, false
	return c.Append(make([]byte, 0, 96+len(c.Name)+len(c.Text)))
}

// channelRow is a channel's locked row.
type channelRow struct {
	epoch string
	head  int64
	gone  bool
	moved bool
}

// writeRows is the transaction: lock the channels in id order, find the ids that exist, give seqs to new rows only, insert.
func writeRows(ctx context.Context, tx *store.Tx, rows []*entry) error {
	channels, at, err := lockChannels(ctx, tx, rows)
	if err != nil {
		return err
	}
	existing, err := findIDs(ctx, tx, rows)
	if err != nil {
		return err
	}
	targets, err := findTargets(ctx, tx, rows)
	if err != nil {
		return err
	}
	fresh := make([]*entry, 0, len(rows))
	for _, it := range rows {
		it.receipt, it.err, it.hidden = Receipt{}, nil, it.shadow
		c := channels[it.pk]
		if c == nil || c.gone {
			it.err = ErrGone
			continue
		}
		if m, ok := existing.messages[it.key]; ok {
			if it.err = m.admit(it.kind, it.target); it.err == nil {
				it.receipt = m.receipt
				it.receipt.Epoch, it.receipt.Duplicate = c.epoch, m.receipt.Seq != it.tried
			}
			continue
		}
		if it.err = existing.admit(it.key); it.err == nil {
			it.err = targets.admit(it)
		}
		if it.err != nil {
			continue
		}
		c.head++
		c.moved = true
		it.receipt = Receipt{ID: it.id, Epoch: c.epoch, Seq: c.head, At: at}
		// The same message may stand twice in one batch.
		existing.add(it.key, logged{it.receipt, it.kind, it.target})
		fresh = append(fresh, it)
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := insert(ctx, tx, fresh); err != nil {
		return err
	}
	if err := moveHeads(ctx, tx, channels, at); err != nil {
		return err
	}
	return applyChanges(ctx, tx, fresh)
}

// known is which messages are in the log, and by whose ids: an id is one message's in its channel, or an edit of one would be one of
// another user's.
type known struct {
	messages map[key]logged
	users    map[place]string
}

// logged is what has to be known of a message that comes again.
type logged struct {
	receipt      Receipt
	kind, target string
}

// admit refuses what is not that message: to answer it with the receipt would be to say that it was done.
func (m logged) admit(kind, target string) error {
	if m.kind != kind || m.target != target {
		return ErrTaken
	}
	return nil
}

// place is a message as others name it.
type place struct {
	pk int64
	id string
}

func (k known) add(of key, m logged) {
	k.messages[of] = m
	k.users[place{of.pk, of.id}] = of.user
}

func (k known) admit(of key) error {
	if user, taken := k.users[place{of.pk, of.id}]; taken && user != of.user {
		return ErrTaken
	}
	return nil
}

// lockChannels also reads the database's clock, which is one statement less in each commit.
func lockChannels(ctx context.Context, tx *store.Tx, rows []*entry) (channels map[int64]*channelRow, at int64, err error) {
	pks := make([]int64, len(rows))
	for i, it := range rows {
		pks[i] = it.pk
	}
	slices.Sort(pks)
	pks = slices.Compact(pks)
	args := make([]any, len(pks))
	for i, pk := range pks {
		args[i] = pk
	}
	query := "SELECT pk, epoch, head, deleted_at, " + tx.Dialect().NowMS() + " FROM channels WHERE pk IN (" + marks(len(pks)) + ") ORDER BY pk"
	if tx.Dialect() == store.MySQL {
		// Two processes that lock in different orders deadlock: the primary key is the order. SQLite's write lock is held.
		query = strings.Replace(query, "channels", "channels FORCE INDEX (PRIMARY)", 1)
	}
	found, err := tx.QueryContext(ctx, query+tx.Dialect().ForUpdate(), args...)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot lock channels: %w", err)
	}
	defer found.Close()
	channels = make(map[int64]*channelRow, len(pks))
	for found.Next() {
		var pk int64
		var deleted sql.NullInt64
		c := &channelRow{}
		if err := found.Scan(&pk, &c.epoch, &c.head, &deleted, &at); err != nil {
			return nil, 0, fmt.Errorf("cannot lock channels: %w", err)
		}
		c.gone = deleted.Valid
		channels[pk] = c
	}
	if err := found.Err(); err != nil {
		return nil, 0, fmt.Errorf("cannot lock channels: %w", err)
	}
	return channels, at, nil
}

// findIDs finds which of the messages are in the log. ULIDs hardly ever collide, so the id alone is asked for.
func findIDs(ctx context.Context, tx *store.Tx, rows []*entry) (known, error) {
	existing := known{make(map[key]logged, len(rows)), make(map[place]string, len(rows))}
	args := make([]any, len(rows))
	for i, it := range rows {
		args[i] = it.id
	}
	query := "SELECT id, channel_pk, user, kind, target, seq, at FROM messages WHERE id IN (" + marks(len(rows)) + ")"
	if tx.Dialect() == store.MySQL {
		// With many ids and old statistics the optimizer may prefer to read the whole log.
		query = strings.Replace(query, "messages", "messages FORCE INDEX (messages_id)", 1)
	}
	found, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return known{}, fmt.Errorf("cannot find message ids: %w", err)
	}
	defer found.Close()
	for found.Next() {
		var k key
		var m logged
		var target sql.NullString
		if err := found.Scan(&k.id, &k.pk, &k.user, &m.kind, &target, &m.receipt.Seq, &m.receipt.At); err != nil {
			return known{}, fmt.Errorf("cannot find message ids: %w", err)
		}
		m.receipt.ID, m.target = k.id, target.String
		existing.add(k, m)
	}
	if err := found.Err(); err != nil {
		return known{}, fmt.Errorf("cannot find message ids: %w", err)
	}
	return existing, nil
}

func insert(ctx context.Context, tx *store.Tx, rows []*entry) error {
	const row = "(?,?,?,?,?,?,?,?)"
	args := make([]any, 0, 8*len(rows))
	for _, it := range rows {
		target := sql.NullString{String: it.target, Valid: it.target != ""}
		text, err := it.stored()
		if err != nil {
			return err
		}
		args = append(args, it.pk, it.receipt.Seq, it.id, it.user, it.kind, target, it.receipt.At, text)
	}
	query := "INSERT INTO messages (channel_pk, seq, id, user, kind, target, at, body) VALUES " +
		strings.Repeat(row+",", len(rows)-1) + row
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("cannot insert %d messages: %w", len(rows), err)
	}
	return nil
}

// moveHeads takes the heads from the rows just inserted, so that one statement serves any number of channels. LIMIT makes
// it one look-up per channel in both dialects, where MAX would read the whole channel in MySQL.
func moveHeads(ctx context.Context, tx *store.Tx, channels map[int64]*channelRow, at int64) error {
	args := []any{at}
	for pk, c := range channels {
		if c.moved {
			args = append(args, pk)
		}
	}
	query := "UPDATE channels SET moved_at = ?, head = (SELECT m.seq FROM messages m WHERE m.channel_pk = channels.pk" +
		" ORDER BY m.seq DESC LIMIT 1) WHERE pk IN (" + marks(len(args)-1) + ")"
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("cannot move channel heads: %w", err)
	}
	return nil
}

// marks is a list of n placeholders.
func marks(n int) string { return strings.Repeat("?,", n-1) + "?" }
