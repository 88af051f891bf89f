package chatlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

func TestRead_boundsAndRetention(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		for i := range 10 {
			mustAppend(t, l, pk, say("u1", fmt.Sprint(i+1)))
		}
		exec(t, st, `UPDATE channels SET first = 4 WHERE pk = ?`, pk)
		cases := []struct {
			after, upTo int64
			limit       int
			want        string
		}{{0, 0, 0, "4..10"}, {5, 0, 0, "6..10"}, {4, 7, 0, "5..7"}, {0, 0, 2, "4..5"}, {10, 0, 0, "none"}, {1, 3, 0, "none"}}
		for _, c := range cases {
			got, err := l.Read(t.Context(), pk, c.after, c.upTo, c.limit)
			if err != nil || span(got) != c.want {
				t.Errorf("Read(%d, %d, %d) = %s, %v; want %s", c.after, c.upTo, c.limit, span(got), err, c.want)
			}
		}
		h, err := l.Head(t.Context(), pk)
		if err != nil || h != (Head{PK: pk, Tenant: "demo", Channel: "guild", Epoch: "epoch1", First: 4, Seq: 10}) {
			t.Errorf("Head = %+v, %v", h, err)
		}
	})
}

func span(got []*envelope.Envelope) string {
	if len(got) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d..%d", got[0].Seq, got[len(got)-1].Seq)
}

func TestRead_messageOfANewerFormatKeepsItsPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		var logged bytes.Buffer
		l := testLog(t, st, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		pk := testChannel(t, st, "guild")
		for _, text := range []string{"a", "b", "c"} {
			mustAppend(t, l, pk, say("u1", text))
		}
		exec(t, st, `UPDATE messages SET body = ? WHERE channel_pk = ? AND seq < 3`, []byte(`{"v":2,"k":"say","x":"rich"}`), pk)
		for range 2 {
			got, err := l.Read(t.Context(), pk, 0, 0, 0)
			if err != nil || span(got) != "1..3" || got[0].Known() || got[1].Known() || got[0].Text != "" || got[2].Text != "c" {
				t.Errorf("got %+v, %v", got, err)
			}
		}
		if n := strings.Count(logged.String(), "not readable by this build"); n != 1 {
			t.Errorf("said %d times, want once: %s", n, &logged)
		}
	})
}

func TestMoved_tellsWhatMovedAndAllWhenTheClockWentBack(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		testChannel(t, st, "quiet")
		busy, gone := testChannel(t, st, "busy"), testChannel(t, st, "gone")
		exec(t, st, `UPDATE channels SET deleted_at = 1, live = NULL WHERE pk = ?`, gone)
		moved := func(since time.Time) string {
			t.Helper()
			heads, now, err := l.Moved(t.Context(), since)
			if err != nil || time.Since(now).Abs() > time.Minute {
				t.Fatalf("now %v, %v", now, err)
			}
			names := ""
			for _, h := range heads {
				names += fmt.Sprintf("%s:%d ", h.Channel, h.Seq)
			}
			return names
		}
		_, before, err := l.Moved(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got := moved(before); got != "" {
			t.Errorf("nothing moved yet, got %q", got)
		}
		mustAppend(t, l, busy, say("u1", "hi"))
		if got := moved(before); got != "busy:1 " {
			t.Errorf("after a message: %q", got)
		}
		exec(t, st, `UPDATE channels SET moved_at = moved_at - 3000 WHERE pk = ?`, busy)
		if got := moved(before); got != "busy:1 " {
			t.Errorf("a commit shows up after its stamp, so the last seconds are told again: %q", got)
		}
		for _, since := range []time.Time{{}, time.Now().Add(time.Hour)} {
			if got := moved(since); got != "quiet:0 busy:1 " {
				t.Errorf("since %v: %q, want all", since, got)
			}
		}
		exec(t, st, `UPDATE channels SET moved_at = moved_at - 3600000 WHERE pk = ?`, busy)
		if got := moved(before); got != "" {
			t.Errorf("what moved an hour ago: %q", got)
		}
	})
}

