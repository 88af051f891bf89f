package chatlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// defaultLimit is how many messages one read returns when the caller does not say.
const defaultLimit = 1000

// moveOverlap is how far back of the last answer Moved looks: a commit shows up later than the moment it is stamped with.
const moveOverlap = attemptLimit + time.Second

// Head is where a channel stands: First is the oldest seq that is kept, Seq the newest, 0 before the first message.
type Head struct {
	PK              int64
	Tenant, Channel string
	Epoch           string
	First, Seq      int64
}

// Find looks up what became of a message, by its ID, User, Kind and Target. It does not wait for a commit under way: false means not
// yet. Something else under its id is ErrTaken.
func (l *Log) Find(ctx context.Context, channelPK int64, e *envelope.Envelope) (Receipt, bool, error) {
	r := Receipt{ID: e.ID, Duplicate: true}
	var m logged
	var target sql.NullString
	err := l.st.DB().QueryRowContext(ctx, `SELECT c.epoch, m.seq, m.at, m.kind, m.target FROM messages m JOIN channels c ON c.pk = m.channel_pk
		WHERE m.id = ? AND m.channel_pk = ? AND m.user = ?`, e.ID, channelPK, e.User).Scan(&r.Epoch, &r.Seq, &r.At, &m.kind, &target)
	if errors.Is(err, sql.ErrNoRows) {
		return Receipt{}, false, nil
	}
	if err != nil {
		return Receipt{}, false, fmt.Errorf("cannot look up message %q: %w", e.ID, store.Wrap(err))
	}
	m.target = target.String
	if err := m.admit(e.Kind, e.Target); err != nil {
		return Receipt{}, false, err
	}
	return r, true, nil
}

// Read returns the messages after one seq and up to another (0: the newest) in seq order, at most limit (0: 1000). It
// starts at the oldest that is kept: compare with Head.First. A message that this build cannot read has an empty Kind.
func (l *Log) Read(ctx context.Context, channelPK, after, upTo int64, limit int) ([]*envelope.Envelope, error) {
	h, err := l.Head(ctx, channelPK)
	if err != nil {
		return nil, err
	}
	if upTo <= 0 {
		upTo = math.MaxInt64
	}
	if limit <= 0 {
		limit = defaultLimit
	}
	r := reader{st: l.st, head: h, unreadable: l.warnUnreadable}
	return r.messages(ctx, `seq > ? AND seq <= ? ORDER BY seq LIMIT ?`, max(after, h.First-1), upTo, limit)
}

func (l *Log) warnUnreadable(pk, seq int64, err error) {
	l.warned.Do(func() {
		l.logger.Warn("message in the log is not readable by this build", "channel", pk, "seq", seq, "err", err)
	})
}

// Head returns where the channel stands, or ErrGone once it is deleted.
func (l *Log) Head(ctx context.Context, channelPK int64) (Head, error) {
	return head(ctx, l.st, channelPK)
}

func head(ctx context.Context, st *store.Store, channelPK int64) (Head, error) {
	h := Head{PK: channelPK}
	err := st.DB().QueryRowContext(ctx, `SELECT tenant, id, epoch, first, head FROM channels WHERE pk = ? AND deleted_at IS NULL`,
		channelPK).Scan(&h.Tenant, &h.Channel, &h.Epoch, &h.First, &h.Seq)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, ErrGone
	}
	if err != nil {
		return Head{}, fmt.Errorf("cannot read head of channel %d: %w", channelPK, store.Wrap(err))
	}
	return h, nil
}

// Moved returns the heads of the channels that have got messages since the time that the last call returned, some of them
// again, and the time to pass next. A zero since, and one that the database's clock has not reached (it went back), gives
// all channels.
func (l *Log) Moved(ctx context.Context, since time.Time) ([]Head, time.Time, error) {
	now, err := l.st.Now(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	query, args := `SELECT pk, tenant, id, epoch, first, head FROM channels WHERE deleted_at IS NULL`, []any(nil)
	if !since.IsZero() && !since.After(now) {
		query, args = query+` AND moved_at >= ?`, []any{since.Add(-moveOverlap).UnixMilli()}
	}
	heads, err := readHeads(ctx, l.st, query, args)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("cannot read which channels moved: %w", store.Wrap(err))
	}
	return heads, now, nil
}

func readHeads(ctx context.Context, st *store.Store, query string, args []any) ([]Head, error) {
	rows, err := st.DB().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var heads []Head
	for rows.Next() {
		var h Head
		if err := rows.Scan(&h.PK, &h.Tenant, &h.Channel, &h.Epoch, &h.First, &h.Seq); err != nil {
			return nil, err
		}
		heads = append(heads, h)
	}
	return heads, rows.Err()
}

// reader reads messages of one channel.
type reader struct {
	st         *store.Store
	head       Head
	unreadable func(pk, seq int64, err error)
}

func (r *reader) messages(ctx context.Context, where string, args ...any) ([]*envelope.Envelope, error) {
	out, err := r.query(ctx, where, args)
	if err != nil {
		return nil, fmt.Errorf("cannot read log of channel %q: %w", r.head.Channel, store.Wrap(err))
	}
	return out, nil
}

func (r *reader) query(ctx context.Context, where string, args []any) ([]*envelope.Envelope, error) {
	rows, err := r.st.DB().QueryContext(ctx, `SELECT seq, id, user, target, at, body FROM messages WHERE channel_pk = ? AND `+where,
		append([]any{r.head.PK}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*envelope.Envelope
	var raw sql.RawBytes
	for rows.Next() {
		var seq, at int64
		var id, user string
		var target sql.NullString
		if err := rows.Scan(&seq, &id, &user, &target, &at, &raw); err != nil {
			return nil, err
		}
		e, err := envelope.Parse(raw)
		if err != nil {
			r.unreadable(r.head.PK, seq, err)
			e = &envelope.Envelope{V: envelope.Version}
		}
		e.Tenant, e.Channel, e.Epoch = r.head.Tenant, r.head.Channel, r.head.Epoch
		e.Seq, e.ID, e.User, e.Target, e.At = seq, id, user, target.String, at
		out = append(out, e)
	}
	return out, rows.Err()
}
