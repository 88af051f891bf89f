package chatlog

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	// maxPage bounds a page of Query.
	maxPage = 1000
	// flagWindow is how many messages one Query looks through for flagged ones.
	flagWindow = 20_000
)

// QueryOptions choose a page of a channel's log; zero fields do not restrict.
type QueryOptions struct {
	After, Before int64     // seqs, both exclusive: for paging
	From, To      time.Time // commit times, To exclusive
	Limit         int       // 1 to 1000; zero: 100
	Newest        bool      // the newest that match instead of the oldest
	Flagged       bool      // only those with Flags
}

// Page is a part of the log in seq order. More: there may be more that matches, to be asked for with After set to Next or, with
// Newest, with Before. Next is the last seq that was looked at, in the direction of the query. With Flagged, a page with few
// messages or none may have More: one call looks through 20,000 messages at most.
type Page struct {
	Head     Head
	Messages []*envelope.Envelope
	More     bool
	Next     int64
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
	w := windowOf(o, h)
	where, args := w.where(o)
	r := reader{st: st, head: h, unreadable: func(int64, int64, error) {}}
	found, err := r.messages(ctx, where+` LIMIT ?`, append(args, o.Limit+1)...)
	if err != nil {
		return Page{}, err
	}
	now, err := head(ctx, st, channelPK) // what the page lacks at its beginning may have been removed just now
	if err != nil {
		return Page{}, err
	}
	h.First = now.First
	page := Page{Head: h, Messages: found, More: w.cut, Next: w.end(o.Newest)}
	if len(found) > o.Limit {
		page.Messages, page.More = found[:o.Limit], true
		page.Next = page.Messages[o.Limit-1].Seq
	}
	if o.Newest {
		slices.Reverse(page.Messages)
	}
	if o.Flagged { // the database has only guessed
		page.Messages = slices.DeleteFunc(page.Messages, func(e *envelope.Envelope) bool { return len(e.Flags) == 0 })
	}
	return page, nil
}

// window is the part of the log that a query looks at, both ends inclusive; cut: there is more behind it.
type window struct {
	first, last int64
	cut         bool
}

func windowOf(o QueryOptions, h Head) window {
	w := window{first: max(min(o.After, h.Seq)+1, h.First), last: h.Seq}
	if o.Before > 0 {
		w.last = min(w.last, o.Before-1)
	}
	if o.Flagged && w.last-w.first >= flagWindow {
		w.cut = true
		if o.Newest {
			w.first = w.last - flagWindow + 1
		} else {
			w.last = w.first + flagWindow - 1
		}
	}
	return w
}

// end is the last seq that is looked at, in the query's direction.
func (w window) end(newest bool) int64 {
	if newest {
		return w.first
	}
	return max(w.first-1, w.last)
}

func (w window) where(o QueryOptions) (string, []any) {
	where, args := `seq >= ? AND seq <= ?`, []any{w.first, w.last}
	if !o.From.IsZero() || !o.To.IsZero() {
		to := int64(math.MaxInt64)
		if !o.To.IsZero() {
			to = o.To.UnixMilli()
		}
		where, args = where+` AND at >= ? AND at < ?`, append(args, max(o.From.UnixMilli(), 0), to)
	}
	if o.Flagged {
		where, args = where+` AND INSTR(body, ?) > 0`, append(args, []byte(`"f":["`)) // no text holds it: quotes are escaped there
	}
	where += ` ORDER BY seq`
	if o.Newest {
		where += ` DESC`
	}
	return where, args
}
