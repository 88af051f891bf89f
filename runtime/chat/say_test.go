package chat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// twoProcesses has aya on the first and ben on the second, both in the lobby.
func twoProcesses(t *testing.T) (*store.Store, *client, *client) {
	t.Helper()
	t.Parallel() // most tests wait for ticks, not for the machine
	st, n := testStore(t), &network{}
	putToken(t, st, "aya", "aya-token", time.Time{})
	putToken(t, st, "ben", "ben-token", time.Time{})
	one := startProcess(t, testConfig(st, n, "n1/s1/ua"))
	two := startProcess(t, testConfig(st, n, "n1/s2/ua"))
	return st, one.login("aya-token").mustJoin("lobby"), two.login("ben-token").mustJoin("lobby")
}

func TestSay_reachesTheMembersOfEveryProcessOnceAndInOrder(t *testing.T) {
	_, aya, ben := twoProcesses(t)
	for i := range 50 {
		from := []*client{aya, ben}[i%2]
		if r := from.mustSay("lobby", fmt.Sprint("m", i)); r.Seq != int64(i+1) || r.Epoch == "" || r.ID == "" || r.Duplicate {
			t.Fatalf("receipt %d is %+v", i, r)
		}
	}
	for i := range 50 {
		want := fmt.Sprintf("say lobby %d %s m%d", i+1, []string{"aya", "ben"}[i%2], i)
		aya.expect(want)
		ben.expect(want)
	}
}

func TestSay_retryGetsTheFirstReceiptWhereverItComes(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	id := envelope.NewID(time.Now())
	first, err := aya.say(SayRequest{Channel: "lobby", ID: id, Text: "once"})
	check(t, err)
	two := ben.p.login("aya-token").mustJoin("lobby")
	for name, retry := range map[string]func() (int64, bool){
		"same process": func() (int64, bool) {
			r, err := aya.say(SayRequest{Channel: "lobby", ID: id, Text: "once"})
			check(t, err)
			return r.Seq, r.Duplicate
		},
		"other process, marked": func() (int64, bool) {
			r, err := two.say(SayRequest{Channel: "lobby", ID: id, Text: "once", Retry: true})
			check(t, err)
			return r.Seq, r.Duplicate
		},
		"other process": func() (int64, bool) {
			r, err := two.say(SayRequest{Channel: "lobby", ID: id, Text: "once"})
			check(t, err)
			return r.Seq, r.Duplicate
		},
	} {
		if seq, duplicate := retry(); seq != first.Seq || !duplicate {
			t.Errorf("%s: seq %d, duplicate %v; want %d, true", name, seq, duplicate, first.Seq)
		}
	}
	ch, err := st.Channel(t.Context(), "demo", "lobby")
	check(t, err)
	if ch.Head != 1 {
		t.Errorf("the log has %d messages, want 1", ch.Head)
	}
}

func TestSay_committedMessageIsNeverCalledRefused(t *testing.T) {
	_, aya, ben := twoProcesses(t)
	id := envelope.NewID(time.Now())
	first, err := aya.say(SayRequest{Channel: "lobby", ID: id, Text: "once"})
	check(t, err)
	outside := ben.p.login("aya-token") // another process, and not joined: the message would be refused
	for _, retry := range []bool{false, true} {
		again, err := outside.say(SayRequest{Channel: "lobby", ID: id, Text: "once", Retry: retry})
		check(t, err)
		if again.Seq != first.Seq || !again.Duplicate {
			t.Fatalf("receipt %+v, want the first one's %+v (retry %v)", again, first, retry)
		}
	}
	_, err = outside.say(SayRequest{Channel: "lobby", ID: envelope.NewID(time.Now()), Text: "new"})
	expectCode(t, err, CodeNotJoined, false)
}

func TestSay_lookupsForRefusedMessagesAreBounded(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	var last error
	for range 100 {
		_, last = aya.say(SayRequest{Channel: "guild", ID: envelope.NewID(time.Now()), Text: "no"})
	}
	expectCode(t, last, CodeRateLimited, true)
}

func TestSay_refusesWhatIsNotAllowed(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	for name, tt := range map[string]struct {
		r    SayRequest
		code string
	}{
		"too long":      {SayRequest{Channel: "lobby", Text: strings.Repeat("か", 1001)}, CodeTooLarge},
		"empty":         {SayRequest{Channel: "lobby", Text: " \n"}, CodeBadFrame},
		"not UTF-8":     {SayRequest{Channel: "lobby", Text: "\xff"}, CodeBadFrame},
		"bad id":        {SayRequest{Channel: "lobby", Text: "x", ID: "1"}, CodeBadName},
		"bad channel":   {SayRequest{Channel: "#lobby\r\n", Text: "x"}, CodeBadName},
		"not joined":    {SayRequest{Channel: "guild", Text: "x"}, CodeNotJoined},
		"no such place": {SayRequest{Channel: "nowhere", Text: "x", ID: envelope.NewID(time.Now())}, CodeNotJoined},
	} {
		_, err := aya.say(tt.r)
		if AsError(err).Code != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
	if _, err := aya.say(SayRequest{Channel: "lobby", Text: strings.Repeat("か", 1000)}); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}

func TestSay_rateLimitSaysWhenToComeAgain(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	aya.p.SetLimits(Limits{PerSecond: 1, Burst: 2})
	aya.mustSay("lobby", "1")
	aya.mustSay("lobby", "2")
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "3"})
	expectCode(t, err, CodeRateLimited, true)
	if after := AsError(err).After; after <= 0 || after > time.Second {
		t.Fatalf("after %v, want at most 1 s", after)
	}
}

