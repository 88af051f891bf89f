package chat

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/store"
)

func TestLogin_letsInWhoHasAToken(t *testing.T) {
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	putToken(t, st, "late", "late-token", time.Now().Add(-time.Second))
	putToken(t, st, "gone", "gone-token", time.Time{})
	_, err := st.RevokeTokens(t.Context(), "demo", "gone")
	check(t, err)
	_, err = st.CreateTenant(t.Context(), store.Tenant{ID: "other", Name: "Other"})
	check(t, err)
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))

	id, err := p.Login(t.Context(), "demo", "aya-token")
	check(t, err)
	if id.User != "aya" || id.Name != "AYA" || id.Tenant != "demo" || id.TokenHash != auth.Hash("aya-token") {
		t.Errorf("identity is %+v", id)
	}
	for name, tt := range map[string]struct{ tenant, token, code string }{
		"unknown token":    {"demo", "nobody", CodeBadToken},
		"empty token":      {"demo", "", CodeBadToken},
		"endless token":    {"demo", strings.Repeat("x", auth.MaxSecret+1), CodeBadToken},
		"another tenant's": {"other", "aya-token", CodeBadToken},
		"unknown tenant":   {"nowhere", "aya-token", CodeBadToken},
		"bad tenant":       {"../demo", "aya-token", CodeBadToken},
		"expired":          {"demo", "late-token", CodeTokenExpired},
		"revoked":          {"demo", "gone-token", CodeBadToken},
	} {
		if _, err := p.Login(t.Context(), tt.tenant, tt.token); AsError(err).Code != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
}

func TestLogin_parksAndRefusesWithATimeToComeBack(t *testing.T) {
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	p.SetLimits(Limits{LoginsParallel: 1, LoginsWaiting: 1})
	leave, err := p.parking.Enter(t.Context(), "demo")
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = p.Login(ctx, "demo", "aya-token")
	expectCode(t, err, CodeBusy, true)
	if AsError(err).After <= 0 {
		t.Error("no time to come back was told")
	}
	leave()
	_, err = p.Login(t.Context(), "demo", "aya-token")
	check(t, err)
}

func TestKey_opensItsOwnTenantUntilItIsRevoked(t *testing.T) {
	t.Parallel()
	st, n := testStore(t), &network{}
	_, err := st.CreateTenant(t.Context(), store.Tenant{ID: "other", Name: "Other"})
	check(t, err)
	key, err := st.CreateKey(t.Context(), "demo", "server", auth.Hash("secret-key"))
	check(t, err)
	api := startAPI(t, st, n)
	if got, err := api.Key(t.Context(), "demo", "secret-key"); err != nil || got.ID != key.ID {
		t.Fatalf("Key = %+v, %v; want %q", got, err, key.ID)
	}
	_, err = api.Key(t.Context(), "other", "secret-key")
	expectCode(t, err, CodeBadKey, false)
	_, err = api.Key(t.Context(), "demo", "guess")
	expectCode(t, err, CodeBadKey, false)
	check(t, st.RevokeKey(t.Context(), "demo", key.ID))
	eventually(t, 2*time.Second, "the revoked key to be refused", func() bool {
		_, err := api.Key(t.Context(), "demo", "secret-key")
		return err != nil && AsError(err).Code == CodeBadKey
	})
}

func TestSweep_endsSessionsWhoseTokenExpires(t *testing.T) {
	t.Parallel()
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Now().Add(1200*time.Millisecond))
	putToken(t, st, "ben", "ben-token", time.Now().Add(time.Hour))
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	aya, ben := p.login("aya-token"), p.login("ben-token")
	expectOn(t, aya.ended, 4*time.Second, "4401 token_expired")
	_, err := aya.say(SayRequest{Channel: "lobby", Text: "x"})
	expectCode(t, err, CodeNotLoggedIn, false)
	if len(ben.ended) > 0 {
		t.Error("a session was ended before its time")
	}
}

func TestSweep_followsATokenThatGotAnotherEnd(t *testing.T) {
	t.Parallel()
	st := testStore(t)
	putToken(t, st, "aya", "aya-token", time.Now().Add(time.Hour))
	p := startProcess(t, testConfig(st, &network{}, "n1/s1/ua"))
	aya := p.login("aya-token")
	putToken(t, st, "aya", "aya-token", time.Now().Add(time.Second))
	expectOn(t, aya.ended, 4*time.Second, "4401 token_expired")
}
