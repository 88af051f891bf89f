// Package uatest runs a protocol on the real parts, in process: SQLite, message log, chat service, hub and sessions behind a
// TCP listener, with a bus that reaches nobody. Tests of runtime/ua and of the versions share it;
// the versions' tests together, in cmd/kms-smoke, take the transcripts from it. Nothing else imports it.
package uatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
	"github.com/kmsctl/kms/runtime/ua"
)

// Patience is how long a test waits for what must come.
const Patience = 10 * time.Second

// World is a running server with the tenant demo: users aki, bob and old (whose token has expired), world channels lobby and
// shout (the latter without history), guild channel guild-7 with aki as its member, and the NG words darn (reject) and heck (mask).
type World struct {
	Store   *store.Store
	Service *chat.Service
	Server  *ua.Server
	URL     string // ws://…/ua/VERSION/demo
}

// Tenant is the tenant of every world.
const Tenant = "demo"

type noBus struct{}

func (noBus) Publish(*envelope.Envelope)   {}
func (noBus) Join(tenant, channel string)  {}
func (noBus) Leave(tenant, channel string) {}

// Start runs p until the test ends.
func Start(t testing.TB, p ua.Protocol, o ua.Options) *World {
	t.Helper()
	return StartWith(t, p, o, func(svc *chat.Service) ua.Service { return svc })
}

// StartWith puts what wrap returns between the sessions and the service.
func StartWith(t testing.TB, p ua.Protocol, o ua.Options, wrap func(*chat.Service) ua.Service) *World {
	t.Helper()
	ctx := t.Context()
	st, err := store.Open(ctx, "sqlite:"+t.TempDir()+"/kms.db", store.Options{})
	must(t, err)
	must(t, st.Migrate(ctx))
	fill(t, st)
	log := chatlog.Open(st, chatlog.Options{})
	svc := chat.New(chat.Config{
		Store: st, Log: log, Hub: &hub.Options{Codec: p, CloseTimeout: time.Second, SweepEvery: 50 * time.Millisecond},
		Bus: func(chat.BusEvents) chat.Bus { return noBus{} }, Origin: "node/set/ua",
		Limits: chat.Limits{PerSecond: 1e6, Burst: 1e6},
	})
	testkit.Eventually(t, Patience, "the changes feed is read", func() bool { return svc.Stale() < time.Second })
	t.Cleanup(func() {
		svc.Close()
		must(t, log.Close())
		must(t, st.Close())
	})
	w := &World{Store: st, Service: svc}
	w.serve(t, wrap(svc), p, o)
	return w
}

// Another starts a second server on the same service: what a client reaches once the slot was swapped.
func (w *World) Another(t testing.TB, p ua.Protocol, o ua.Options) *World {
	t.Helper()
	other := &World{Store: w.Store, Service: w.Service}
	other.serve(t, w.Service, p, o)
	return other
}

func (w *World) serve(t testing.TB, svc ua.Service, p ua.Protocol, o ua.Options) {
	t.Helper()
	w.Server = ua.Handler(svc, p, o)
	listener := httptest.NewServer(w.Server)
	t.Cleanup(func() {
		listener.Close()
		w.Server.Close()
	})
	version := o.Version
	if version == "" {
		version = p.Name()
	}
	w.URL = strings.Replace(listener.URL, "http", "ws", 1) + "/ua/" + version + "/" + Tenant
}

