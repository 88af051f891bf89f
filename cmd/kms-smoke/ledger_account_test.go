package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// logRow is a message as the log has it.
type logRow struct {
	channel, epoch string
	seq            int64
	id, user, text string
	kind, target   string
	at             time.Time
	removed        bool // it is no longer in the log, as the test has seen to; the text is what it was shortly before
}

// toldIn1: edits and deletions are not, and of what was deleted nobody knows whether it came before.
func (r logRow) toldIn1() bool { return r.target == "" && r.text != "" }

// readLog reads the whole log of the channels, past all servers.
func readLog(ctx context.Context, url string, channels []string) (map[string][]logRow, error) {
	st, err := store.Open(ctx, url, store.Options{})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	out := map[string][]logRow{}
	for _, channel := range channels {
		if out[channel], err = readChannel(ctx, st, channel); err != nil {
			return nil, fmt.Errorf("channel %q: %w", channel, err)
		}
	}
	return out, nil
}

func readChannel(ctx context.Context, st *store.Store, channel string) ([]logRow, error) {
	ch, err := st.Channel(ctx, tenant, channel)
	if err != nil {
		return nil, err
	}
	rows := []logRow{}
	for after := int64(0); ; {
		page, err := chatlog.Query(ctx, st, ch.PK, chatlog.QueryOptions{After: after, Limit: 1000})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Messages {
			rows = append(rows, logRow{
				channel: channel, epoch: e.Epoch, seq: e.Seq, id: e.ID, user: e.User, text: e.Text, kind: e.Kind, target: e.Target, at: time.UnixMilli(e.At),
			})
			after = e.Seq
		}
		if !page.More {
			return rows, nil
		}
	}
}

// account holds what was written down against the log.
type account struct {
	*book
	log    map[string][]logRow
	byID   map[string]logRow // the first of each
	byText map[string]logRow
	sends  map[string]*sending        // by id, but for those of 1.0
	texts  map[string]map[string]bool // what may be received of a message, by id
	said   map[string]*sending        // by text
}

// settleAccounts finds what was broken. Everybody has left, so the book is nobody else's any more.
func settleAccounts(b *book, log map[string][]logRow, places []*place) *account {
	a := &account{book: b, log: b.whole(log), byID: map[string]logRow{}, byText: map[string]logRow{}}
	a.index()
	for _, channel := range sortedKeys(log) {
		a.channel(channel)
	}
	for _, s := range b.sent {
		a.answer(s)
	}
	a.order()
	for _, p := range places {
		a.place(p)
	}
	for _, s := range b.stretchs {
		switch {
		case s.channel == unlogged:
			a.shouts(s)
		case s.version == "1.0":
			a.stretch(s)
		}
	}
	a.closes()
	return a
}

