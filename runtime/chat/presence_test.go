package chat

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// presences are processes that hear each other, with what each published and showed to its clients.
type presences struct {
	all       []*presence
	published []string
	shown     map[string][]string
}

func newPresences(t *testing.T, origins ...string) *presences {
	t.Helper()
	ps := &presences{shown: map[string][]string{}}
	for _, origin := range origins {
		p := newPresence(origin,
			func(e *envelope.Envelope) {
				ps.published = append(ps.published, fmt.Sprint(e.Kind, " ", e.User))
				for _, other := range ps.all {
					if other.origin != origin {
						other.remote(e.Clone())
					}
				}
			},
			func(e *envelope.Envelope) {
				ps.shown[origin] = append(ps.shown[origin], fmt.Sprint(e.Kind, " ", e.User))
			})
		ps.all = append(ps.all, p)
	}
	return ps
}

// run lets the time pass on all of them.
func (ps *presences) run(d time.Duration) {
	for range int(d / presenceTick) {
		time.Sleep(presenceTick)
		for _, p := range ps.all {
			p.flush(time.Now())
		}
	}
}

func (ps *presences) expectShown(t *testing.T, origin string, want ...string) {
	t.Helper()
	if got := fmt.Sprint(ps.shown[origin]); got != fmt.Sprint(want) {
		t.Errorf("clients of %s saw %s, want %v", origin, got, want)
	}
	ps.shown[origin] = nil
}

func TestPresence_tellsOneJoinAndOneLeavePerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		b.entered("demo", "lobby", "ben", "Ben")
		ps.run(time.Second)
		ps.shown["n/b/ua"] = nil
		for range 3 { // connections of one user
			a.entered("demo", "lobby", "aya", "Aya")
		}
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/a/ua", "join aya")
		ps.expectShown(t, "n/b/ua", "join aya")
		a.left("demo", "lobby", "aya")
		a.left("demo", "lobby", "aya")
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/b/ua")
		a.left("demo", "lobby", "aya")
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/b/ua", "leave aya")
		ps.expectShown(t, "n/a/ua", "leave aya")
		a.forget("demo", "lobby") // the hub's last subscriber has gone
		if len(a.rooms) != 0 {
			t.Errorf("%d rooms are remembered for nobody", len(a.rooms))
		}
	})
}

func TestPresence_leaveAndJoinAgainCancelOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		b.entered("demo", "lobby", "ben", "Ben")
		a.entered("demo", "lobby", "aya", "Aya")
		ps.run(2 * time.Second)
		clear(ps.shown)
		ps.published = nil
		a.left("demo", "lobby", "aya")
		ps.run(800 * time.Millisecond)
		a.entered("demo", "lobby", "aya", "Aya")
		ps.run(3 * time.Second)
		if len(ps.published) != 0 {
			t.Errorf("published %v for a reconnect", ps.published)
		}
		// A join that is gone before it was told never happened either.
		a.entered("demo", "lobby", "cho", "Cho")
		a.left("demo", "lobby", "cho")
		ps.run(3 * time.Second)
		if len(ps.published) != 0 {
			t.Errorf("published %v for somebody who only looked in", ps.published)
		}
	})
}

func TestPresence_movingToAnotherProcessIsNeitherLeaveNorJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		for _, p := range ps.all {
			p.entered("demo", "lobby", "stays-"+p.origin[2:3], "")
		}
		a.entered("demo", "lobby", "aya", "Aya")
		ps.run(2 * time.Second)
		clear(ps.shown)
		b.entered("demo", "lobby", "aya", "Aya") // a client of 2.0 opens the new connection first
		a.left("demo", "lobby", "aya")
		ps.run(5 * time.Second)
		ps.expectShown(t, "n/a/ua")
		ps.expectShown(t, "n/b/ua")
		b.left("demo", "lobby", "aya")
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/a/ua", "leave aya")
		ps.expectShown(t, "n/b/ua", "leave aya")
	})
}

