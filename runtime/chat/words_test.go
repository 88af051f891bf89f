package chat

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/kmsctl/kms/runtime/store"
)

func TestNGWords_changeIsInForceWithinASecondOrTwo(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	for _, c := range []*client{aya, ben} {
		c.mustSay("lobby", "badword") // compiles the first list
	}
	addWords(t, st, "badword", "reject")
	for _, c := range []*client{aya, ben} {
		eventually(t, within, "the new word to be refused", func() bool {
			_, err := c.say(SayRequest{Channel: "lobby", Text: "badword"})
			return err != nil && AsError(err).Code == CodeNGWord
		})
	}
}

// slowList answers with a list of one word, the number of the call, when it is let.
type slowList struct {
	Store
	calls atomic.Int32
	let   chan struct{}
}

func (s *slowList) NGRead(context.Context, string, string) (store.NGList, error) {
	n := s.calls.Add(1)
	if n > 1 {
		<-s.let
	}
	return store.NGList{Revision: int64(n), Entries: []store.NGEntry{
		{Word: "w" + strconv.Itoa(int(n)), Kind: "word", Action: "reject", Mode: "substring"},
	}}, nil
}

func TestNGWords_oldListServesUntilTheNewOneIsCompiled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	src := &slowList{let: make(chan struct{}, 10)}
	w := newWords(ctx, src, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { cancel(); close(src.let); w.wait() })
	refuses := func(word string) bool {
		m, err := w.matcher(ctx, "demo")
		check(t, err)
		return m.Check(word).Action == "reject"
	}
	if !refuses("w1") {
		t.Fatal("the first list does not serve")
	}
	w.changed("demo")
	eventually(t, within, "the new list to be read", func() bool { return src.calls.Load() == 2 })
	w.changed("demo") // meanwhile: must not be lost
	if !refuses("w1") {
		t.Fatal("the old list does not serve while the new one is read")
	}
	src.let <- struct{}{}
	src.let <- struct{}{}
	eventually(t, within, "the list of the last change", func() bool { return refuses("w3") })
	if refuses("w1") {
		t.Error("the old list still serves")
	}
}

func TestNGWords_unknownTenantIsNotCompiledForNothing(t *testing.T) {
	src := &slowList{let: make(chan struct{})}
	w := newWords(t.Context(), src, slog.New(slog.DiscardHandler))
	w.changed("demo")
	w.wait()
	if src.calls.Load() != 0 {
		t.Error("a list that nobody uses was read")
	}
}
