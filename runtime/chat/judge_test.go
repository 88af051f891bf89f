package chat

import (
	"fmt"
	"testing"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

func TestFlag_wordsAreKeptInTheLogAndToldToNobodyElse(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	addWords(t, st, "rival", "flag", "heck", "mask", "spam", "shadow")
	for _, c := range []*client{aya, ben} {
		eventually(t, within, "the list to be in force", func() bool {
			f, err := c.p.words.of(t.Context(), "demo")
			check(t, err)
			return f.of("world") != nil
		})
	}
	published := make(chan *envelope.Envelope, 100)
	aya.p.bus.(*port).net.open(BusEvents{Receive: func(e *envelope.Envelope) { published <- e }}).Join("demo", "lobby")
	first := aya.mustSay("lobby", "a rival, a Rival!")
	aya.mustSay("lobby", "heck, a rival")
	aya.mustSay("lobby", "spam of a rival")
	aya.mustSay("lobby", "nothing")
	ch, err := st.Channel(t.Context(), "demo", "lobby")
	check(t, err)
	page, err := chatlog.Query(t.Context(), st, ch.PK, chatlog.QueryOptions{After: first.Seq - 1})
	check(t, err)
	for i, want := range []string{`[rival] "a rival, a Rival!" false`, `[rival] "****, a rival" false`, `[rival] "spam of a rival" true`, `[] "nothing" false`} {
		e := page.Messages[i]
		if got := fmt.Sprintf("%v %q %v", e.Flags, e.Text, e.Shadow); got != want {
			t.Errorf("message %d is %s, want %s", i, got, want)
		}
	}
	for range 4 {
		if e := <-published; e.Kind == envelope.Say && len(e.Flags) > 0 {
			t.Errorf("on the bus: %q", e.Flags)
		}
	}
}

func TestSystem_isNotJudged(t *testing.T) {
	st, n := testStore(t), &network{}
	addWords(t, st, "badword", "reject")
	api := startAPI(t, st, n)
	_, err := api.System(t.Context(), "demo", "lobby", "", "", "badword", "badword")
	check(t, err)
	_, err = api.JudgeName(t.Context(), "demo", "user aya", "badword")
	expectCode(t, err, CodeNGWord, false)
}

func TestSay_theKindOfChannelDecidesWhichListsJudge(t *testing.T) {
	st, aya, _ := twoProcesses(t)
	check(t, st.AddMember(t.Context(), "demo", "guild", "aya"))
	edit := store.NGEdit{Tenant: "demo", Base: -1, Author: "test", Add: []store.NGEntry{{Word: "badword"}}, Settings: &store.NGSettings{Scopes: []string{"guild"}}}
	_, err := st.NGChange(t.Context(), edit)
	check(t, err)
	eventually(t, within, "aya to be let in", func() bool { return aya.join("guild") == nil })
	eventually(t, within, "the list to be in force", func() bool {
		_, err := aya.say(SayRequest{Channel: "guild", Text: "badword"})
		return err != nil && AsError(err).Code == CodeNGWord
	})
	aya.mustSay("lobby", "badword")
}
