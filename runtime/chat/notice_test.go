package chat

import (
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// TestDeprecation_reachesWhoIsConnected: those who log in later ask for it themselves.
func TestDeprecation_reachesWhoIsConnected(t *testing.T) {
	st, n := testStore(t), &network{}
	putToken(t, st, "aya", "aya-token", time.Time{})
	check(t, st.PutVersion(t.Context(), store.Version{Name: "2.0", State: store.VersionLive}))
	check(t, st.PutVersion(t.Context(), store.Version{Name: "1.0", State: store.VersionLive}))
	cfg := testConfig(st, n, "a")
	cfg.Version = "2.0"
	aya := startProcess(t, cfg).login("aya-token")
	said := store.Deprecation{Deprecated: time.UnixMilli(1000), Sunset: time.UnixMilli(2000), Notice: "go on"}
	for _, d := range []store.Deprecation{said, {}, said} {
		check(t, st.SetDeprecation(t.Context(), "1.0", d)) // of another version: tells nobody here
		check(t, st.SetDeprecation(t.Context(), "2.0", d))
		select {
		case got := <-aya.notices:
			if !got.Equal(d) {
				t.Errorf("told %+v, want %+v", got, d)
			}
		case <-time.After(within):
			t.Fatalf("nothing is told of %+v", d)
		}
		if now := aya.p.Deprecation(t.Context()); !now.Equal(d) {
			t.Errorf("a login is told %+v, want %+v", now, d)
		}
	}
	check(t, st.SetDeprecation(t.Context(), "2.0", said)) // once more the same
	time.Sleep(700 * time.Millisecond)                    // the feed is read every 500 ms
	if len(aya.notices) > 0 {
		t.Errorf("told again: %+v", <-aya.notices)
	}
}
