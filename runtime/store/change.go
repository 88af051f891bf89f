package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// The kinds of changes. Whoever reads another kind treats it as a change of everything of that tenant.
const (
	ChangeTenant  = "tenant"  // subject: the tenant; detail: its state, or "deleted"
	ChangeKey     = "key"     // subject: the key's id
	ChangeToken   = "token"   // subject: the user
	ChangeMember  = "member"  // subject: the channel; detail: the user
	ChangeChannel = "channel" // subject: the channel; detail: "created" or "deleted"
	ChangeNGWord  = "ngword"  // subject: the list
	ChangeUser    = "user"    // subject: the user, who has another display name
	ChangeVersion = "version" // subject: the version, of no tenant; whether it is deprecated
)

// Change is one thing that running processes must unlearn or reload.
type Change struct {
	N                             int64
	Tenant, Kind, Subject, Detail string
	At                            time.Time
}

// KeepChanges is how long a change is kept. A process reads them every 500 ms, and what it has not read for 10 s stops it; one that was
// frozen for longer than this finds a hole and reloads everything.
const KeepChanges = time.Hour

// ChangesHead returns the feed's epoch and last number. Another epoch, or a number below one seen before, means reload all.
func (s *Store) ChangesHead(ctx context.Context) (epoch string, n int64, err error) {
	err = s.DB().QueryRowContext(ctx, `SELECT epoch, n FROM changes_head WHERE id = 1`).Scan(&epoch, &n)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the head of changes: %w", Wrap(err))
	}
	return epoch, n, nil
}

// ChangesAfter returns the epoch and, as of the same moment, at most limit changes after number n in order.
func (s *Store) ChangesAfter(ctx context.Context, n int64, limit int) (epoch string, list []Change, err error) {
	scan := func(row scanner) (Change, error) {
		var number, at sql.NullInt64
		var tenant, kind, subject, detail sql.NullString
		err := row.Scan(&epoch, &number, &tenant, &kind, &subject, &detail, &at)
		return Change{number.Int64, tenant.String, kind.String, subject.String, detail.String, fromNullMS(at)}, err
	}
	// One statement, hence one moment: an epoch with the changes of another would be believed.
	list, err = collect(ctx, s.DB(), scan, `SELECT h.epoch, c.n, c.tenant, c.kind, c.subject, c.detail, c.at
		FROM changes_head h LEFT JOIN changes c ON c.n > ? WHERE h.id = 1 ORDER BY c.n LIMIT ?`, n, max(limit, 1))
	if err != nil {
		return "", nil, fmt.Errorf("cannot read changes after %d: %w", n, err)
	}
	if len(list) == 1 && list[0].N == 0 {
		list = nil // the head alone
	}
	return epoch, list, nil
}

// ForgetChanges removes at most limit of the changes that are older than keep by the database's clock, the oldest first, and returns how
// many there were. The head stays: numbers are never given twice.
func (s *Store) ForgetChanges(ctx context.Context, keep time.Duration, limit int) (int, error) {
	var upTo sql.NullInt64
	err := s.DB().QueryRowContext(ctx, `SELECT MAX(n) FROM (SELECT n, at FROM changes ORDER BY n LIMIT ?) AS oldest
		WHERE at < `+s.Dialect().NowMS()+` - ?`, limit, keep.Milliseconds()).Scan(&upTo)
	n := 0
	if err == nil && upTo.Valid {
		err = s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.affected(`DELETE FROM changes WHERE n <= ?`, upTo.Int64)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("cannot remove old changes: %w", Wrap(err))
	}
	return n, nil
}
