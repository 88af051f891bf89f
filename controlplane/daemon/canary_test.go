package daemon

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

func (h *host) canary(build string, percent int) *controlplane.Canary {
	h.t.Helper()
	c, err := h.client.StartCanary(h.t.Context(), controlplane.CanaryRequest{Version: "2.0", Build: build, Percent: percent})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// spread tells on which set each of some users ends up.
func (h *host) spread(tenant, token string, users int) map[string]string {
	h.t.Helper()
	out := map[string]string{}
	for i := range users {
		user := fmt.Sprint("user-", i)
		out[user] = h.setOfNext(tenant, token, user)
	}
	return out
}

func share(of map[string]string, set string) (n int) {
	for _, s := range of {
		if s == set {
			n++
		}
	}
	return n
}

func TestCanary_isStickyAndCanBeWithdrawnAndPromoted(t *testing.T) {
	h := newHost(t)
	h.up()
	token := h.game("dragon")
	stable := h.version("2.0").Sets[0].ID
	configuration := h.config.Paths().Nginx() + "/nginx.conf"
	before, _ := os.ReadFile(configuration)
	b := h.otherBuild("c1")
	c := h.canary(b.Digest, 40)

	const users = 40
	first := h.spread("dragon", token, users)
	if n := share(first, c.Set); n < users/5 || n > users*3/5 || n+share(first, stable) != users {
		t.Errorf("%d of %d users are on the canary at 40%%", n, users)
	}
	again := h.spread("dragon", token, users)
	for user, set := range first {
		if again[user] != set {
			t.Errorf("%s was on %s and is on %s", user, set, again[user])
		}
	}
	if one, other := h.setOfNext("dragon", token, ""), h.setOfNext("dragon", token, ""); one != other {
		t.Error("without a hint a tenant is not on one build")
	}

	// A larger share takes nobody back; it is the same set, and survives a restart.
	grown := h.canary(b.Digest, 70)
	if grown.Set != c.Set || !grown.Since.Equal(c.Since) {
		t.Errorf("the grown canary is another: %+v", grown)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.up()
	more := h.spread("dragon", token, users)
	for user, set := range first {
		if set == c.Set && more[user] != c.Set {
			t.Errorf("%s lost the canary when it grew", user)
		}
	}
	if share(more, c.Set) <= share(first, c.Set) {
		t.Error("the canary did not grow")
	}
	testkit.Eventually(t, 10*time.Second, "both sides are reported", func() bool {
		r, err := h.client.Canary(t.Context(), "2.0")
		return err == nil && r.New.Traffic.WebSockets >= users/2 && r.Stable.Traffic.WebSockets > 0 && r.New.Healthy && r.New.Logins > 0 &&
			r.New.Closed["1006"] == r.New.Logins
	})

	// Nobody is cut off: who is on it is told to move.
	var hint string
	for user, set := range more {
		if set == c.Set {
			hint = user
		}
	}
	v := h.visit("dragon", token, hint)
	if err := h.client.WithdrawCanary(t.Context(), "2.0"); err != nil {
		t.Fatal(err)
	}
	if said := v.next(t); said == "close 1012" || said == "close 1006" {
		t.Errorf("the withdrawal says %s", said)
	}
	v.ws.Close()
	if after := h.spread("dragon", token, users); share(after, stable) != users {
		t.Errorf("after the withdrawal %d of %d users are on the stable set", share(after, stable), users)
	}
	testkit.Eventually(t, 20*time.Second, "the canary's set gets warm", func() bool { return h.setNamed(c.Set).State == controlplane.SetWarm })

	// The warm set serves as the next canary, and its promotion is a deploy.
	if c2 := h.canary(b.Digest, 1); c2.Set != c.Set {
		t.Errorf("another canary of the build is set %s, want the warm %s", c2.Set, c.Set)
	}
	// Which has a past of its own, and so has the stable set: neither is the canary's.
	if r, err := h.client.Canary(t.Context(), "2.0"); err != nil || len(r.New.Closed) > 0 || len(r.Stable.Closed) > 0 || r.New.Logins+r.Stable.Logins > 0 || r.New.Restarts > 0 {
		t.Errorf("the new canary begins with %+v beside %+v, %v", r.New, r.Stable, err)
	}
	h.deploy(b.Digest)
	now := h.version("2.0")
	if now.Build != b.Digest || now.Sets[0].ID != c.Set || now.Canary != nil {
		t.Errorf("after the promotion: %+v", now)
	}
	if after, _ := os.ReadFile(configuration); string(after) != string(before) {
		t.Error("nginx's configuration changed")
	}
}

func TestCanary_besideReleasesAndPins(t *testing.T) {
	h := newHost(t)
	h.up()
	h.look()
	ctx := t.Context()
	token := h.game("dragon")
	stable := h.version("2.0").Sets[0]
	b, other := h.otherBuild("d1"), h.otherBuild("d2")
	for name, r := range map[string]controlplane.CanaryRequest{
		"no share":       {Version: "2.0", Build: b.Digest},
		"everybody":      {Version: "2.0", Build: b.Digest, Percent: 100},
		"the same build": {Version: "2.0", Build: stable.Build, Percent: 10},
	} {
		if _, err := h.client.StartCanary(ctx, r); err == nil || controlplane.AsError(err).Kind != controlplane.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := h.canary(b.Digest, 99)
	deploy := controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: other.Digest}
	if _, err := h.client.Start(ctx, deploy); controlplane.AsError(err).Kind != controlplane.InUse {
		t.Errorf("a deploy beside a canary: %v", err)
	}
	if _, err := h.client.StartCanary(ctx, controlplane.CanaryRequest{Version: "2.0", Build: other.Digest, Percent: 5}); controlplane.AsError(err).Kind != controlplane.InUse {
		t.Errorf("a second canary: %v", err)
	}
	// A pin goes before the canary.
	if _, err := h.client.Pin(ctx, controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: stable.Build}); err != nil {
		t.Fatal(err)
	}
	if set := h.setOfNext("dragon", token, "x"); set != stable.ID {
		t.Errorf("the pinned tenant is on %s", set)
	}
	// A rollback ends the canary: only the build that it names serves.
	h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0", Build: other.Digest})
	testkit.Eventually(t, 20*time.Second, "the canary is over and drained", func() bool {
		return h.version("2.0").Canary == nil && h.setNamed(c.Set).State == controlplane.SetWarm
	})
	if s := h.setNamed(stable.ID); s.State != controlplane.SetPinned {
		t.Errorf("the set of the pinned tenant is %q", s.State)
	}
	// Retired, nothing is left of pin and sets.
	r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: "2.0", Force: true, Message: "over"})
	if r.State != controlplane.ReleaseDone || h.httpStatus("/ua/2.0/dragon") != http.StatusGone {
		t.Errorf("retire: %+v", r.Error)
	}
	testkit.Eventually(t, 10*time.Second, "pin and sets are gone", func() bool {
		v := h.version("2.0")
		return len(v.Pins) == 0 && len(v.Sets) == 0
	})
}
