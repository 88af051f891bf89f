package chat

import (
	"fmt"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
)

// edit changes what the client has said, as a client of 2.0 does.
func (c *client) edit(kind, target, text string) error {
	c.t.Helper()
	_, err := c.say(SayRequest{Kind: kind, Channel: "lobby", ID: envelope.NewID(time.Now()), Target: target, Text: text})
	return err
}

func TestChange_reachesEverybodyAndWhoComesLater(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	addWords(t, st, "darn", "reject", "heck", "mask")
	m := aya.mustSay("lobby", "one")
	check(t, aya.edit(envelope.Edit, m.ID, "two"))
	eventually(t, 5*time.Second, "the words to be in force", func() bool {
		err := aya.edit(envelope.Edit, m.ID, "darn")
		return err != nil && AsError(err).Code == CodeNGWord
	})
	ch, err := st.Channel(t.Context(), "demo", "lobby")
	check(t, err)
	check(t, aya.edit(envelope.Edit, m.ID, "what the heck"))
	ben.await("edit lobby " + fmt.Sprint(ch.Head+1) + " aya what the ****")
	expectCode(t, ben.edit(envelope.Edit, m.ID, "not mine"), CodeNoSuchMessage, false)
	for _, retry := range []bool{false, true} { // as a client would that takes the target's id for its own
		for _, text := range []string{"under its id", "darn, under its id"} {
			_, err = aya.say(SayRequest{Kind: envelope.Edit, Channel: "lobby", ID: m.ID, Target: m.ID, Text: text, Retry: retry})
			expectCode(t, err, CodeBadName, false)
		}
	}

	for _, p := range []*process{aya.p, ben.p} { // from the rings
		late := p.login("ben-token")
		check(t, late.joinFrom("lobby", &hub.Position{Epoch: m.Epoch, Seq: m.Seq - 1}))
		late.expect("say lobby 1 aya what the ****")
	}
	_, err = ben.p.Delete(t.Context(), "demo", "lobby", "", m.ID) // by the game
	check(t, err)
	aya.await("delete lobby " + fmt.Sprint(ch.Head+2) + "  ")
	expectCode(t, aya.edit(envelope.Edit, m.ID, "again"), CodeNoSuchMessage, false)
	fresh := startProcess(t, testConfig(st, &network{}, "n1/s3/ua")).login("ben-token") // from the log
	check(t, fresh.joinFrom("lobby", &hub.Position{Epoch: m.Epoch, Seq: 0}))
	fresh.expect("say lobby 1 aya ")
}

func TestChange_isLimitedLikeASay(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	m := aya.mustSay("lobby", "one")
	aya.p.SetLimits(Limits{PerSecond: 1, Burst: 2})
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = aya.edit(envelope.Edit, m.ID, fmt.Sprint("edit ", i))
	}
	expectCode(t, err, CodeRateLimited, true)
}

func TestChange_inAChannelWithoutHistoryFindsNothing(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	aya.mustJoin("quick")
	m := aya.mustSay("quick", "one")
	_, err := aya.say(SayRequest{Kind: envelope.Delete, Channel: "quick", ID: envelope.NewID(time.Now()), Target: m.ID})
	expectCode(t, err, CodeNoSuchMessage, false)
	_, err = aya.p.Edit(t.Context(), "demo", "quick", "", m.ID, "two")
	expectCode(t, err, CodeNoSuchMessage, false)
}