// index is what was sent, to be found by what is known of it elsewhere.
func (a *account) index() {
	a.sends, a.said, a.texts = map[string]*sending{}, map[string]*sending{}, map[string]map[string]bool{}
	for _, s := range a.sent {
		a.said[s.text] = s
		a.mayRead(s.id, s.text)
		if s.version != "1.0" {
			a.sends[s.id] = s
		}
		if s.target != "" {
			a.mayRead(s.target, s.text)
			a.mayRead(s.id, "")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// channel: seqs without a gap, no message twice.
func (a *account) channel(channel string) {
	for i, row := range a.log[channel] {
		v := violation{at: row.at, channel: channel, seq: row.seq, id: row.id}
		if row.seq != int64(i+1) {
			v.what = fmt.Sprintf("the log has %d in place %d", row.seq, i+1)
			a.wrong = append(a.wrong, v)
		}
		if first, twice := a.byText[row.text]; twice && row.toldIn1() {
			v.what = fmt.Sprintf("the log has message %q twice, at %d and %d", row.text, first.seq, row.seq)
			a.wrong = append(a.wrong, v)
			continue
		}
		if _, twice := a.byID[row.id]; twice {
			v.what = fmt.Sprintf("the log has message %s twice", row.id)
			a.wrong = append(a.wrong, v)
			continue
		}
		a.byID[row.id] = row
		if s := a.sends[row.id]; row.target == "" && (s == nil || s.text == row.text) {
			a.byText[row.text] = row
		}
	}
	a.changes(channel)
}

func (a *account) mayRead(id, text string) {
	if a.texts[id] == nil {
		a.texts[id] = map[string]bool{}
	}
	a.texts[id][text] = true
}

// changes: what was edited or deleted has the text of its last change, and the earlier ones have none.
func (a *account) changes(channel string) {
	last := map[string]logRow{}
	for _, row := range a.log[channel] {
		if row.target != "" {
			last[row.target] = row
		}
	}
	for _, row := range a.log[channel] {
		if row.removed {
			continue
		}
		want, v := "", violation{at: row.at, channel: channel, seq: row.seq, id: row.id}
		change, changed := last[row.id]
		switch {
		case changed && a.change(change) == nil:
			v.what = "the log has a change of it that nobody sent"
			a.wrong = append(a.wrong, v)
			continue
		case changed:
			want = a.change(change).text // a deletion has none
		case row.target != "" && last[row.target].id != row.id:
		default:
			continue
		}
		if row.text != want {
			v.what = fmt.Sprintf("the log has %q after a change to %q", row.text, want)
			a.wrong = append(a.wrong, v)
		}
	}
}

// change finds who sent one that is in the log. The game's server learns the id of a deletion from the answer, which may be lost.
func (a *account) change(row logRow) *sending {
	if s := a.sends[row.id]; s != nil {
		return s
	}
	for _, s := range a.sent {
		if s.version == "api" && s.kind == "del" && row.kind == envelope.Delete && s.target == row.target {
			return s
		}
	}
	return nil
}

// rowOf finds what became of a message: by its id, which 1.0 does not know before the answer.
func (a *account) rowOf(s *sending) (logRow, bool) {
	if s.version == "1.0" && s.id == "" {
		row, ok := a.byText[s.text]
		return row, ok
	}
	row, ok := a.byID[s.id]
	return row, ok
}

// answer holds one message against what its sender was told.
func (a *account) answer(s *sending) {
	row, logged := a.rowOf(s)
	v := violation{at: s.acked, who: s.who, channel: s.channel, seq: row.seq, id: s.id}
	switch {
	case s.channel == unlogged && logged:
		v.what = "in the log of a channel that has none"
	case s.channel == unlogged:
		return
	case s.acked.IsZero() && s.tries == 1 && s.refused != "" && s.refused != "busy" && s.refused != "unavailable" && logged:
		v.at, v.what = row.at, "refused with "+s.refused+", and in the log"
	case s.acked.IsZero():
		return
	case !logged:
		v.what = "acknowledged and not in the log"
	case row.id != s.id || row.user != s.user || row.channel != s.channel:
		v.what = fmt.Sprintf("acknowledged as %s of %q in %s, in the log as %s of %q in %s", s.id, s.user, s.channel, row.id, row.user, row.channel)
	case s.version != "1.0" && (row.seq != s.seq || row.epoch != s.epoch && !a.cameBack(s)):
		v.what = fmt.Sprintf("acknowledged at %s %d, in the log at %s %d", s.epoch, s.seq, row.epoch, row.seq)
	default:
		return
	}
	a.wrong = append(a.wrong, v)
}

// order: what one connection sent once stands in the log in the order of the sends.
func (a *account) order() {
	type way struct {
		who     string
		line    int
		channel string
	}
	last := map[way]*sending{}
	for _, s := range a.sent { // as sent
		row, logged := a.rowOf(s)
		if !logged || s.tries > 1 || s.line == 0 || s.acked.IsZero() {
			continue
		}
		w := way{s.who, s.line, s.channel}
		if before := last[w]; before != nil && before.order < s.order {
			if first, _ := a.rowOf(before); first.seq > row.seq {
				a.wrong = append(a.wrong, violation{at: row.at, who: s.who, channel: s.channel, seq: row.seq, id: row.id,
					what: fmt.Sprintf("said after %q and logged before it", before.text)})
			}
		}
		last[w] = s
	}
}

// place: what a client of 2.0 processed is the log from where it began to its head, or to what it was told is gone.
func (a *account) place(p *place) {
	rows := a.log[p.channel]
	rows = rows[min(int(p.base), len(rows)):]
	for i, got := range p.got {
		if i >= len(rows) || !a.same(got, rows[i]) {
			a.wrong = append(a.wrong, violation{at: got.at, who: p.who, channel: p.channel, seq: p.base + int64(i) + 1, id: got.id,
				what: fmt.Sprintf("received %d %s %q in the place of %d", got.seq, got.id, got.text, p.base+int64(i)+1)})
			return
		}
	}
	if p.cut { // what it shows of the past may have a hole, and so may what was done to it
		return
	}
	if len(p.got) < len(rows) {
		a.wrong = append(a.wrong, violation{at: rows[len(p.got)].at, who: p.who, channel: p.channel, seq: p.base + int64(len(p.got)) + 1,
			what: fmt.Sprintf("never received %d of %d", len(rows)-len(p.got), len(rows))})
		return
	}
	a.view(p)
}

// view: whoever does to what he shows as he was told shows in the end what the log has.
func (a *account) view(p *place) {
	shown := map[string]string{}
	for _, got := range p.got {
		_, known := shown[got.target]
		switch {
		case got.kind == "":
			shown[got.id] = got.text
		case known && (got.kind == "del" || got.text != ""):
			shown[got.target] = got.text
		}
	}
	for id, text := range shown {
		if row := a.byID[id]; row.text != text && !row.removed {
			a.wrong = append(a.wrong, violation{at: row.at, who: p.who, channel: p.channel, seq: row.seq, id: id,
				what: fmt.Sprintf("shows %q in the end, the log has %q", text, row.text)})
			return
		}
	}
}

// same: a message that was changed since may have come with any text that it had.
func (a *account) same(got arrival, row logRow) bool {
	return got.id == row.id && got.target == row.target && (got.text == row.text || a.texts[row.id][got.text]) && (got.seq == 0 || got.seq == row.seq)
}

// stretch: within a connection of 1.0 nothing is missing between the first and the last message, nor at the end.
func (a *account) stretch(s *stretch) {
	next := int64(0)
	for _, got := range s.got {
		row, logged := a.byID[got.id]
		if next != 0 {
			next = a.toldFrom(s.channel, next, row.seq)
		}
		v := violation{at: got.at, who: s.who, channel: s.channel, seq: row.seq, id: got.id}
		switch {
		case !logged || !a.same(got, row):
			v.what = fmt.Sprintf("received %q, which is not in the log so", got.text)
		case next != 0 && row.seq != next:
			v.seq = min(next, row.seq)
			v.what = fmt.Sprintf("on connection %d, %d came after %d", s.line, row.seq, next-1)
		}
		if v.what != "" {
			a.wrong = append(a.wrong, v)
			return
		}
		next = row.seq + 1
	}
	rows := a.log[s.channel]
	if next != 0 {
		next = a.toldFrom(s.channel, next, int64(len(rows)+1))
	} else {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r logRow) bool { return !r.toldIn1() })
	}
	if s.ended.IsZero() && next <= int64(len(rows)) && (next != 0 || len(rows) > 0 && rows[len(rows)-1].at.After(s.began)) {
		next = max(next, 1)
		a.wrong = append(a.wrong, violation{at: rows[next-1].at, who: s.who, channel: s.channel, seq: next,
			what: fmt.Sprintf("never received %d of %d on connection %d", int64(len(rows))-next+1, len(rows), s.line)})
	}
}

// toldFrom is the first seq from one on, and below another, that 1.0 has to be told.
func (a *account) toldFrom(channel string, from, below int64) int64 {
	for from < below && !a.log[channel][from-1].toldIn1() {
		from++
	}
	return from
}

// explainedFor is how long after an outage a connection may still end by it: a slow machine, and nginx between us.
const explainedFor = 10 * time.Second

// closes: no connection ended in a way that docs/guarantees.md excludes.
func (a *account) closes() {
	for _, c := range a.closings {
		if why := a.excluded(c); why != "" {
			a.wrong = append(a.wrong, violation{at: c.at, who: c.who, what: fmt.Sprintf("connection %d ended with %d (%s): %s", c.line, c.code, c.text, why)})
		}
	}
}

func (a *account) excluded(c closing) string {
	switch c.code {
	case websocket.CloseServiceRestart:
		if !a.suffered(c.at, time.Hour, "deploy "+c.version, "rollback "+c.version, "restore store") && !a.tookTheRest(c) {
			return "nothing was released"
		}
	case websocket.CloseTryAgainLater:
		if c.loggedIn {
			return "only a login may be told so"
		}
	case 0:
		if !a.suffered(c.at, explainedFor, "kill "+c.version+" ua", "freeze "+c.version+" ua", "hang "+c.version+" ua", "kill worker", "freeze worker") {
			return "nothing that it depends on had died"
		}
	default:
		return "no such end was due"
	}
	return ""
}

// tookTheRest: a purge may remove what a process has not sent yet, and then says so.
func (a *account) tookTheRest(c closing) bool {
	return strings.Contains(c.text, "no longer in the log") && len(a.removed) > 0
}

// suffered reports whether one of the outages was under way at a time or not long before.
func (a *account) suffered(at time.Time, before time.Duration, what ...string) bool {
	return slices.ContainsFunc(a.outages, func(o *outage) bool {
		ended := o.ended
		if ended.IsZero() {
			ended = at
		}
		return slices.Contains(what, o.what+" "+o.victim) && o.began.Before(at) && at.Before(ended.Add(before))
	})
}
