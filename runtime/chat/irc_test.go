package chat

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// onIRC is a process's configuration on a real IRC server.
func onIRC(t testing.TB, st *store.Store, irc *testkit.IRCServer, origin string) Config {
	return Config{
		Store: realStore{st}, Origin: origin, Limits: Limits{PerSecond: 10000, Burst: 10000},
		Bus: func(on BusEvents) Bus {
			b := bus.Open(bus.Config{
				Link: bus.Link{
					Name: "test", Kind: irc.Kind, Servers: []string{irc.Addr}, Password: irc.Password, Active: true,
					Key: bytes.Repeat([]byte{7}, 32), Channels: 16, MaxLine: irc.MaxLine,
				},
				Nick: Nick(origin), Receive: on.Receive, Gone: on.Gone, Here: on.Here, State: on.State,
			})
			t.Cleanup(b.Close)
			return b
		},
	}
}

func (p *process) waitUp() {
	p.t.Helper()
	eventually(p.t, 10*time.Second, "the bus to be up", p.bus.(*bus.Bus).Up)
}

func TestIRC_twoProcessesTalk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{bus.InspIRCd, bus.NgIRCd} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			irc, st := testkit.StartIRC(t, kind), testStore(t)
			putToken(t, st, "aya", "aya-token", time.Time{})
			putToken(t, st, "ben", "ben-token", time.Time{})
			one, two := startProcess(t, onIRC(t, st, irc, "n1/sone/ua")), startProcess(t, onIRC(t, st, irc, "n1/stwo/ua"))
			aya, ben := one.login("aya-token").mustJoin("lobby", "quick"), two.login("ben-token").mustJoin("lobby", "quick")
			one.waitUp()
			two.waitUp()

			var want []string
			for i := range 40 {
				from := []*client{aya, ben}[i%2]
				text := fmt.Sprint("第", i, "号 ", strings.Repeat("長い", i*12)) // the longest go as references
				r := from.mustSay("lobby", text)
				want = append(want, fmt.Sprintf("say lobby %d %s %s", r.Seq, from.id.User, text))
			}
			for _, frame := range want {
				aya.expect(frame)
				ben.expect(frame)
			}
			eventually(t, 10*time.Second, "a line without history to come over", func() bool {
				aya.mustSay("quick", "over irc")
				return len(ben.frames) > 0
			})

			t.Log("the server dies: connections stay, and the log carries the chat")
			irc.Kill()
			drainFrames(aya, ben)
			r := aya.mustSay("lobby", "without irc")
			ben.await(fmt.Sprintf("say lobby %d aya without irc", r.Seq))
			irc.Restart()
			one.waitUp()
			two.waitUp()
			r = ben.mustSay("lobby", "irc is back")
			aya.await(fmt.Sprintf("say lobby %d ben irc is back", r.Seq))
			if len(aya.ended)+len(ben.ended) > 0 {
				t.Error("a session was ended")
			}
		})
	}
}

func drainFrames(clients ...*client) {
	for _, c := range clients {
		for len(c.frames) > 0 {
			<-c.frames
		}
	}
}

func TestIRC_usersOfAKilledProcessLeave(t *testing.T) {
	t.Parallel()
	irc, st := testkit.StartIRC(t, bus.InspIRCd), testStore(t)
	putToken(t, st, "aya", "aya-token", time.Time{})
	putToken(t, st, "ben", "ben-token", time.Time{})
	one, two := startProcess(t, onIRC(t, st, irc, "n1/sone/ua")), startProcess(t, onIRC(t, st, irc, "n1/stwo/ua"))
	one.waitUp()
	two.waitUp()
	ben := two.login("ben-token").mustJoin("lobby")
	ben.await("join lobby 0 ben ")
	one.login("aya-token").mustJoin("lobby")
	ben.await("join lobby 0 aya ")

	one.cancel()               // its goroutines stop: it announces nothing
	one.bus.(*bus.Bus).Close() // and its nick is gone
	start := time.Now()
	ben.await("leave lobby 0 aya ")
	if took := time.Since(start); took < 4*time.Second || took > 9*time.Second {
		t.Errorf("told after %v, want about 5 s", took)
	}
}
