package chatlog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

func change(kind, user, target, text string) *envelope.Envelope {
	return &envelope.Envelope{Kind: kind, Tenant: "demo", Channel: "guild", ID: envelope.NewID(time.Now()), User: user, Target: target, Text: text}
}

// texts is what the log gives to who comes late, `kind text` by seq.
func texts(t *testing.T, l *Log, pk int64) (list []string) {
	t.Helper()
	all, err := l.Read(t.Context(), pk, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		list = append(list, e.Kind+" "+e.Text)
	}
	return list
}

func TestChange_whatIsStoredChangesWithIt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		m := say("u1", "one")
		m.Flags = []string{"w"}
		mustAppend(t, l, pk, m)
		for _, step := range []struct {
			change *envelope.Envelope
			want   []string
		}{
			{change(envelope.Edit, "u1", m.ID, "two"), []string{"say two", "edit two"}},
			{change(envelope.Edit, "", m.ID, "three"), []string{"say three", "edit ", "edit three"}},
			{change(envelope.Delete, "u1", m.ID, ""), []string{"say ", "edit ", "edit ", "delete "}},
		} {
			if r := mustAppend(t, l, pk, step.change); r.Seq != int64(len(step.want)) {
				t.Errorf("%s at %d", step.change.Kind, r.Seq)
			}
			if got := texts(t, l, pk); !slices.Equal(got, step.want) {
				t.Errorf("after %s %q: %q, want %q", step.change.Kind, step.change.Text, got, step.want)
			}
			again := *step.change
			if r := mustAppend(t, l, pk, &again); !r.Duplicate || r.Seq != int64(len(step.want)) {
				t.Errorf("sent again: %+v", r)
			}
		}
		all, err := l.Read(t.Context(), pk, 0, 0, 0)
		if err != nil || all[0].User != "u1" || all[0].Name != m.Name || !slices.Equal(all[0].Flags, m.Flags) {
			t.Errorf("the rest of the message: %+v, %v", all[0], err)
		}
	})
}

func TestChange_refusesWhatIsNotThereOrAnothers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk, other := testChannel(t, st, "guild"), testChannel(t, st, "other")
		mine, theirs, gone := say("u1", "mine"), say("u2", "theirs"), say("u1", "gone")
		system := &envelope.Envelope{Kind: envelope.System, ID: envelope.NewID(time.Now()), User: "u1", Text: "in the name of u1"}
		del := change(envelope.Delete, "u1", gone.ID, "")
		for _, e := range []*envelope.Envelope{mine, theirs, gone, system, del} {
			mustAppend(t, l, pk, e)
		}
		for name, tt := range map[string]struct {
			pk     int64
			change *envelope.Envelope
		}{
			"nothing":                {pk, change(envelope.Edit, "u1", envelope.NewID(time.Now()), "x")},
			"another channel's":      {other, change(envelope.Edit, "", mine.ID, "x")},
			"another user's":         {pk, change(envelope.Delete, "u1", theirs.ID, "")},
			"the game's in his name": {pk, change(envelope.Edit, "u1", system.ID, "x")},
			"deleted":                {pk, change(envelope.Edit, "u1", gone.ID, "x")},
			"deleted, by the game":   {pk, change(envelope.Delete, "", gone.ID, "")},
			"a deletion":             {pk, change(envelope.Delete, "", del.ID, "")},
		} {
			if a := appendAll(t, l, tt.pk, tt.change)[0]; !errors.Is(a.err, ErrNoTarget) {
				t.Errorf("%s: %v", name, a.err)
			}
		}
		taken := say("u2", "with the id of another")
		taken.ID = mine.ID
		if a := appendAll(t, l, pk, taken)[0]; !errors.Is(a.err, ErrTaken) {
			t.Errorf("another user's id: %v", a.err)
		}
		edit := change(envelope.Edit, "u1", mine.ID, "under the id of its target")
		edit.ID = mine.ID
		del.Kind, del.Text = envelope.Edit, "under the id of a deletion"
		again := say("u1", "under the id of a deletion")
		again.ID = del.ID
		for _, e := range []*envelope.Envelope{edit, del.Clone(), again} {
			if a := appendAll(t, l, pk, e.Clone())[0]; !errors.Is(a.err, ErrTaken) {
				t.Errorf("%s %q: %+v", e.Kind, e.Text, a)
			}
			if _, _, err := l.Find(t.Context(), pk, e); !errors.Is(err, ErrTaken) {
				t.Errorf("looked up, %s %q: %v", e.Kind, e.Text, err)
			}
		}
		if r := mustAppend(t, l, pk, say("u1", "next")); r.Seq != 6 {
			t.Errorf("what was refused took a position: the next is at %d, want 6", r.Seq)
		}
	})
}

// TestChange_inOneBatch commits a message, what changes it and what comes too late together.
func TestChange_inOneBatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{Interval: 300 * time.Millisecond})
		pk := testChannel(t, st, "guild")
		mustAppend(t, l, pk, say("u1", "first")) // the next ones wait for the interval, and for each other
		m := say("u1", "one")
		answers := appendAll(t, l, pk, m, change(envelope.Edit, "u2", m.ID, "not mine"), change(envelope.Edit, "u1", m.ID, "two"),
			change(envelope.Edit, "u1", m.ID, "three"), change(envelope.Delete, "u1", m.ID, ""), change(envelope.Edit, "u1", m.ID, "late"))
		want := []string{"2 <nil>", "0 there is no such message", "3 <nil>", "4 <nil>", "5 <nil>", "0 there is no such message"}
		for i, a := range answers {
			if got := fmt.Sprint(a.Seq, " ", a.err); got != want[i] {
				t.Errorf("answer %d is %s, want %s", i, got, want[i])
			}
		}
		if got, want := texts(t, l, pk), []string{"say first", "say ", "edit ", "edit ", "delete "}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestChange_ofWhatIsShadowed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		open, hidden := say("u1", "open"), say("u1", "hidden")
		hidden.Shadow = true
		shadowed, visible := change(envelope.Edit, "u1", open.ID, "darn"), change(envelope.Edit, "u1", hidden.ID, "kind")
		shadowed.Shadow = true // for its words
		for _, e := range []*envelope.Envelope{open, hidden, shadowed, visible} {
			mustAppend(t, l, pk, e)
		}
		if !visible.Shadow {
			t.Error("the edit of what nobody sees is for everybody")
		}
		all, err := l.Read(t.Context(), pk, 0, 0, 0)
		if err != nil || !all[3].Shadow {
			t.Errorf("in the log too: %v", err)
		}
		if got, want := texts(t, l, pk), []string{"say open", "say kind", "edit darn", "edit kind"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
