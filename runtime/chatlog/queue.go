package chatlog

import (
	"slices"
	"time"
)

// Bounds that nobody needs to set. A tenant alone may take half of each, several with much to say share the rest: there is always
// room for one more.
const (
	maxQueue = 64 << 10  // messages that wait for a commit
	maxBytes = 128 << 20 // and what they may hold
)

// queue is what waits for a commit. Tenants take turns in it, so that one which says much at once waits behind itself and not in front
// of the others.
type queue struct {
	lines map[string]*line
	turns []*line // all of them, the next to be served first
	len   int
	bytes int
}

// line is what one tenant has in the queue, oldest first and so with deadlines that rise.
type line struct {
	tenant  string
	entries []*entry
	bytes   int
}

// add reports false, and takes nothing, when the tenant has as much in the queue as there is room left.
func (q *queue) add(it *entry) bool {
	l := q.lines[it.env.Tenant]
	if l == nil {
		l = &line{tenant: it.env.Tenant}
	}
	if len(l.entries) >= maxQueue-q.len || l.bytes+len(it.body) > maxBytes-q.bytes {
		return false
	}
	if len(l.entries) == 0 {
		if q.lines == nil {
			q.lines = map[string]*line{}
		}
		q.lines[l.tenant] = l
		q.turns = append(q.turns, l)
	}
	l.entries = append(l.entries, it)
	l.bytes += len(it.body)
	q.len++
	q.bytes += len(it.body)
	return true
}

// take removes n entries, or all, one of each tenant in turn. They come in the order in which they were added.
func (q *queue) take(n int) []*entry {
	out := make([]*entry, 0, min(n, q.len))
	several := len(q.turns) > 1
	for len(out) < n && len(q.turns) > 0 {
		l := q.turns[0]
		q.turns = q.turns[1:]
		count := 1
		if len(q.turns) == 0 {
			count = min(n-len(out), len(l.entries))
		}
		out = append(out, q.cut(l, count)...)
		if len(l.entries) > 0 {
			q.turns = append(q.turns, l)
		}
	}
	if several {
		slices.SortStableFunc(out, func(a, b *entry) int { return a.deadline.Compare(b.deadline) })
	}
	return out
}

// expired removes what nobody waits for any more.
func (q *queue) expired(now time.Time) (out []*entry) {
	for _, l := range q.turns {
		n := 0
		for n < len(l.entries) && !now.Before(l.entries[n].deadline) {
			n++
		}
		out = append(out, q.cut(l, n)...)
	}
	if out != nil {
		q.turns = slices.DeleteFunc(q.turns, func(l *line) bool { return len(l.entries) == 0 })
	}
	return out
}

// cut removes the n oldest of a line. One that is empty has no turn any more, which is left to the caller.
func (q *queue) cut(l *line, n int) []*entry {
	out := l.entries[:n:n]
	if l.entries = l.entries[n:]; len(l.entries) == 0 {
		delete(q.lines, l.tenant)
	}
	for _, it := range out {
		l.bytes -= len(it.body)
		q.bytes -= len(it.body)
	}
	q.len -= n
	return out
}

// deadline is the first of all; the queue is not empty.
func (q *queue) deadline() time.Time {
	first := q.turns[0].entries[0].deadline
	for _, l := range q.turns {
		if d := l.entries[0].deadline; d.Before(first) {
			first = d
		}
	}
	return first
}