// A drain moves the users of a channel one after the other into a process that had nobody there.
func TestPresence_movingOneByOneIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		users := []string{"aya", "ben", "cho", "dan"}
		for _, user := range users {
			a.entered("demo", "lobby", user, "")
		}
		ps.run(2 * time.Second)
		clear(ps.shown)
		for _, user := range users {
			b.entered("demo", "lobby", user, "")
			ps.run(200 * time.Millisecond)
			a.left("demo", "lobby", user)
			ps.run(200 * time.Millisecond)
		}
		ps.run(5 * time.Second)
		ps.expectShown(t, "n/a/ua")
		ps.expectShown(t, "n/b/ua")
		b.entered("demo", "lobby", "eve", "")
		ps.run(time.Second)
		ps.expectShown(t, "n/b/ua", "join eve")
		if len(b.met)+len(b.greet)+len(a.met)+len(a.greet) != 0 {
			t.Error("meetings are remembered for ever")
		}
	})
}

func TestPresence_usersOfADeadProcessLeaveAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		b.entered("demo", "lobby", "ben", "Ben")
		ps.run(time.Second)
		a.entered("demo", "lobby", "aya", "Aya")
		a.entered("demo", "lobby", "cho", "Cho")
		ps.run(time.Second)
		clear(ps.shown)
		ps.all = ps.all[1:] // killed
		b.gone("au")
		ps.run(4800 * time.Millisecond)
		ps.expectShown(t, "n/b/ua")
		b.remote(&envelope.Envelope{Kind: envelope.Join, Tenant: "demo", Channel: "lobby", User: "cho", Origin: "n/a/ua"}) // restarted
		ps.run(time.Second)
		ps.expectShown(t, "n/b/ua", "leave aya")
	})
}

func TestPresence_announcesAgainToThoseWhoMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		b.entered("demo", "lobby", "ben", "Ben")
		a.entered("demo", "lobby", "aya", "Aya")
		ps.run(2 * time.Second)
		clear(ps.shown)
		b.gone("au") // a split that heals later
		ps.run(6 * time.Second)
		ps.expectShown(t, "n/b/ua", "leave aya")
		a.here("cu") // new, and nothing to it
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/b/ua")
		a.gone("bu")
		a.here("bu")
		a.here("bu")
		ps.published = nil
		ps.run(2 * time.Second)
		if len(ps.published) != 1 {
			t.Errorf("published %v, want one join", ps.published)
		}
		ps.expectShown(t, "n/b/ua", "join aya")
		ps.expectShown(t, "n/a/ua")
	})
}

func TestPresence_forgetsWhatOthersSaidOfAChannelNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua", "n/b/ua")
		a, b := ps.all[0], ps.all[1]
		b.entered("demo", "lobby", "ben", "Ben")
		ps.run(time.Second)
		a.entered("demo", "lobby", "aya", "Aya")
		ps.run(time.Second)
		b.left("demo", "lobby", "ben")
		b.forget("demo", "lobby") // the hub's last subscriber has gone
		ps.run(2 * time.Second)
		if len(b.rooms) != 0 {
			t.Errorf("%v is remembered", b.rooms)
		}
		clear(ps.shown)
		b.entered("demo", "lobby", "ben", "Ben")
		ps.run(2 * time.Second)
		ps.expectShown(t, "n/b/ua", "join ben")
		ps.expectShown(t, "n/a/ua", "join ben")
	})
}

func TestPresence_crowdsComeAndGoQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := newPresences(t, "n/a/ua")
		for i := range presenceMax + 1 {
			ps.all[0].entered("demo", "lobby", fmt.Sprint("u", i), "")
		}
		ps.run(2 * time.Second)
		if n := len(ps.published); n != 0 {
			t.Errorf("%d events in a channel of more than %d", n, presenceMax)
		}
	})
}

func TestPresence_reachesClients(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	putToken(t, st, "cho", "cho-token", time.Time{})
	cho := aya.p.login("cho-token").mustJoin("lobby")
	aya.await("join lobby 0 cho ")
	ben.await("join lobby 0 cho ")
	cho.ws.Close()
	aya.await("leave lobby 0 cho ")
	ben.await("leave lobby 0 cho ")
}

func TestNick_namesTheProcessOfAnOrigin(t *testing.T) {
	if got := Nick(Origin("node-1", "sabcdefgh", "ua")); got != "sabcdefghu" {
		t.Errorf("nick %q", got)
	}
	if Nick(Origin("n", "s1", "ua")) == Nick(Origin("n", "s1", "api")) {
		t.Error("a set's two processes share a nick")
	}
}