func fill(t testing.TB, st *store.Store) {
	t.Helper()
	ctx := t.Context()
	_, err := st.CreateTenant(ctx, store.Tenant{ID: Tenant})
	must(t, err)
	for _, u := range []struct {
		id, name string
		expires  time.Time
	}{{"aki", "あき", time.Time{}}, {"bob", "Bob", time.Time{}}, {"old", "Old", time.Now().Add(-time.Hour)}} {
		must(t, st.PutToken(ctx, store.Token{Tenant: Tenant, User: u.id, Name: u.name, Hash: auth.Hash(Token(u.id)), ExpiresAt: u.expires}))
	}
	for _, c := range []store.Channel{
		{ID: "lobby", Kind: "world"}, {ID: "shout", Kind: "world", History: "none"}, {ID: "guild-7", Kind: "guild"},
	} {
		c.Tenant = Tenant
		_, err := st.CreateChannel(ctx, c)
		must(t, err)
	}
	must(t, st.AddMember(ctx, Tenant, "guild-7", "aki"))
	_, err = st.NGChange(ctx, store.NGEdit{Tenant: Tenant, Base: -1, Author: "test", Add: []store.NGEntry{
		{Word: "darn", Action: "reject"}, {Word: "heck", Action: "mask"},
	}})
	must(t, err)
}

// Token is a user's token.
func Token(user string) string { return user + "-token" }

// Client is a bare WebSocket client.
type Client struct {
	Reason string // of the close frame, once Next has told of it

	t  testing.TB
	ws *websocket.Conn
}

// Dial connects.
func (w *World) Dial(t testing.TB) *Client {
	t.Helper()
	return Dial(t, w.URL)
}

// Dial connects to a server that runs elsewhere.
func Dial(t testing.TB, url string) *Client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	must(t, err)
	t.Cleanup(func() { _ = ws.Close() })
	return &Client{t: t, ws: ws}
}

// Send sends text frames.
func (c *Client) Send(frames ...string) {
	c.t.Helper()
	for _, f := range frames {
		must(c.t, c.ws.WriteMessage(websocket.TextMessage, []byte(f)))
	}
}

// Ping sends WebSocket pings.
func (c *Client) Ping(n int) {
	c.t.Helper()
	for range n {
		must(c.t, c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(Patience)))
	}
}

// Next returns the next frame, or "close CODE" when the server closes.
func (c *Client) Next() string {
	c.t.Helper()
	must(c.t, c.ws.SetReadDeadline(time.Now().Add(Patience)))
	_, data, err := c.ws.ReadMessage()
	if ce, ok := err.(*websocket.CloseError); ok {
		c.Reason = ce.Text
		return fmt.Sprintf("close %d", ce.Code)
	}
	must(c.t, err)
	return string(data)
}

// Until returns the first frame that holds all the parts; "close CODE" counts as a frame and is the last.
func (c *Client) Until(parts ...string) string {
	c.t.Helper()
	for {
		frame := c.Next()
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(frame, part)
		}
		if !missing {
			return frame
		}
		if strings.HasPrefix(frame, "close ") {
			c.t.Fatalf("got %q and no frame with %q", frame, parts)
		}
	}
}

// Quiet reports that no frame came for a while. The client cannot read any more afterwards.
func (c *Client) Quiet(while time.Duration) bool {
	c.t.Helper()
	must(c.t, c.ws.SetReadDeadline(time.Now().Add(while)))
	_, _, err := c.ws.ReadMessage()
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Close leaves with 1000.
func (c *Client) Close() {
	c.t.Helper()
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	must(c.t, c.ws.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(Patience)))
}

// System posts a system message as the API does.
func (w *World) System(t testing.TB, channel, name, text string) {
	t.Helper()
	_, err := w.Service.System(context.Background(), Tenant, channel, "", "", name, text)
	must(t, err)
}

// Actions are what a transcript may call: `! system CHANNEL NAME TEXT…`, `! remove CHANNEL USER`, `! revoke USER`, `! drain`.
func (w *World) Actions(t testing.TB) map[string]func(args []string) {
	ctx := context.Background()
	return map[string]func([]string){
		"system": func(a []string) { w.System(t, a[0], a[1], strings.Join(a[2:], " ")) },
		"remove": func(a []string) { must(t, w.Store.RemoveMember(ctx, Tenant, a[0], a[1])) },
		"revoke": func(a []string) {
			_, err := w.Store.RevokeTokens(ctx, Tenant, a[0])
			must(t, err)
		},
		"drain": func([]string) { w.Server.Drain(ua.DrainOptions{Message: "moving to a new server"}) },
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
