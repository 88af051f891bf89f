package chat

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

func TestLimits_eachBucketRefusesWithATime(t *testing.T) {
	st := testStore(t)
	cfg := testConfig(st, &network{}, "n1/s1/ua")
	cfg.Limits = Limits{}
	p := startProcess(t, cfg)
	var users []*client
	for i := range 6 {
		name := fmt.Sprint("user", i)
		putToken(t, st, name, name+"-token", time.Time{})
		users = append(users, p.login(name+"-token").mustJoin("lobby", "quick"))
	}
	seen := map[string]int64{}
	refused := func(c *client, channel, by string) {
		t.Helper()
		_, err := c.say(SayRequest{Channel: channel, Text: "one too many"})
		expectCode(t, err, CodeRateLimited, true)
		if after := AsError(err).After; after <= 0 || after > 3*time.Second {
			t.Errorf("come again after %v", after)
		}
		if got := limitedBy(p.Service, seen); got != by {
			t.Errorf("refused by %q, want %s: %v", got, by, err)
		}
	}
	slow := map[string]int{"user_messages_per_second": 1, "channel_messages_per_second": 3, "messages_per_second": 5}
	setLimits(t, st, p.Service, slow)
	users[0].mustSay("lobby", "1")
	users[0].mustSay("lobby", "2")
	refused(users[0], "lobby", "user_messages_per_second")
	users[1].mustSay("lobby", "3")
	refused(users[1], "lobby", "channel_messages_per_second")
	users[2].mustSay("quick", "4")
	users[3].mustSay("quick", "5")
	refused(users[4], "quick", "messages_per_second")
	_, err := p.System(t.Context(), "demo", "quick", "", "", "", "the game's own count too")
	expectCode(t, err, CodeRateLimited, true)

	setLimits(t, st, p.Service, map[string]int{"user_messages_per_second": 0, "channel_messages_per_second": 0, "messages_per_second": 0})
	eventually(t, 5*time.Second, "the buckets to fill at the default rates", func() bool {
		_, err := users[0].say(SayRequest{Channel: "lobby", Text: "again"})
		return err == nil
	})
	stats := p.Stats().Tenants[0].Limited
	if stats["messages_per_second"] != 2 || stats["channel_messages_per_second"] < 1 {
		t.Errorf("counted %v", stats)
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
