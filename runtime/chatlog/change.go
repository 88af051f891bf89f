package chatlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ledgerfault"
	"github.com/kmsctl/kms/runtime/store"
)

// isChange reports whether the kind is about another message.
func isChange(kind string) bool { return kind == envelope.Edit || kind == envelope.Delete }

// target is what has to be known of a message that is to be changed.
type target struct {
	user, kind      string
	shadow, deleted bool
}

type targets map[place]*target

// findTargets reads what a batch is to change and stands in the log; what stands in the batch itself is added by admit.
func findTargets(ctx context.Context, tx *store.Tx, rows []*entry) (targets, error) {
	found := targets{}
	var args []any
	for _, it := range rows {
		if it.target != "" {
			args = append(args, it.target)
		}
	}
	if len(args) == 0 {
		return nil, nil
	}
	query := "SELECT id, channel_pk, user, kind, body FROM messages WHERE id IN (" + marks(len(args)) + ")"
	if tx.Dialect() == store.MySQL {
		query = strings.Replace(query, "messages", "messages FORCE INDEX (messages_id)", 1)
	}
	list, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("cannot find what is to be changed: %w", err)
	}
	defer list.Close()
	for list.Next() {
		var at place
		var t target
		var body sql.RawBytes
		if err := list.Scan(&at.id, &at.pk, &t.user, &t.kind, &body); err != nil {
			return nil, fmt.Errorf("cannot find what is to be changed: %w", err)
		}
		if e, err := envelope.Parse(body); err == nil { // else a newer build's: not for us to change
			t.shadow, t.deleted = e.Shadow, e.Text == ""
			found[at] = &t
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("cannot find what is to be changed: %w", err)
	}
	return found, nil
}

// admit refuses a change of what is not there or not its user's; anything else it remembers, for changes behind it in the batch. The
// game's server, which is no user, changes whatever was said.
func (all targets) admit(it *entry) error {
	if all == nil { // the batch changes nothing
		return nil
	}
	if it.target == "" {
		all[place{it.pk, it.id}] = &target{user: it.user, kind: it.kind, shadow: it.shadow}
		return nil
	}
	t := all[place{it.pk, it.target}]
	if t == nil || t.deleted || isChange(t.kind) || it.user != "" && (t.user != it.user || t.kind != envelope.Say) {
		return ErrNoTarget
	}
	it.hidden = it.shadow || t.shadow
	t.deleted = it.kind == envelope.Delete
	return nil
}

// stored is the body as it goes into the log.
func (it *entry) stored() ([]byte, error) {
	if it.hidden == it.shadow {
		return it.body, nil
	}
	e, err := envelope.Parse(it.body)
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot read back message %q: %v", it.id, err)
	}
	e.Shadow = it.hidden
	return e.Append(nil), nil
}

// applyChanges gives what the new entries change its new text, or none, in the order of the entries.
func applyChanges(ctx context.Context, tx *store.Tx, fresh []*entry) error {
	for _, it := range fresh {
		if it.target == "" || ledgerfault.Is(ledgerfault.ChangeNotStored) || it.user == "" && ledgerfault.Is(ledgerfault.GameChangeLost) {
			continue
		}
		if err := applyChange(ctx, tx, it); err != nil {
			return fmt.Errorf("cannot change message %q: %w", it.target, err)
		}
	}
	return nil
}

// applyChange leaves the text with the newest edit and the target only; an edit that was shadowed by its words changes nothing for
// those who do not see it.
func applyChange(ctx context.Context, tx *store.Tx, it *entry) error {
	change, err := envelope.Parse(it.body)
	if err != nil {
		return err
	}
	var before string
	err = rewrite(ctx, tx, it.pk, it.target, func(e *envelope.Envelope) bool {
		if change.Shadow && !e.Shadow {
			return false
		}
		before = e.Edited
		e.Text, e.Edited = change.Text, it.id
		if it.kind == envelope.Delete {
			e.Text, e.Edited = "", ""
		}
		return true
	})
	if err != nil || before == "" {
		return err
	}
	err = rewrite(ctx, tx, it.pk, before, func(e *envelope.Envelope) bool { e.Text = ""; return true })
	if errors.Is(err, sql.ErrNoRows) { // nothing that was removed has a text any more
		return nil
	}
	return err
}

// rewrite changes a stored body if change says so. The channel's row is locked.
func rewrite(ctx context.Context, tx *store.Tx, pk int64, id string, change func(*envelope.Envelope) bool) error {
	var seq int64
	var body []byte
	err := tx.QueryRowContext(ctx, `SELECT seq, body FROM messages WHERE id = ? AND channel_pk = ? ORDER BY seq LIMIT 1`, id, pk).Scan(&seq, &body)
	if err != nil {
		return err
	}
	e, err := envelope.Parse(body)
	if err != nil || !change(e) {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE messages SET body = ? WHERE channel_pk = ? AND seq = ?`, e.Append(nil), pk, seq)
	return err
}