func TestSay_withoutAttachIsRefused(t *testing.T) {
	_, aya, _ := twoProcesses(t)
	aya.p.Detach(aya)
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "x"})
	expectCode(t, err, CodeNotLoggedIn, false)
}

func TestSay_channelWithoutHistoryIsDeliveredAndNotLogged(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	aya.mustJoin("quick")
	ben.mustJoin("quick")
	if r := aya.mustSay("quick", "hi"); r.Seq != 0 || r.Epoch != "" || r.ID == "" {
		t.Fatalf("receipt %+v, want no seq and no epoch", r)
	}
	aya.expect("say quick 0 aya hi")
	ben.expect("say quick 0 aya hi")
	ch, err := st.Channel(t.Context(), "demo", "quick")
	check(t, err)
	if ch.Head != 0 {
		t.Fatalf("%d messages were logged", ch.Head)
	}
}

func TestSay_ngWordsRejectMaskFlagAndShadow(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	addWords(t, st, "reject", "reject", "mask", "mask", "flag", "flag", "shadow", "shadow")
	for _, c := range []*client{aya, ben} {
		eventually(t, 2*time.Second, "the NG words to be in force", func() bool {
			_, err := c.say(SayRequest{Channel: "lobby", Text: "reject me"})
			return err != nil && AsError(err).Code == CodeNGWord
		})
	}
	from := aya.mustSay("lobby", "start").Seq
	aya.mustSay("lobby", "a mask b")
	aya.mustSay("lobby", "a flag b")
	aya.mustSay("lobby", "a shadow b")
	aya.mustSay("lobby", "end")
	skipTo(aya, from)
	skipTo(ben, from)
	masked := fmt.Sprintf("say lobby %d aya a **** b", from+1)
	flagged := fmt.Sprintf("say lobby %d aya a flag b", from+2)
	shadowed := fmt.Sprintf("say lobby %d aya a shadow b", from+3)
	end := fmt.Sprintf("say lobby %d aya end", from+4)
	for _, want := range []string{masked, flagged, shadowed, end} {
		aya.expect(want)
	}
	for _, want := range []string{masked, flagged, end} {
		ben.expect(want)
	}
	if n := aya.p.Stats().NGWords; n["mask"] != 1 || n["flag"] != 1 || n["shadow"] != 1 || n["reject"] == 0 {
		t.Errorf("counted %v", n)
	}
}

func TestSay_databaseAwayIsARetryableErrorAndNothingCloses(t *testing.T) {
	t.Parallel()
	st, n := &faultyStore{Store: testStore(t)}, &network{}
	putToken(t, st.Store, "aya", "aya-token", time.Time{})
	cfg := testConfig(st.Store, n, "n1/s1/ua")
	cfg.Store, cfg.maxStale = st, time.Second
	p := startProcess(t, cfg)
	aya := p.login("aya-token").mustJoin("lobby")
	aya.mustSay("lobby", "before")
	st.away.Store(true)
	eventually(t, 3*time.Second, "sends to be refused", func() bool {
		_, err := aya.say(SayRequest{Channel: "lobby", Text: "during"})
		return err != nil && AsError(err).Code == CodeUnavailable && AsError(err).Retry
	})
	_, err := p.Login(t.Context(), "demo", "aya-token")
	expectCode(t, err, CodeUnavailable, true)
	st.away.Store(false)
	eventually(t, 3*time.Second, "sends to work again", func() bool {
		_, err := aya.say(SayRequest{Channel: "lobby", Text: "after"})
		return err == nil
	})
	select {
	case why := <-aya.ended:
		t.Fatalf("the session was ended: %s", why)
	default:
	}
}

func TestSay_deadBusStillCarriesTheChat(t *testing.T) {
	_, aya, ben := twoProcesses(t)
	aya.p.bus.(*port).cut.Store(true)
	aya.mustSay("lobby", "by the log alone")
	start := time.Now()
	ben.expect("say lobby 1 aya by the log alone")
	if took := time.Since(start); took > 2500*time.Millisecond {
		t.Errorf("took %v, want about a second", took)
	}
}

func TestSystem_reachesClientsOfOtherProcesses(t *testing.T) {
	st, n := testStore(t), &network{}
	putToken(t, st, "aya", "aya-token", time.Time{})
	ua := startProcess(t, testConfig(st, n, "n1/s1/ua"))
	aya := ua.login("aya-token").mustJoin("lobby")
	api := startAPI(t, st, n)

	id := envelope.NewID(time.Now())
	first, err := api.System(t.Context(), "demo", "lobby", id, "", "", "maintenance at noon")
	check(t, err)
	aya.expect("system lobby 1  maintenance at noon")
	again, err := api.System(t.Context(), "demo", "lobby", id, "", "", "maintenance at noon")
	check(t, err)
	if again.Seq != first.Seq || !again.Duplicate {
		t.Errorf("the retry got %+v, want %+v", again, first)
	}
	_, err = api.System(t.Context(), "demo", "nowhere", "", "", "", "x")
	expectCode(t, err, CodeNoSuchChannel, false)
	_, err = api.System(t.Context(), "other", "lobby", "", "", "", "x")
	expectCode(t, err, CodeNoSuchChannel, false)
}
