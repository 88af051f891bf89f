package ua_test

import (
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestDrain_isPacedAndAnnounced(t *testing.T) {
	p := &words{}
	w := uatest.Start(t, p, ua.Options{})
	clients := make([]*uatest.Client, 60)
	for i := range clients {
		clients[i] = login(t, w)
	}
	const rate = 100
	if n := w.Server.Drain(ua.DrainOptions{Rate: rate, Message: "bye"}); n != len(clients) {
		t.Errorf("drains %d connections", n)
	}
	for _, c := range clients {
		expect(t, c, "moving bye", "close 1012")
	}
	moves := p.moved()
	if len(moves) != len(clients) {
		t.Fatalf("%d notices", len(moves))
	}
	const window = 200 * time.Millisecond
	for i, from := range moves {
		n := 0
		for _, at := range moves[i:] {
			if at.Sub(from) < window {
				n++
			}
		}
		if most := int(rate*window.Seconds()*1.1) + 4; n > most { // jitter, and what a late timer may catch up
			t.Errorf("%d notices within %v, want at most %d", n, window, most)
		}
	}
	if took := moves[len(moves)-1].Sub(moves[0]); took < 450*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestDrain_tellsLateComers(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	w.Server.Drain(ua.DrainOptions{Message: "bye"})
	c := login(t, w)
	expect(t, c, "moving bye", "close 1012")
	if !w.Server.Draining() {
		t.Error("the drain is over")
	}
}

func TestDrain_seamlessGivesGraceThenCloses(t *testing.T) {
	w := uatest.Start(t, &words{seamless: true}, ua.Options{Grace: 300 * time.Millisecond})
	leaves, stays := login(t, w), login(t, w)
	w.Server.Drain(ua.DrainOptions{Message: "bye"})
	expect(t, leaves, "moving bye")
	leaves.Send("ping")
	expect(t, leaves, "pong")
	leaves.Close()
	expect(t, leaves, "close 1000")
	expect(t, stays, "moving bye", "close 1012")
}

func TestCancelDrain_leavesConnectionsAlone(t *testing.T) {
	w := uatest.Start(t, &words{seamless: true}, ua.Options{Grace: 200 * time.Millisecond})
	c := login(t, w)
	w.Server.Drain(ua.DrainOptions{Deadline: time.Second, Message: "bye"})
	expect(t, c, "moving bye")
	w.Server.CancelDrain()
	if w.Server.Draining() {
		t.Error("still draining")
	}
	time.Sleep(400 * time.Millisecond) // past the grace, which must not hold any more
	c.Send("ping")
	expect(t, c, "pong")
	w.Server.Drain(ua.DrainOptions{Message: "again"}) // and a later drain tells it once more
	expect(t, c, "moving again", "close 1012")
}

func TestDrain_deadlineClosesTheRest(t *testing.T) {
	w := uatest.Start(t, &words{seamless: true}, ua.Options{})
	told, untold, mute := login(t, w), login(t, w), w.Dial(t)
	testkit.Eventually(t, uatest.Patience, "all are connected", func() bool { return w.Server.Stats()["connections"] == 3 })
	w.Server.Drain(ua.DrainOptions{Rate: 0.01, Deadline: 300 * time.Millisecond, Message: "bye"}) // one at once, the next would come after minutes
	for _, c := range []*uatest.Client{told, untold, mute} {
		c.Until("close 1012")
	}
	if n := w.Server.Stats()["drain_notices_total"]; n < 2 {
		t.Errorf("%v drained", n)
	}
}

func TestDrain_movesOnlyTheChosenTenants(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	c := login(t, w)
	if n := w.Server.Drain(ua.DrainOptions{Message: "bye", Tenants: []string{uatest.Tenant}, Except: true, Deadline: 100 * time.Millisecond}); n != 0 {
		t.Errorf("drains %d connections of others", n)
	}
	time.Sleep(300 * time.Millisecond) // past the deadline, which must not reach it either
	c.Send("ping")
	expect(t, c, "pong")
	if n := w.Server.Drain(ua.DrainOptions{Message: "bye", Tenants: []string{uatest.Tenant}}); n != 1 {
		t.Errorf("drains %d connections", n)
	}
	expect(t, c, "moving bye", "close 1012")
}

func TestDrain_changesItsPaceWithoutTellingAnew(t *testing.T) {
	w := uatest.Start(t, &words{seamless: true}, ua.Options{})
	first, second := login(t, w), login(t, w)
	paused := ua.DrainOptions{Message: "bye", Paused: true}
	w.Server.Drain(paused)
	time.Sleep(300 * time.Millisecond)
	if n := w.Server.Stats()["drain_notices_total"]; n != 0 {
		t.Fatalf("%v were told during a pause", n)
	}
	w.Server.Drain(ua.DrainOptions{Message: "bye"})
	expect(t, first, "moving bye")
	expect(t, second, "moving bye")
	w.Server.Drain(paused)
	w.Server.Drain(ua.DrainOptions{Message: "bye", Rate: 1000})
	time.Sleep(300 * time.Millisecond)
	if n := w.Server.Stats()["drain_notices_total"]; n != 2 {
		t.Errorf("%v notices for 2 clients", n)
	}
}

func TestDrain_onceLeavesLateComersAlone(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	early := login(t, w)
	w.Server.Drain(ua.DrainOptions{Message: "bye", Once: true})
	expect(t, early, "moving bye", "close 1012")
	testkit.Eventually(t, uatest.Patience, "the drain ends by itself", func() bool { return !w.Server.Draining() })
	late := login(t, w)
	time.Sleep(300 * time.Millisecond)
	late.Send("ping")
	expect(t, late, "pong")
}

// TestDrain_whoMovesDoesNotCount: a move has two connections for a moment, also where both are of one process.
func TestDrain_whoMovesDoesNotCount(t *testing.T) {
	w := uatest.Start(t, &words{seamless: true}, ua.Options{})
	old := login(t, w)
	if err := w.Store.SetTenantLimits(t.Context(), uatest.Tenant, map[string]int{"connections": 1}); err != nil {
		t.Fatal(err)
	}
	full := func() bool {
		c := w.Dial(t)
		c.Send("login " + uatest.Token("aki"))
		frame := c.Next()
		if frame == "welcome" {
			t.Cleanup(c.Close)
		}
		return frame != "welcome"
	}
	testkit.Eventually(t, uatest.Patience, "the limit is in force", full)
	w.Server.Drain(ua.DrainOptions{Message: "bye", Once: true})
	expect(t, old, "moving bye")
	if full() {
		t.Error("there is no room for a client that moves")
	}
	if !full() {
		t.Error("there is room for another")
	}
}
