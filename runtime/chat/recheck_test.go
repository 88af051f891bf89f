package chat

import (
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// within is what DESIGN promises for changes, with room for a slow machine.
const within = 2 * time.Second

func guildOfTwo(t *testing.T) (*store.Store, *client, *client) {
	t.Helper()
	st, aya, ben := twoProcesses(t)
	for _, c := range []*client{aya, ben} {
		check(t, st.AddMember(t.Context(), "demo", "guild", c.id.User))
		c.mustJoin("guild")
	}
	return st, aya, ben
}

func TestJoin_guildIsForMembers(t *testing.T) {
	st, aya, _ := twoProcesses(t)
	expectCode(t, aya.join("guild"), CodeNotMember, false)
	expectCode(t, aya.join("nowhere"), CodeNoSuchChannel, false)
	expectCode(t, aya.join("no/where"), CodeBadName, false)
	check(t, st.AddMember(t.Context(), "demo", "guild", "aya"))
	check(t, aya.join("guild"))
	aya.mustSay("guild", "hello")
	aya.expect("say guild 1 aya hello")
}

func TestLeave_endsTheSubscription(t *testing.T) {
	_, aya, ben := twoProcesses(t)
	check(t, aya.p.Leave(aya, "lobby"))
	expectCode(t, aya.p.Leave(aya, "lobby"), CodeNotJoined, false)
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "x"})
	expectCode(t, err, CodeNotJoined, false)
	ben.mustSay("lobby", "not for aya")
	aya.mustJoin("lobby")
	ben.mustSay("lobby", "for aya")
	aya.expect("say lobby 2 ben for aya")
}

func TestChanges_removedMemberLosesTheChannel(t *testing.T) {
	st, aya, ben := guildOfTwo(t)
	check(t, st.RemoveMember(t.Context(), "demo", "guild", "aya"))
	expectOn(t, aya.removed, within, "guild not_member")
	_, err := aya.say(SayRequest{Channel: "guild", Text: "still here?"})
	expectCode(t, err, CodeNotJoined, false)
	expectCode(t, aya.join("guild"), CodeNotMember, false)

	ben.mustSay("guild", "secret")
	ben.mustSay("lobby", "public")
	aya.expect("say lobby 1 ben public")

	check(t, st.AddMember(t.Context(), "demo", "guild", "aya"))
	check(t, aya.join("guild"))
	ben.mustSay("guild", "welcome back")
	aya.expect("say guild 2 ben welcome back")
}

func TestChanges_revokedTokenEndsItsSessionsAndNoOthers(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	_, err := st.RevokeTokens(t.Context(), "demo", "aya")
	check(t, err)
	putToken(t, st, "aya", "aya-new", time.Time{})
	again := ben.p.login("aya-new").mustJoin("lobby")
	expectOn(t, aya.ended, within, "4401 bad_token")
	again.mustSay("lobby", "back")
	ben.expect("say lobby 1 aya back")
	if len(again.ended)+len(ben.ended) > 0 {
		t.Error("another session was ended")
	}
}

func TestChanges_suspendedTenantEndsItsSessions(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	check(t, st.SetTenantState(t.Context(), "demo", "suspended"))
	expectOn(t, aya.ended, within, "4403 tenant_suspended")
	expectOn(t, ben.ended, within, "4403 tenant_suspended")
	_, err := aya.p.Login(t.Context(), "demo", "aya-token")
	expectCode(t, err, CodeTenantSuspended, false)
	check(t, st.SetTenantState(t.Context(), "demo", "active"))
	eventually(t, within, "logins to be taken again", func() bool {
		_, err := aya.p.Login(t.Context(), "demo", "aya-token")
		return err == nil
	})
}

func TestChanges_deletedChannelIsTakenAwayAndItsSuccessorIsAnother(t *testing.T) {
	st, aya, _ := twoProcesses(t)
	aya.mustSay("lobby", "old")
	check(t, st.DeleteChannel(t.Context(), "demo", "lobby"))
	_, err := st.CreateChannel(t.Context(), store.Channel{Tenant: "demo", ID: "lobby", Kind: "world", History: "log"})
	check(t, err)
	expectOn(t, aya.removed, within, "lobby no_such_channel")
	aya.mustJoin("lobby")
	if r := aya.mustSay("lobby", "new"); r.Seq != 1 {
		t.Fatalf("the new channel began with seq %d", r.Seq)
	}
}

func TestChanges_renamedUserSpeaksUnderTheNewName(t *testing.T) {
	st, aya, _ := twoProcesses(t)
	check(t, st.PutToken(t.Context(), store.Token{Tenant: "demo", User: "aya", Name: "Aya II", Hash: aya.id.TokenHash}))
	eventually(t, within, "the new name", func() bool {
		aya.p.mu.RLock()
		defer aya.p.mu.RUnlock()
		return aya.p.sessions[aya].name == "Aya II"
	})
}

