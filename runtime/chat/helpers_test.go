package chat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, within, what, cond)
}

// addWords takes pairs of word and action.
func addWords(t testing.TB, st *store.Store, pairs ...string) {
	t.Helper()
	var entries []store.NGEntry
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, store.NGEntry{Word: pairs[i], Kind: "word", Action: pairs[i+1], Mode: "auto"})
	}
	_, err := st.NGChange(t.Context(), store.NGEdit{Tenant: "demo", Base: -1, Author: "test", Add: entries})
	check(t, err)
}

// skipTo reads on to the message with that seq.
func skipTo(c *client, seq int64) {
	c.t.Helper()
	for !strings.HasPrefix(c.next(5*time.Second), fmt.Sprintf("say lobby %d ", seq)) {
		continue
	}
}

// startAPI is an API process: no hub, no clients.
func startAPI(t testing.TB, st *store.Store, n *network) *Service {
	t.Helper()
	l := chatlog.Open(st, chatlog.Options{})
	s := New(Config{Store: st, Log: l, Bus: n.open, Origin: "n1/s9/api"})
	t.Cleanup(func() { s.Close(); l.Close() })
	check(t, s.Ready(t.Context()))
	return s
}
