package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// tell is the shortest story of the message that a violation is about: who sent it, what the log has, who received what around it,
// and what was done to the parts before.
func (a *account) tell(v violation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s: %s\n", a.since(v.at), v.who, v.channel, v.what)
	row := a.about(v)
	for _, s := range a.sent {
		if s.id == row.id && s.id != "" || s.text == row.text && s.text != "" {
			fmt.Fprintf(&b, "  sent by %s at %s on connection %d, %d tries, acknowledged %s at %d, refused %q\n",
				s.who, a.since(s.at), s.line, s.tries, a.since(s.acked), s.seq, s.refused)
		}
	}
	rows := a.log[v.channel]
	for _, r := range rows[clamp(row.seq-3, rows):clamp(row.seq+2, rows)] {
		fmt.Fprintf(&b, "  log %d %s %s %q\n", r.seq, a.since(r.at), r.id, r.text)
	}
	for _, s := range a.stretchs {
		if s.channel == v.channel && (s.who == v.who || a.near(s, row)) {
			a.tellStretch(&b, s, row)
		}
	}
	for _, o := range a.outages {
		if d := v.at.Sub(o.began); d > -time.Second && d < 20*time.Second {
			fmt.Fprintf(&b, "  %s to %s: %s %s\n", a.since(o.began), a.since(o.ended), o.step, o.note)
		}
	}
	return b.String()
}

// about finds the message in the log that a violation names, as well as it names one.
func (a *account) about(v violation) logRow {
	if row, ok := a.byID[v.id]; ok {
		return row
	}
	rows := a.log[v.channel]
	if v.seq > 0 && v.seq <= int64(len(rows)) {
		return rows[v.seq-1]
	}
	return logRow{id: v.id, seq: v.seq}
}

func clamp(i int64, rows []logRow) int { return int(min(max(i, 0), int64(len(rows)))) }

// near reports whether the stretch was open when the message was logged.
func (a *account) near(s *stretch, row logRow) bool {
	return !row.at.IsZero() && s.began.Before(row.at.Add(5*time.Second)) && (s.ended.IsZero() || s.ended.After(row.at))
}

// tellStretch shows what came around the message.
func (a *account) tellStretch(b *strings.Builder, s *stretch, row logRow) {
	place := func(got arrival) int64 {
		if got.seq != 0 {
			return got.seq
		}
		return a.byID[got.id].seq
	}
	at := slices.IndexFunc(s.got, func(got arrival) bool { return place(got) >= row.seq })
	if at < 0 {
		at = len(s.got)
	}
	fmt.Fprintf(b, "  %s connection %d, %s to %s, from %d:", s.who, s.line, a.since(s.began), a.since(s.ended), s.base)
	for _, got := range s.got[max(at-2, 0):min(at+2, len(s.got))] {
		fmt.Fprintf(b, " %d at %s;", place(got), a.since(got.at))
	}
	b.WriteString("\n")
}
