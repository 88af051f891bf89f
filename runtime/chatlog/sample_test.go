package chatlog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/envelope"
)

func TestSample_takesWhatUsersSaidLatelyFromTheBusiestChannels(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		guild, world := testChannel(t, st, "guild"), testChannel(t, st, "world")
		foreign, empty, gone := testChannel(t, st, "foreign"), testChannel(t, st, "empty"), testChannel(t, st, "gone")
		_ = empty
		for i := range 3 {
			mustAppend(t, l, guild, say("u1", fmt.Sprint("old", i)))
		}
		mustAppend(t, l, world, say("u1", "w"))
		system := say("", "not a user's")
		system.Kind = envelope.System
		mustAppend(t, l, world, system)
		mustAppend(t, l, foreign, say("u1", "another tenant's"))
		mustAppend(t, l, gone, say("u1", "deleted"))
		exec(t, st, `UPDATE channels SET tenant = 'other' WHERE pk = ?`, foreign)
		exec(t, st, `UPDATE channels SET deleted_at = 1, live = NULL WHERE pk = ?`, gone)
		exec(t, st, `UPDATE channels SET kind = 'world', moved_at = 5 WHERE pk = ?`, world)
		exec(t, st, `UPDATE channels SET first = 2, moved_at = 1 WHERE pk = ?`, guild)
		for kinds, want := range map[string][]string{"": {"w", "old2", "old1"}, "world": {"w"}, "guild direct": {"old2", "old1"}, "direct": nil} {
			if got, err := Sample(t.Context(), st, "demo", strings.Fields(kinds)...); err != nil || !slices.Equal(got, want) {
				t.Errorf("kinds %q: %q, %v; want %q", kinds, got, err, want)
			}
		}
	})
}

func TestSample_isBounded(t *testing.T) {
	s := sampler{messages: 3, bytes: 10}
	for _, text := range []string{"12345", "1234567", "1", "12345"} {
		if s.messages > 0 {
			s.take(say("u1", text))
		}
	}
	if !slices.Equal(s.texts, []string{"12345", "1"}) {
		t.Errorf("took %q", s.texts)
	}
}

// TestSample_sharesAmongChannels fills two channels by more than a page each.
func TestSample_sharesAmongChannels(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		for _, id := range []string{"a", "b"} {
			pk := testChannel(t, st, id)
			var lines []*envelope.Envelope
			for i := range samplePage + 10 {
				lines = append(lines, say("u1", fmt.Sprint(id, i)))
			}
			for _, a := range appendAll(t, l, pk, lines...) {
				if a.err != nil {
					t.Fatal(a.err)
				}
			}
		}
		got, err := Sample(t.Context(), st, "demo")
		if slices.Sort(got); err != nil || len(slices.Compact(got)) != 2*(samplePage+10) {
			t.Errorf("%d lines, %v", len(got), err)
		}
	})
}
