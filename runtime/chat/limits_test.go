package chat

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/store"
)

// setLimits changes limits of demo and waits until they are in force in p.
func setLimits(t testing.TB, st *store.Store, p *Service, change map[string]int) {
	t.Helper()
	check(t, st.SetTenantLimits(t.Context(), "demo", change))
	tenant, err := st.Tenant(t.Context(), "demo")
	check(t, err)
	eventually(t, time.Second, "the limits to be in force", func() bool {
		l, err := p.tenantLimits("demo")
		return err == nil && l == p.inForce(tenant.Limits)
	})
}

// limitedBy tells which limit has refused something since it was asked last.
func limitedBy(p *Service, seen map[string]int64) string {
	for name, n := range p.counts.limitedOf("demo") {
		if n > seen[name] {
			seen[name] = n
			return name
		}
	}
	return ""
}

// limitedSays follow each other; by is the limit that refuses one.
var limitedSays = []struct {
	user        int
	channel, by string
}{
	{0, "lobby", ""},
	{0, "lobby", ""},
	{0, "lobby", "user_messages_per_second"},
	{1, "lobby", ""},
	{1, "lobby", "channel_messages_per_second"},
	{2, "quick", ""},
	{3, "quick", ""},
	{4, "quick", "messages_per_second"},
}

// limitedAnswer is how a message was answered, and which limit refused it.
type limitedAnswer struct {
	err error
	by  string
}

// sayLimited says limitedSays, and one more in the name of the game. It waits for no commit before all are said; took is until then.
func sayLimited(p *process, users []*client, seen map[string]int64) (answers []limitedAnswer, took time.Duration) {
	start := time.Now()
	errs := make([]chan error, len(limitedSays))
	for i, say := range limitedSays {
		errs[i] = make(chan error, 1)
		p.Say(users[say.user], SayRequest{Channel: say.channel, Text: "hello"}, func(_ chatlog.Receipt, err error) { errs[i] <- err })
		answers = append(answers, limitedAnswer{by: limitedBy(p.Service, seen)})
	}
	_, err := p.System(p.t.Context(), "demo", "quick", "", "", "", "the game's own count too")
	answers = append(answers, limitedAnswer{err, limitedBy(p.Service, seen)})
	took = time.Since(start)
	for i := range errs {
		answers[i].err = <-errs[i]
	}
	return answers, took
}

func TestLimits_eachBucketRefusesWithATime(t *testing.T) {
	st := testStore(t)
	cfg := testConfig(st, &network{}, "n1/s1/ua")
	cfg.Limits = Limits{}
	p := startProcess(t, cfg)
	var users []*client
	for i := range 5 {
		name := fmt.Sprint("user", i)
		putToken(t, st, name, name+"-token", time.Time{})
		users = append(users, p.login(name+"-token").mustJoin("lobby", "quick"))
	}
	setLimits(t, st, p.Service, map[string]int{"user_messages_per_second": 1, "channel_messages_per_second": 3, "messages_per_second": 5})
	seen := map[string]int64{}
	answers, took := sayLimited(p, users, seen)
	for attempt := 1; took >= time.Second/5; attempt++ { // the tenant's bucket has a token again: nothing is shown
		if attempt == 20 {
			t.Fatalf("nine messages take %v", took)
		}
		time.Sleep(2 * time.Second) // all buckets are full
		answers, took = sayLimited(p, users, seen)
	}
	for i, say := range limitedSays {
		expectLimited(t, answers[i], say.by)
	}
	expectLimited(t, answers[len(limitedSays)], "messages_per_second")
	if stats := p.Stats().Tenants[0].Limited; !maps.Equal(stats, seen) {
		t.Errorf("counted %v, want %v", stats, seen)
	}

	setLimits(t, st, p.Service, map[string]int{"user_messages_per_second": 0, "channel_messages_per_second": 0, "messages_per_second": 0})
	eventually(t, 5*time.Second, "the buckets to fill at the default rates", func() bool {
		_, err := users[0].say(SayRequest{Channel: "lobby", Text: "again"})
		return err == nil
	})
}

// expectLimited wants a refusal by one limit, or none by "".
func expectLimited(t *testing.T, got limitedAnswer, by string) {
	t.Helper()
	if got.by != by {
		t.Errorf("refused by %q, want %q: %v", got.by, by, got.err)
	}
	if by == "" {
		check(t, got.err)
		return
	}
	expectCode(t, got.err, CodeRateLimited, true)
	if after := AsError(got.err).After; after <= 0 || after > 3*time.Second {
		t.Errorf("come again after %v", after)
	}
}

func TestLimits_ofOneTenantAreNotAnothers(t *testing.T) {
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	_, err := st.CreateTenant(t.Context(), store.Tenant{ID: "other"})
	check(t, err)
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	setLimits(t, st, p.Service, map[string]int{"api_requests_per_second": 2})
	for range 2 {
		check(t, p.TakeRequest("demo"))
	}
	expectCode(t, p.TakeRequest("demo"), CodeRateLimited, true)
	for range 100 {
		check(t, p.TakeRequest("other"))
	}
}

func TestLimits_connectionsAndText(t *testing.T) {
	st := testStore(t)
	for _, user := range []string{"aya", "ben"} {
		putToken(t, st, user, user+"-token", time.Time{})
	}
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	setLimits(t, st, p.Service, map[string]int{"connections": 1, "text_length": 3})
	aya := p.login("aya-token").mustJoin("lobby")
	id, err := p.Login(t.Context(), "demo", "ben-token")
	check(t, err)
	ben := &client{id: id}
	err = p.Attach(ben)
	expectCode(t, err, CodeTooManyConnections, true)
	if AsError(err).After <= 0 {
		t.Error("no time to come again")
	}
	aya.mustSay("lobby", "かかか")
	_, err = aya.say(SayRequest{Channel: "lobby", Text: "かかかか"})
	expectCode(t, err, CodeTooLarge, false)
	_, err = p.System(t.Context(), "demo", "lobby", "", "", "", strings.Repeat("a", 4))
	expectCode(t, err, CodeTooLarge, false)
	p.Detach(aya)
	check(t, p.Attach(ben))
	p.Detach(ben)
}

func TestPark_madeUpTenantsShareOneTurn(t *testing.T) {
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	p.SetLimits(Limits{LoginsParallel: 1, LoginsWaiting: 100})
	leave, err := p.Park(t.Context(), "demo")
	check(t, err)
	served := make(chan string, 100)
	park := func(tenant string) {
		_, before := p.parking.Waiting()
		go func() {
			leave, err := p.Park(t.Context(), tenant)
			if err == nil {
				served <- tenant
				leave()
			}
		}()
		eventually(t, within, "it to wait", func() bool { _, n := p.parking.Waiting(); return n > before })
	}
	for i := range 10 {
		park(fmt.Sprint("guess", i))
	}
	park("demo")
	leave()
	if first, second := <-served, <-served; first != "guess0" || second != "demo" {
		t.Errorf("%s and %s came first: made-up names are served before a tenant", first, second)
	}
	for range 9 {
		<-served
	}
}
