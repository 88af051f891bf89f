package chatlog

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// maxPage bounds a page of Query.
const maxPage = 1000

// QueryOptions choose a page of a channel's log; zero fields do not restrict.
type QueryOptions struct {
	After, Before int64     // seqs, both exclusive: for paging
	From, To      time.Time // commit times, To exclusive
	Limit         int       // 1 to 1000; zero: 100
	Newest        bool      // the newest that match instead of the oldest
}

// Page is a part of the log in seq order. More: there is more that matches, after the last message or, with Newest, before
// the first.
type Page struct {
	Head     Head
	Messages []*envelope.Envelope
	More     bool
}

// Query reads a page of a channel's log, as game servers and operators ask for it. It returns ErrGone for a deleted channel.
// Times are tested row by row: give After or Before too where a channel is long.
func Query(ctx context.Context, st *store.Store, channelPK int64, o QueryOptions) (Page, error) {
	h, err := head(ctx, st, channelPK)
	if err != nil {
		return Page{}, err
	}
	if o.Limit <= 0 {
		o.Limit = 100
	}
	o.Limit = min(o.Limit, maxPage)
	where, args := `seq > ?`, []any{max(o.After, h.First-1)}
	if o.Before > 0 {
		where, args = where+` AND seq < ?`, append(args, o.Before)
	}
	if !o.From.IsZero() || !o.To.IsZero() {
		to := int64(math.MaxInt64)
		if !o.To.IsZero() {
			to = o.To.UnixMilli()
		}
		where, args = where+` AND at >= ? AND at < ?`, append(args, max(o.From.UnixMilli(), 0), to)
	}
	where += ` ORDER BY seq`
	if o.Newest {
		where += ` DESC`
	}
	r := reader{st: st, head: h, unreadable: func(int64, int64, error) {}}
	page := Page{Head: h}
	page.Messages, err = r.messages(ctx, where+` LIMIT ?`, append(args, o.Limit+1)...)
	if err != nil {
		return Page{}, err
	}
	if len(page.Messages) > o.Limit {
		page.Messages, page.More = page.Messages[:o.Limit], true
	}
	if o.Newest {
		slices.Reverse(page.Messages)
	}
	return page, nil
}
