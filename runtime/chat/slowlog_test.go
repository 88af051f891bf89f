package chat

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// heldLog is the real log with a hand on it.
type heldLog struct {
	*chatlog.Log
	appends atomic.Int32
	hold    atomic.Pointer[chan struct{}] // an Append waits for it, aside
	onHead  atomic.Pointer[func()]
	away    atomic.Bool // for reads of messages
	still   atomic.Bool // nothing moves
}

func (l *heldLog) Moved(ctx context.Context, since time.Time) ([]chatlog.Head, time.Time, error) {
	if l.still.Load() {
		return nil, since, nil
	}
	return l.Log.Moved(ctx, since)
}

func (l *heldLog) Read(ctx context.Context, pk, after, upTo int64, limit int) ([]*envelope.Envelope, error) {
	if l.away.Load() {
		return nil, store.ErrUnavailable
	}
	return l.Log.Read(ctx, pk, after, upTo, limit)
}

func (l *heldLog) Append(pk int64, e *envelope.Envelope, done func(chatlog.Receipt, error)) {
	l.appends.Add(1)
	hold := l.hold.Load()
	if hold == nil {
		l.Log.Append(pk, e, done)
		return
	}
	go func() {
		<-*hold
		l.Log.Append(pk, e, done)
	}()
}

func (l *heldLog) Head(ctx context.Context, pk int64) (chatlog.Head, error) {
	if f := l.onHead.Load(); f != nil {
		(*f)()
	}
	return l.Log.Head(ctx, pk)
}

func heldProcess(t *testing.T) (*store.Store, *process, *heldLog) {
	t.Helper()
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	log := chatlog.Open(st, chatlog.Options{})
	t.Cleanup(func() { log.Close() })
	held := &heldLog{Log: log}
	cfg := testConfig(st, &network{}, "n1/s1/ua")
	cfg.Log = held
	return st, startProcess(t, cfg), held
}

func TestSay_retryWhileTheFirstIsUnderWayGetsItsReceipt(t *testing.T) {
	t.Parallel()
	_, p, log := heldProcess(t)
	aya := p.login("aya-token").mustJoin("lobby")
	hold := make(chan struct{})
	log.hold.Store(&hold)
	r := SayRequest{Channel: "lobby", ID: envelope.NewID(time.Now()), Text: "once"}
	answers := make(chan chatlog.Receipt, 100)
	var refused atomic.Int32
	say := func() {
		p.Say(aya, r, func(receipt chatlog.Receipt, err error) {
			if err != nil {
				refused.Add(1)
				return
			}
			answers <- receipt
		})
	}
	for range maxWaiters + 2 { // the first, those who wait, and one too many
		say()
	}
	if refused.Load() != 1 {
		t.Errorf("%d retries were refused, want the one too many", refused.Load())
	}
	if err := p.Flush(canceled(t)); err == nil {
		t.Error("Flush does not see what is under way")
	}
	close(hold)
	check(t, p.Flush(t.Context()))
	duplicates := 0
	for range maxWaiters + 1 {
		got := <-answers
		if got.Seq != 1 {
			t.Fatalf("receipt %+v", got)
		}
		if got.Duplicate {
			duplicates++
		}
	}
	say() // answered from memory
	if got := <-answers; !got.Duplicate || got.Seq != 1 {
		t.Errorf("the late retry got %+v", got)
	}
	if duplicates != maxWaiters || log.appends.Load() != 1 {
		t.Errorf("%d duplicates of %d appends, want %d of 1", duplicates, log.appends.Load(), maxWaiters)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestSay_markedRetryIsFoundEvenOverTheRateLimit(t *testing.T) {
	_, aya, ben := twoProcesses(t)
	id := envelope.NewID(time.Now())
	first, err := aya.say(SayRequest{Channel: "lobby", ID: id, Text: "once"})
	check(t, err)
	again := ben.p.login("aya-token").mustJoin("lobby")
	ben.p.SetLimits(Limits{PerSecond: 1, Burst: 1})
	again.mustSay("lobby", "the whole burst")
	r, err := again.say(SayRequest{Channel: "lobby", ID: id, Text: "once", Retry: true})
	check(t, err)
	if r.Seq != first.Seq || !r.Duplicate {
		t.Fatalf("receipt %+v, want %+v", r, first)
	}
}

func TestJoin_removalWhileItSubscribesIsNotLost(t *testing.T) {
	t.Parallel()
	st, p, log := heldProcess(t)
	check(t, st.AddMember(t.Context(), "demo", "guild", "aya"))
	aya := p.login("aya-token")
	remove := func() { // between the question whether aya may join and her subscription
		log.onHead.Store(nil)
		check(t, st.RemoveMember(context.Background(), "demo", "guild", "aya"))
		eventually(t, within, "the removal to be seen", func() bool { return len(aya.removed) > 0 })
	}
	log.onHead.Store(&remove)
	expectCode(t, aya.join("guild"), CodeNotMember, false)
	if rooms := p.Hub().Rooms(); len(rooms) > 0 && rooms[0].Subscribers > 0 {
		t.Errorf("still subscribed: %+v", rooms)
	}
}

func TestJoin_refusalEndsTheEarlierSubscription(t *testing.T) {
	t.Parallel()
	_, p, log := heldProcess(t)
	aya := p.login("aya-token").mustJoin("lobby")
	m := aya.mustSay("lobby", "before the room that follows")
	check(t, p.Leave(aya, "lobby"))
	aya.mustJoin("lobby")
	log.away.Store(true)
	expectCode(t, aya.joinFrom("lobby", &hub.Position{Epoch: m.Epoch}), CodeUnavailable, true)
	if rooms := p.Hub().Rooms(); len(rooms) > 0 {
		t.Errorf("still subscribed: %+v", rooms)
	}
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "not in"})
	expectCode(t, err, CodeNotJoined, false)
	log.away.Store(false)
	check(t, aya.joinFrom("lobby", &hub.Position{Epoch: m.Epoch}))
	aya.await("say lobby 1 aya before the room that follows")
}

func TestKey_useIsWrittenDownOnceAMinute(t *testing.T) {
	st := testStore(t)
	_, err := st.CreateKey(t.Context(), "demo", "server", auth.Hash("secret-key"))
	check(t, err)
	api := startAPI(t, st, &network{})
	for range 3 {
		_, err = api.Key(t.Context(), "demo", "secret-key")
		check(t, err)
	}
	api.touchKeys(t.Context(), time.Now())
	keys, err := st.Keys(t.Context(), "demo")
	check(t, err)
	if len(keys) != 1 || keys[0].LastUsed.IsZero() {
		t.Errorf("keys are %+v, want one that was used", keys)
	}
	_, err = api.Key(t.Context(), "demo", "secret-key")
	check(t, err)
	if again := api.used.take(time.Now()); len(again) > 0 {
		t.Error("it would be written down again at once")
	}
	if st := api.Stats(); len(st.Tenants) != 1 || time.Since(st.Tenants[0].LastSeen) > time.Minute {
		t.Errorf("the tenant's use was not noted: %+v", st.Tenants)
	}
}
