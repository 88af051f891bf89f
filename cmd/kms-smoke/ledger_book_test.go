package main

import (
	"fmt"
	"sync"
	"time"
)

// book is what everybody in a ledger run wrote down: what was sent, acknowledged and received, which connections ended how, and
// what was done to the parts meanwhile.
type book struct {
	began time.Time

	mu          sync.Mutex
	sent        []*sending
	stretchs    []*stretch
	closings    []closing
	outages     []*outage
	removed     map[string][]logRow // from the beginning of a channel's log, without a hole
	truncations []truncation
	backup      time.Time    // when it began
	restored    *restoration // nil: never
	wrong       []violation
}

// sending is one message of a client or of the game server, from its first try to its answer.
type sending struct {
	who, version, user string
	channel, text      string
	kind, target       string // of an edit or a deletion: what it is called in 2.0, and the id of what it is about
	id                 string // 1.0, and deletions by the game's server: made by the server and told in the answer
	line, order        int    // connection of the first try, and its place among the sends there
	at                 time.Time
	tries              int
	acked              time.Time // zero: never
	epoch              string
	seq                int64  // 0 in 1.0
	refused            string // the code that ended it
}

// arrival is one message that came.
type arrival struct {
	kind     string // edit, del or empty
	target   string
	seq      int64 // 0 in 1.0
	id, text string
	at       time.Time
}

// stretch is what came of one channel over one connection between its join and its end. In it nothing is missing.
type stretch struct {
	who, version, channel string
	line                  int
	began, ended          time.Time // ended zero: joined to the end of the run
	base                  int64     // 2.0: the position it began after
	got                   []arrival
}

// closing is the end of a connection that the client did not bring about.
type closing struct {
	who, version string
	line         int
	at           time.Time
	code         int // 0: no close frame
	text         string
	loggedIn     bool
}

// outage is something that was done to a part.
type outage struct {
	step
	began, ended time.Time // ended zero: not yet
	note         string
}

// violation is a promise that was seen broken; what it is about may be left empty.
type violation struct {
	at      time.Time
	what    string
	who     string
	channel string
	seq     int64
	id      string
}

func newBook() *book { return &book{began: time.Now(), removed: map[string][]logRow{}} }

func (b *book) note(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *book) broken(v violation) {
	v.at = time.Now()
	b.note(func() { b.wrong = append(b.wrong, v) })
}

func (b *book) begin(s *sending) *sending {
	s.at, s.tries = time.Now(), 1
	b.note(func() { b.sent = append(b.sent, s) })
	return s
}

func (b *book) join(s *stretch) *stretch {
	s.began = time.Now()
	b.note(func() { b.stretchs = append(b.stretchs, s) })
	return s
}

func (b *book) leave(s *stretch) {
	if s != nil {
		b.note(func() { s.ended = time.Now() })
	}
}

func (b *book) outage(s step) *outage {
	o := &outage{step: s, began: time.Now()}
	b.note(func() { b.outages = append(b.outages, o) })
	return o
}

func (b *book) over(o *outage, note string) {
	b.note(func() { o.ended, o.note = time.Now(), note })
}

// since is a time as the story tells it.
func (b *book) since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%.3fs", t.Sub(b.began).Seconds())
}
