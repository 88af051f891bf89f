package main

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

// The noisy tenant and its quota. Each of its messages goes to all of its clients.
const (
	noisy        = "noisy"
	noisyQuota   = 30
	noisySends   = 10 * noisyQuota // messages a second
	noisyClients = 30
	quietSends   = 200
	quietPlaces  = 20 // channels, so that none is so busy that the hub gathers its messages
	pairLength   = time.Second
	calm         = 30 * time.Millisecond
)

// TestFairness_aTenantAtTenTimesItsQuota compares how long a tenant's messages take, from a client to another one, with and without
// a second tenant that sends ten times what it may: five pairs of runs, and the median of how far the p99 moved. Beside other tests
// that take the processors the times say nothing, and an attempt whose p99 alone is far from that of a calm machine is not counted;
// that no more than the quota is taken of the noisy tenant, and all of the other, holds in each. The figure itself, of processes of their
// own and with POSTs besides, is measured by `make bench-log BENCH=fairness`.
func TestFairness_aTenantAtTenTimesItsQuota(t *testing.T) {
	// Clients and server share this process: a goroutine in a commit must not keep the others of it waiting for a processor.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	w := uatest.Start(t, protocol{now: time.Now}, ua.Options{})
	addNoisy(t, w)
	crowd := joinNoisy(t, w)
	quiet := joinQuiet(t, w)
	quiet.run(t, pairLength/2) // caches, stacks, the database's pages
	judged := false
	for attempt := range 3 {
		base, moved := comparePairs(t, quiet, crowd)
		allowed := max(base/5, 5*time.Millisecond)
		t.Logf("attempt %d: p99 of %v moves by %v, allowed are %v", attempt+1, base, moved, allowed)
		if got, most := crowd.accepted(w), crowd.mostAccepted(); got > most {
			t.Fatalf("%d messages of the noisy tenant were taken, at most %d are its quota", got, most)
		}
		if moved <= allowed {
			return
		}
		judged = judged || base < calm
	}
	if judged {
		t.Error("the noisy tenant slows the other")
	}
}