func TestQuery_pages(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		for range 10 {
			mustAppend(t, l, pk, say("u1", "hi"))
		}
		base := time.UnixMilli(1_700_000_000_000)
		exec(t, st, `UPDATE messages SET at = ? + seq * 1000 WHERE channel_pk = ?`, base.UnixMilli(), pk)
		exec(t, st, `UPDATE channels SET first = 2 WHERE pk = ?`, pk)
		sec := func(n int) time.Time { return base.Add(time.Duration(n) * time.Second) }
		cases := []struct {
			o    QueryOptions
			want string
			more bool
		}{
			{QueryOptions{}, "2..10", false},
			{QueryOptions{Limit: 3}, "2..4", true},
			{QueryOptions{After: 4, Limit: 3}, "5..7", true},
			{QueryOptions{After: 7, Limit: 3}, "8..10", false},
			{QueryOptions{Newest: true, Limit: 3}, "8..10", true},
			{QueryOptions{Newest: true, Before: 8, Limit: 3}, "5..7", true},
			{QueryOptions{Newest: true, Before: 4, Limit: 3}, "2..3", false},
			{QueryOptions{From: sec(4), To: sec(7)}, "4..6", false},
			{QueryOptions{From: sec(9)}, "9..10", false},
			{QueryOptions{To: sec(4)}, "2..3", false},
			{QueryOptions{After: 10}, "none", false},
		}
		for _, c := range cases {
			page, err := Query(t.Context(), st, pk, c.o)
			if err != nil || span(page.Messages) != c.want || page.More != c.more || page.Head.Seq != 10 {
				t.Errorf("Query(%+v) = %s, more %v, head %d, %v; want %s, %v", c.o, span(page.Messages), page.More, page.Head.Seq, err, c.want, c.more)
			}
		}
		if _, err := Query(t.Context(), st, pk+100, QueryOptions{}); !errors.Is(err, ErrGone) {
			t.Errorf("of no channel: %v", err)
		}
	})
}

func TestQuery_flaggedOnlyAndPagedByNext(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		for seq := range 12 {
			e := say("u1", `not a flag: "f":["x"]`)
			if seq%3 == 2 { // 3, 6, 9, 12
				e.Flags = []string{"だめ", "b"}
			}
			mustAppend(t, l, pk, e)
		}
		// A newer version's member that only looks like it.
		exec(t, st, `UPDATE messages SET body = ? WHERE channel_pk = ? AND seq = 4`, []byte(`{"v":1,"k":"say","x":"hi","z":{"f":["x"]}}`), pk)
		cases := []struct {
			o    QueryOptions
			want string
			more bool
			next int64
		}{
			{QueryOptions{}, "3 6 9 12", false, 12},
			{QueryOptions{Limit: 2}, "3", true, 4},
			{QueryOptions{Limit: 2, After: 4}, "6 9", true, 9},
			{QueryOptions{After: 12}, "", false, 12},
			{QueryOptions{After: math.MaxInt64}, "", false, 12},
			{QueryOptions{Newest: true, Limit: 3}, "6 9 12", true, 6},
			{QueryOptions{Newest: true, Before: 6}, "3", false, 1},
			{QueryOptions{After: 6, Before: 12}, "9", false, 11},
		}
		for _, c := range cases {
			c.o.Flagged = true
			page, err := Query(t.Context(), st, pk, c.o)
			var seqs []string
			for _, e := range page.Messages {
				seqs = append(seqs, fmt.Sprint(e.Seq))
				if len(e.Flags) != 2 || e.Flags[0] != "だめ" {
					t.Errorf("flags %q", e.Flags)
				}
			}
			if got := strings.Join(seqs, " "); err != nil || got != c.want || page.More != c.more || page.Next != c.next {
				t.Errorf("Query(%+v) = %s, more %v, next %d, %v; want %s, %v, %d", c.o, got, page.More, page.Next, err, c.want, c.more, c.next)
			}
		}
	})
}

func TestQuery_looksThroughAWindowForFlaggedOnes(t *testing.T) {
	h := Head{First: 10, Seq: 2*flagWindow + 10}
	for _, c := range []struct {
		o    QueryOptions
		want window
		end  int64
	}{
		{QueryOptions{Flagged: true}, window{10, flagWindow + 9, true}, flagWindow + 9},
		{QueryOptions{Flagged: true, After: flagWindow + 9}, window{flagWindow + 10, 2*flagWindow + 9, true}, 2*flagWindow + 9},
		{QueryOptions{Flagged: true, After: 2*flagWindow + 9}, window{2*flagWindow + 10, 2*flagWindow + 10, false}, 2*flagWindow + 10},
		{QueryOptions{Flagged: true, Newest: true}, window{flagWindow + 11, 2*flagWindow + 10, true}, flagWindow + 11},
		{QueryOptions{Flagged: true, Newest: true, Before: 11}, window{10, 10, false}, 10},
		{QueryOptions{}, window{10, 2*flagWindow + 10, false}, 2*flagWindow + 10},
	} {
		w := windowOf(c.o, h)
		if end := w.end(c.o.Newest); w != c.want || end != c.end {
			t.Errorf("%+v: %+v, end %d; want %+v, %d", c.o, w, end, c.want, c.end)
		}
	}
}
