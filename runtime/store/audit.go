package store

import (
	"context"
	"fmt"
	"time"
)

// maxText bounds free text, in characters: what somebody gave as a reason, or what went wrong.
const maxText = 8000

// Audit is one change that somebody made: who, what to which subject, why, and how it ended.
type Audit struct {
	ID                                          int64
	At                                          time.Time
	Who, Action, Subject, Message, Result, Node string
}

// AuditFilter narrows an AuditTrail.
type AuditFilter struct {
	Subject string // empty: all
	Limit   int    // 0: 100
}

// AppendAudit adds an entry, at the database's time unless it comes late and has its own: then it is added once, however often it is
// tried. Texts that are too long are cut, not refused.
func (s *Store) AppendAudit(ctx context.Context, a Audit) error {
	a.Who, a.Action, a.Subject, a.Node = clip(a.Who, 255), clip(a.Action, 64), clip(a.Subject, 255), clip(a.Node, 64)
	err := s.Write(ctx, func(tx *Tx) error {
		at := a.At
		if at.IsZero() {
			now, err := tx.NowMS()
			if err != nil {
				return err
			}
			at = fromMS(now)
		} else if known, err := tx.hasAudit(a); known || err != nil {
			return err
		}
		return tx.exec(`INSERT INTO audit (at, who, action, subject, message, result, node) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			at.UnixMilli(), a.Who, a.Action, a.Subject, clip(a.Message, maxText), clip(a.Result, maxText), a.Node)
	})
	if err != nil {
		return fmt.Errorf("cannot append to the audit trail: %w", err)
	}
	return nil
}

// hasAudit reports whether the trail has an entry: one of the same change at the same millisecond.
func (tx *Tx) hasAudit(a Audit) (bool, error) {
	var n int
	err := tx.scan(`SELECT COUNT(*) FROM audit WHERE subject = ? AND at = ? AND who = ? AND action = ? AND node = ?`,
		[]any{a.Subject, a.At.UnixMilli(), a.Who, a.Action, a.Node}, &n)
	return n > 0, err
}

// AuditTrail returns entries, newest first.
func (s *Store) AuditTrail(ctx context.Context, f AuditFilter) ([]Audit, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	where, args := ``, []any{}
	if f.Subject != "" {
		where, args = ` WHERE subject = ?`, append(args, f.Subject)
	}
	scan := func(row scanner) (Audit, error) {
		var a Audit
		var at int64
		err := row.Scan(&a.ID, &at, &a.Who, &a.Action, &a.Subject, &a.Message, &a.Result, &a.Node)
		a.At = fromMS(at)
		return a, err
	}
	list, err := collect(ctx, s.DB(), scan, `SELECT id, at, who, action, subject, message, result, node FROM audit`+where+`
		ORDER BY id DESC LIMIT ?`, append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the audit trail: %w", err)
	}
	return list, nil
}