func comparePairs(t *testing.T, quiet *quietTenant, crowd *noisyTenant) (base, moved time.Duration) {
	t.Helper()
	var moves, bases []time.Duration
	for i := range 5 {
		var single, beside time.Duration
		alone := func() { single = quiet.run(t, pairLength) }
		together := func() {
			stop := crowd.shout()
			beside = quiet.run(t, pairLength)
			stop()
		}
		if i%2 == 0 { // whatever drifts weighs on both
			alone()
			together()
		} else {
			together()
			alone()
		}
		t.Logf("pair %d: p99 %v alone, %v beside it", i+1, single, beside)
		moves, bases = append(moves, beside-single), append(bases, single)
	}
	return median(bases), median(moves)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func addNoisy(t *testing.T, w *uatest.World) {
	t.Helper()
	ctx := t.Context()
	_, err := w.Store.CreateTenant(ctx, store.Tenant{ID: noisy})
	must(t, err)
	must(t, w.Store.SetTenantLimits(ctx, noisy, map[string]int{"messages_per_second": noisyQuota}))
	_, err = w.Store.CreateChannel(ctx, store.Channel{Tenant: noisy, ID: "yard", Kind: store.KindWorld})
	must(t, err)
	for i := range noisyClients {
		must(t, w.Store.PutToken(ctx, store.Token{Tenant: noisy, User: user(i), Hash: auth.Hash(uatest.Token(user(i)))}))
	}
}

func user(i int) string { return fmt.Sprint("u", i) }

// enter logs in and subscribes; whoever calls it reads on from the connection.
func enter(t *testing.T, url, user string, channels ...string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	must(t, err)
	t.Cleanup(func() { _ = ws.Close() })
	hello := fmt.Appendf(nil, `[{"op":"hello","token":%q}`, uatest.Token(user))
	for _, channel := range channels {
		hello = fmt.Appendf(hello, `,{"op":"sub","ch":%q}`, channel)
	}
	must(t, ws.WriteMessage(websocket.TextMessage, append(hello, ']')))
	for subbed := 0; subbed < len(channels); {
		_, frame, err := ws.ReadMessage()
		must(t, err)
		subbed += bytes.Count(frame, []byte(`"subbed"`))
	}
	return ws
}

// noisyTenant are clients that read, as cheaply as can be, whatever comes.
type noisyTenant struct {
	conns []*websocket.Conn
	since time.Time
}

func joinNoisy(t *testing.T, w *uatest.World) *noisyTenant {
	t.Helper()
	n := &noisyTenant{since: time.Now()}
	var wg sync.WaitGroup
	for i := range noisyClients {
		ws := enter(t, strings.TrimSuffix(w.URL, uatest.Tenant)+noisy, user(i), "yard")
		wg.Go(func() { _, _ = io.Copy(io.Discard, ws.NetConn()) })
		n.conns = append(n.conns, ws)
	}
	t.Cleanup(func() {
		for _, ws := range n.conns {
			_ = ws.Close()
		}
		wg.Wait()
	})
	return n
}

// shout sends noisySends messages a second until it is stopped. It has sent for a while when it returns, so that the burst is over.
func (n *noisyTenant) shout() (stop func()) {
	var ended atomic.Bool
	var wg sync.WaitGroup
	const shouters = 10
	for i := range shouters {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * shouters / noisySends)
			defer tick.Stop()
			for range tick.C {
				if ended.Load() || say(n.conns[i], "yard", "こんにちは、皆さん") != nil {
					return
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	return func() {
		ended.Store(true)
		wg.Wait()
	}
}

func (n *noisyTenant) accepted(w *uatest.World) int64 {
	for _, tenant := range w.Service.Stats().Tenants {
		if tenant.Tenant == noisy {
			return tenant.Messages
		}
	}
	return 0
}

// mostAccepted is what the quota lets through from the beginning until now.
func (n *noisyTenant) mostAccepted() int64 {
	return noisyQuota + int64(noisyQuota*time.Since(n.since).Seconds()) + 1
}

func say(ws *websocket.Conn, channel, text string) error {
	frame := fmt.Appendf(nil, `[{"op":"send","ch":%q,"id":%q,"text":%q}]`, channel, envelope.NewID(time.Now()), text)
	return ws.WriteMessage(websocket.TextMessage, frame)
}

// quietTenant is a client that sends and one that receives; what it sends is the time.
type quietTenant struct {
	sender *websocket.Conn
	took   chan time.Duration
}

func joinQuiet(t *testing.T, w *uatest.World) *quietTenant {
	t.Helper()
	var places []string
	for i := range quietPlaces {
		places = append(places, place(i))
		_, err := w.Store.CreateChannel(t.Context(), store.Channel{Tenant: uatest.Tenant, ID: place(i), Kind: store.KindWorld})
		must(t, err)
	}
	q := &quietTenant{enter(t, w.URL, "aki", places...), make(chan time.Duration, 10*quietSends)}
	receiver := enter(t, w.URL, "bob", places...)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, q.sender.NetConn()) })
	wg.Go(func() { q.receive(receiver) })
	t.Cleanup(func() {
		_ = q.sender.Close()
		_ = receiver.Close()
		wg.Wait()
	})
	return q
}

func place(i int) string { return fmt.Sprint("place-", i%quietPlaces) }

func (q *quietTenant) receive(ws *websocket.Conn) {
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		now := time.Now().UnixNano()
		for _, part := range strings.Split(string(frame), `"text":"`)[1:] {
			digits, _, _ := strings.Cut(part, `"`)
			if sent, err := strconv.ParseInt(digits, 10, 64); err == nil {
				q.took <- time.Duration(now - sent)
			}
		}
	}
}

// run sends at an even pace for a while and returns the p99 of what all of it took.
func (q *quietTenant) run(t *testing.T, while time.Duration) time.Duration {
	t.Helper()
	total := int(while * quietSends / time.Second)
	tick := time.NewTicker(time.Second / quietSends)
	defer tick.Stop()
	for i := range total {
		<-tick.C
		must(t, say(q.sender, place(i), fmt.Sprint(time.Now().UnixNano())))
	}
	all := make([]time.Duration, 0, total)
	for range total {
		select {
		case d := <-q.took:
			all = append(all, d)
		case <-time.After(uatest.Patience):
			t.Fatalf("%d of %d messages arrived", len(all), total)
		}
	}
	slices.Sort(all)
	return all[total*99/100]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