func TestChanges_newEpochRechecksEverything(t *testing.T) {
	t.Parallel()
	st, p, log := heldProcess(t)
	log.still.Store(true) // or the hub may be first to see that the channels have other epochs
	putToken(t, st, "ben", "ben-token", time.Time{})
	var both []*client
	for _, user := range []string{"aya", "ben"} {
		check(t, st.AddMember(t.Context(), "demo", "guild", user))
		both = append(both, p.login(user+"-token").mustJoin("lobby", "guild"))
	}
	aya, ben := both[0], both[1]
	// What a restore leaves behind: rows changed, and no change that says so.
	removeSilently(t, st, "aya")
	ben.mustSay("guild", "nobody knows yet")
	aya.expect("say guild 1 ben nobody knows yet")
	check(t, st.NewEpochs(t.Context()))
	eventually(t, within, "both channels to be lost", func() bool { return len(aya.removed) == 2 })
	eventually(t, within, "and ben's", func() bool { return len(ben.removed) == 2 })
	expectCode(t, aya.join("guild"), CodeNotMember, false)
	check(t, ben.join("guild"))
}

func TestChanges_whatIsNotRecheckedMayNotSpeak(t *testing.T) {
	t.Parallel()
	st := &faultyStore{Store: testStore(t)}
	putToken(t, st.Store, "aya", "aya-token", time.Time{})
	cfg := testConfig(st.Store, &network{}, "n1/s1/ua")
	cfg.Store = st
	p := startProcess(t, cfg)
	aya := p.login("aya-token").mustJoin("lobby")
	aya.mustSay("lobby", "1")
	st.away.Store(true)
	p.unlearn(store.Change{Tenant: "demo", Kind: store.ChangeToken, Subject: "aya"})
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "2"})
	expectCode(t, err, CodeUnavailable, true)
	st.away.Store(false)
	eventually(t, within, "to speak again", func() bool {
		_, err := aya.say(SayRequest{Channel: "lobby", Text: "2"})
		return err == nil
	})
}

// removeSilently takes a member out without a row in the feed.
func removeSilently(t *testing.T, st *store.Store, user string) {
	t.Helper()
	check(t, st.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM members WHERE user = ?`, user)
		return err
	}))
}

// frozenFeed has aya in the guild of a process that hears of no changes but those that the test tells it.
func frozenFeed(t *testing.T) (*faultyStore, *client) {
	t.Helper()
	t.Parallel()
	st := &faultyStore{Store: testStore(t)}
	putToken(t, st.Store, "aya", "aya-token", time.Time{})
	check(t, st.AddMember(t.Context(), "demo", "guild", "aya"))
	cfg := testConfig(st.Store, &network{}, "n1/s1/ua")
	cfg.Store = st
	p := startProcess(t, cfg)
	aya := p.login("aya-token").mustJoin("guild")
	st.frozen.Store(true)
	return st, aya
}

func TestChanges_unknownKindRechecksEverything(t *testing.T) {
	st, aya := frozenFeed(t)
	removeSilently(t, st.Store, "aya")
	aya.p.unlearn(store.Change{Tenant: "demo", Kind: "of-tomorrow", Subject: "somebody"})
	expectOn(t, aya.removed, within, "guild not_member")
}

func TestChanges_sayFindsOutBeforeTheBackgroundDoes(t *testing.T) {
	st, aya := frozenFeed(t)
	removeSilently(t, st.Store, "aya")
	aya.p.dropMembers("demo", "guild", "aya")
	aya.p.mu.Lock()
	aya.p.sessions[aya].needed.Add(1) // and not flagged: nobody else looks
	aya.p.mu.Unlock()
	_, err := aya.say(SayRequest{Channel: "guild", Text: "still here?"})
	expectCode(t, err, CodeNotJoined, false)
	expectOn(t, aya.removed, within, "guild not_member")
}

func TestChanged_wakesTheOtherProcesses(t *testing.T) {
	t.Parallel()
	st, n := testStore(t), &network{}
	putToken(t, st, "aya", "aya-token", time.Time{})
	ua := startProcess(t, testConfig(st, n, "n1/s1/ua"))
	aya := ua.login("aya-token")
	api := startAPI(t, st, n)
	for range 5 { // the poll alone would need 250 ms on average
		_, err := st.RevokeTokens(t.Context(), "demo", "aya")
		check(t, err)
		start := time.Now()
		api.Changed()
		expectOn(t, aya.ended, within, "4401 bad_token")
		if time.Since(start) < 100*time.Millisecond {
			return
		}
		putToken(t, st, "aya", "aya-again", time.Time{})
		aya = ua.login("aya-again")
	}
	t.Error("a wake-up never made a change faster than the poll")
}
