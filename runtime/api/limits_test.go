package api_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestLimits_requestsOverTheTenantsRate(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 200, "GET", "", "") // what demo's limits are is known from here on
	check(t, w.store.SetTenantLimits(t.Context(), "demo", map[string]int{"api_requests_per_second": 1}))
	var last string
	testkit.Eventually(t, 5*time.Second, "a 429", func() bool {
		a := w.Call(t, "GET", "/api/2.0/demo/", "", "Authorization: Bearer "+w.key)
		last = a.Body
		return a.Status == 429 && a.Header.Get("Retry-After") == "1" && strings.Contains(a.Body, `"rate_limited"`)
	})
	if a := w.Call(t, "GET", "/api/2.0/other/", "", "Authorization: Bearer "+w.other); a.Status != 200 {
		t.Errorf("another tenant gets %d %s after %s", a.Status, a.Body, last)
	}
}

func TestLimits_channelsAndMembers(t *testing.T) {
	w := sqliteWorld(t)
	check(t, w.store.SetTenantLimits(t.Context(), "demo", map[string]int{"channels": 1, "channel_members": 1}))
	w.must(t, 201, "PUT", "channels/a", "")
	w.must(t, 422, "PUT", "channels/b", "")
	w.must(t, 200, "PUT", "channels/a", "")
	w.must(t, 204, "PUT", "channels/a/members/aki", "")
	w.must(t, 422, "PUT", "channels/a/members/ben", "")
}

// TestParking_callsWaitInsteadOfBeingRefused holds the only place and lets requests come: they wait, and one too many gets a 503.
func TestParking_callsWaitInsteadOfBeingRefused(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 200, "GET", "", "")
	w.Service.SetLimits(chat.Limits{LoginsParallel: 1, LoginsWaiting: 3})
	leave, err := w.Service.Park(t.Context(), "demo")
	check(t, err)
	get := func() (int, string) {
		a := w.Call(t, "GET", "/api/2.0/demo/", "", "Authorization: Bearer "+w.key)
		return a.Status, a.Header.Get("Retry-After")
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if status, _ := get(); status != 200 {
				t.Errorf("one that waited got %d", status)
			}
		})
	}
	testkit.Eventually(t, 5*time.Second, "a 503 once three wait", func() bool {
		if _, waiting := w.Service.Parked(); waiting < 3 {
			return false
		}
		status, after := get()
		return status == 503 && after != ""
	})
	leave()
	wg.Wait()
}
