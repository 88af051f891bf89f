package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

const (
	herd       = 1900 // clients of one tenant, and then
	latecomers = 100  // of another
	jostle     = 200  // places: those who come, or are welcomed, at nearly the same moment may be noted the other way round
)

// TestHerd_isServedInOrder has 2,000 clients come back while one login runs at a time: all are welcomed, each tenant's in the order in
// which they came, and the few of the tenant that came last do not wait for the whole herd of the other.
func TestHerd_isServedInOrder(t *testing.T) {
	served := &servedOrder{}
	w := uatest.StartWith(t, protocol{now: time.Now}, ua.Options{LoginDeadline: time.Minute}, func(svc *chat.Service) ua.Service {
		served.Service = svc
		return served
	})
	_, err := w.Store.CreateTenant(t.Context(), store.Tenant{ID: "late"})
	must(t, err)
	putTokens(t, w.Store)
	w.Service.SetLimits(chat.Limits{LoginsParallel: 1})
	leave, err := w.Service.Park(t.Context(), uatest.Tenant) // nobody is served before all are there
	must(t, err)

	clients := append(dialMany(t, w.URL, herd), dialMany(t, strings.TrimSuffix(w.URL, uatest.Tenant)+"late", latecomers)...)
	for i, ws := range clients {
		hello := fmt.Appendf(nil, `[{"op":"hello","token":%q}]`, uatest.Token(user(i)))
		must(t, ws.WriteMessage(websocket.TextMessage, hello))
		for _, waiting := w.Service.Parked(); waiting < i-jostle/4; _, waiting = w.Service.Parked() {
			time.Sleep(time.Millisecond)
		}
	}
	testkit.Eventually(t, uatest.Patience, "all to wait", func() bool { _, n := w.Service.Parked(); return n == len(clients) })
	leave()
	for i, ws := range clients {
		if _, frame, err := ws.ReadMessage(); err != nil || !strings.Contains(string(frame), `"welcome"`) {
			t.Fatalf("client %d got %s (%v)", i, frame, err)
		}
	}
	for i := range herd {
		if place := served.of(uatest.Tenant, i); place < i-jostle || place > i+latecomers+jostle {
			t.Fatalf("client %d of the herd was served as number %d", i, place)
		}
	}
	for i := range latecomers {
		if place := served.of("late", herd+i); place < 2*i-jostle || place > 2*i+jostle {
			t.Fatalf("latecomer %d was served as number %d, want tenants in turns", i, place)
		}
	}
}

func dialMany(t *testing.T, url string, n int) []*websocket.Conn {
	t.Helper()
	list := make([]*websocket.Conn, n)
	for i := range list {
		ws, _, err := websocket.DefaultDialer.Dial(url, nil)
		must(t, err)
		t.Cleanup(func() { _ = ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
		list[i] = ws
	}
	return list
}

// putTokens gives everybody a token in one transaction: the store's own way has one for each.
func putTokens(t *testing.T, st *store.Store) {
	t.Helper()
	must(t, st.Write(t.Context(), func(tx *store.Tx) error {
		for i := range herd + latecomers {
			tenant := uatest.Tenant
			if i >= herd {
				tenant = "late"
			}
			_, err := tx.ExecContext(t.Context(), `INSERT INTO users (tenant, user, name, created_at) VALUES (?, ?, 'N', 0)`, tenant, user(i))
			if err == nil {
				_, err = tx.ExecContext(t.Context(), `INSERT INTO tokens (hash, tenant, user, created_at) VALUES (?, ?, ?, 0)`,
					auth.Hash(uatest.Token(user(i))), tenant, user(i))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// servedOrder notes in which order users were logged in.
type servedOrder struct {
	*chat.Service
	mu    sync.Mutex
	order []string
}

func (s *servedOrder) Attach(c chat.Session) error {
	s.mu.Lock()
	s.order = append(s.order, c.Identity().Tenant+"/"+c.Identity().User)
	s.mu.Unlock()
	return s.Service.Attach(c)
}

// of is a user's place in the order, -1 for none.
func (s *servedOrder) of(tenant string, i int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Index(s.order, tenant+"/"+user(i))
}
