package irclink

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

func testNetwork(t *testing.T, kind string, servers int, files *TLS) Network {
	n := Network{Kind: kind, Password: NewPassword(), LinkPassword: NewPassword(), LogDir: testkit.ShortDir(t), TLS: files, LinkOffset: 1000}
	for i := range servers {
		n.Servers = append(n.Servers, NetworkServer{Name: fmt.Sprintf("irc%d", i+1), Address: testkit.FreeAddr(t, n.LinkOffset)})
	}
	return n
}

// A process on each server of a network: whatever one publishes all others hear, also when the server goes to which all the
// others connect first; that server's process is told to be gone.
func TestConfigure_serversLink(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("all", testServersLink)
}

func testServersLink(t *testing.T) {
	for _, test := range []struct {
		kind    string
		servers int
		tls     bool
	}{{bus.InspIRCd, 2, true}, {bus.InspIRCd, 3, false}, {bus.NgIRCd, 2, true}, {bus.NgIRCd, 3, false}} {
		t.Run(fmt.Sprintf("%s-%d", test.kind, test.servers), func(t *testing.T) {
			t.Parallel()
			testkit.Need(t, test.kind)
			ca, files := certificate(t)
			n := testNetwork(t, test.kind, test.servers, nil)
			if test.tls {
				n.TLS = &files
			}
			all, err := n.Configure()
			if err != nil {
				t.Fatal(err)
			}
			var kills []func()
			for i, f := range all {
				kills = append(kills, runServer(t, n.Kind, f.Config, n.Servers[i].Address))
			}
			link := testLink(t, n.Kind, n.Password, n.Servers[0].Address)
			if test.tls {
				link.TLS, link.TLSCA = true, ca
			}
			var gone atomic.Bool
			speakers := make([]*speaker, len(all))
			for i := range all {
				link.Servers = []string{n.Servers[i].Address}
				speakers[i] = newSpeaker(link, i, &gone)
				defer speakers[i].Close()
			}
			awaitAllHeard(t, speakers)
			kills[0]()
			if len(speakers) > 2 {
				awaitAllHeard(t, speakers[1:])
			}
			testkit.Eventually(t, 40*time.Second, "the others hear that a is gone", gone.Load)
		})
	}
}

// speaker is a process on one server, with a count of what it heard from each other.
type speaker struct {
	*bus.Bus
	nick  string
	heard [3]atomic.Int64
}

func newSpeaker(link bus.Link, i int, gone *atomic.Bool) *speaker {
	s := &speaker{nick: string(rune('a' + i))}
	s.Bus = bus.Open(bus.Config{Link: link, Nick: s.nick,
		Receive: func(e *envelope.Envelope) {
			if len(e.Origin) == 1 {
				s.heard[e.Origin[0]-'a'].Add(1)
			}
		},
		Gone: func(nick string) {
			if nick == "a" && s.nick != "a" { // others go, too, where a joined them, until they link
				gone.Store(true)
			}
		}})
	return s
}

// awaitAllHeard waits until each hears each other from now on.
func awaitAllHeard(t *testing.T, all []*speaker) {
	t.Helper()
	for _, s := range all {
		for i := range s.heard {
			s.heard[i].Store(0)
		}
	}
	testkit.Eventually(t, 40*time.Second, "every server passes on what is said on every other", func() bool {
		complete := true
		for _, s := range all {
			s.Publish(&envelope.Envelope{Kind: probeKind, Origin: s.nick})
			for _, other := range all {
				complete = complete && (other == s || s.heard[other.nick[0]-'a'].Load() > 0)
			}
		}
		return complete
	})
}

func TestConfigure_tellsTheKernelOfEachPeer(t *testing.T) {
	n := Network{Kind: bus.InspIRCd, LinkOffset: 1000, LinkPassword: "x", LogDir: "/var/log/inspircd",
		Servers: []NetworkServer{{"irc1", "10.0.0.1:6667"}, {"irc2", "10.0.0.2:6667"}, {"bus.example.net", "10.0.0.3:6667"}}}
	all, err := n.Configure()
	if err != nil {
		t.Fatal(err)
	}
	unit := string(all[1].Unit)
	for _, want := range []string{"$$(ip route get 10.0.0.1 ", "$$(ip route get 10.0.0.3 "} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %q in\n%s", want, unit)
		}
	}
	if strings.Contains(unit, "10.0.0.2") || strings.ContainsAny(strings.ReplaceAll(unit, `"`, ""), `\%`) {
		t.Errorf("systemd would read this in another way:\n%s", unit)
	}
	if config := string(all[1].Config); !strings.Contains(config, `name="bus.example.net" ipaddr="10.0.0.3" port="7667"`) || !strings.Contains(config, `<server name="irc2.kms.internal"`) {
		t.Errorf("irc2 does not know its network:\n%s", config)
	}
}

func TestConfigure_refuses(t *testing.T) {
	for want, servers := range map[string][]NetworkServer{
		"without servers":     nil,
		`two are called "a"`:  {{"a", "10.0.0.1:1"}, {"a", "10.0.0.2:1"}},
		"same address":        {{"a", "10.0.0.1:1"}, {"b", "10.0.0.1:1"}},
		"want host:port":      {{"a", "10.0.0.1"}, {"b", "10.0.0.2:1"}},
		"that the other":      {{"a", ":1"}, {"b", "10.0.0.2:1"}},
		"meet on port":        {{"a", "10.0.0.1:65000"}, {"b", "10.0.0.2:1"}},
		`bad server name "A.`: {{"A", "10.0.0.1:1"}},
		"not a name":          {{"a", "irc1:6667"}, {"b", "10.0.0.2:1"}},
	} {
		n := Network{Kind: bus.InspIRCd, Servers: servers, LinkOffset: 1000, LinkPassword: "x", LogDir: "/x"}
		if _, err := n.Configure(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", servers, err, want)
		}
	}
	if _, err := ParseServer("irc1"); err == nil {
		t.Error("a server without an address passes")
	}
}
