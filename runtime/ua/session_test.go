package ua_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

// login dials and logs aki in.
func login(t *testing.T, w *uatest.World) *uatest.Client {
	t.Helper()
	c := w.Dial(t)
	c.Send("login " + uatest.Token("aki"))
	expect(t, c, "welcome")
	return c
}

func expect(t *testing.T, c *uatest.Client, frames ...string) {
	t.Helper()
	for _, want := range frames {
		if got := c.Next(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestServer_refusesWhatItDoesNotServe(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{Version: "0.1-dragon"})
	base := strings.Replace(strings.TrimSuffix(w.URL, "/ua/0.1-dragon/demo"), "ws", "http", 1)
	for path, want := range map[string]string{
		"/ua/0.1/demo":              "404 no_such_version",
		"/ua/0.1-dragon":            "404 no_such_version",
		"/":                         "404 no_such_version",
		"/ua/0.1-dragon/":           "404 no_such_tenant",
		"/ua/0.1-dragon/De mo":      "404 no_such_tenant",
		"/ua/0.1-dragon/demo/lobby": "404 no_such_tenant",
		"/ua/0.1-dragon/demo":       "426 upgrade_required",
	} {
		if got := get(t, base+strings.ReplaceAll(path, " ", "%20")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	r, err := http.NewRequest("GET", base+"/ua/0.1-dragon/demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	if got := do(t, r); got != "400 bad_handshake" {
		t.Errorf("a handshake without version and key: %s", got)
	}
	login(t, w)
	w.Server.Close()
	if got := do(t, r); got != "503 unavailable" {
		t.Errorf("closed: %s", got)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) string {
	t.Helper()
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct{ Code, Message string }
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Message == "" {
		t.Errorf("%s: %+v, %v", r.URL, body, err)
	}
	return fmt.Sprint(answer.StatusCode, " ", body.Code)
}

func TestSession_mustLogInFirst(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{LoginDeadline: 300 * time.Millisecond})
	for frame, want := range map[string][]string{
		"":                {"close 4401"}, // no login in time
		"ping":            {"refused not_logged_in", "close 4401"},
		"dance":           {"refused not_logged_in", "close 4401"},
		"broken":          {"refused bad_frame", "close 4400"},
		"login nobody":    {"refused bad_token", "close 4401"},
		"login old-token": {"refused token_expired", "close 4401"},
	} {
		c := w.Dial(t)
		if frame != "" {
			c.Send(frame)
		}
		expect(t, c, want...)
	}
	c := login(t, w)
	time.Sleep(500 * time.Millisecond) // past the deadline, which must not hold any more
	c.Send("ping", "login "+uatest.Token("aki"))
	expect(t, c, "pong", "refused already_logged_in")
	testkit.Eventually(t, uatest.Patience, "the others are gone", func() bool { return w.Server.Stats()["connections"] == 1 })
}

func TestSession_suspendedTenantIsTold(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	if err := w.Store.SetTenantState(t.Context(), uatest.Tenant, "suspended"); err != nil {
		t.Fatal(err)
	}
	c := w.Dial(t)
	c.Send("login " + uatest.Token("aki"))
	expect(t, c, "refused tenant_suspended", "close 4403")
}

func TestSession_endsAfterTenBadFramesInARow(t *testing.T) {
	c := login(t, uatest.Start(t, &words{}, ua.Options{}))
	for range 3 { // never ten in a row, and what is merely unknown is not bad
		for range 9 {
			c.Send("broken")
			expect(t, c, "refused bad_frame")
		}
		c.Send("dance")
		expect(t, c, "refused unknown_command")
	}
	for range 5 {
		c.Send("broken", "ping\nbad")
		expect(t, c, "refused bad_frame", "pong", "refused bad_frame")
	}
	expect(t, c, "close 4400")
}

func TestSession_answersSaysInOrder(t *testing.T) {
	c := login(t, uatest.Start(t, &words{}, ua.Options{}))
	c.Send("join lobby")
	expect(t, c, "joined lobby")
	const n = 300
	for i := range n {
		c.Send(fmt.Sprintf("say lobby %d text-%d", i, i))
	}
	said, heard := 0, 0
	for said < n || heard < n {
		switch frame := c.Next(); {
		case frame == fmt.Sprintf("said lobby %d", said):
			said++
		case frame == fmt.Sprintf("say lobby aki text-%d", heard):
			heard++
		case strings.HasPrefix(frame, "join "):
		default:
			t.Fatalf("%q after %d answers and %d messages", frame, said, heard)
		}
	}
}

// holding is the service with says that wait until they are let go.
type holding struct {
	*chat.Service
	held chan func()
}

func (h *holding) Say(s chat.Session, r chat.SayRequest, done func(chatlog.Receipt, error)) {
	h.held <- func() { done(chatlog.Receipt{ID: "x"}, nil) }
}

func startHolding(t *testing.T) (*uatest.World, *holding) {
	t.Helper()
	h := &holding{held: make(chan func(), 1000)}
	w := uatest.StartWith(t, &words{}, ua.Options{}, func(svc *chat.Service) ua.Service {
		h.Service = svc
		return h
	})
	return w, h
}

func TestSession_boundsSaysInFlight(t *testing.T) {
	w, h := startHolding(t)
	c := login(t, w)
	for i := range 100 {
		c.Send(fmt.Sprintf("say lobby %d text", i))
	}
	testkit.Eventually(t, uatest.Patience, "64 says are under way", func() bool { return len(h.held) == 64 })
	time.Sleep(50 * time.Millisecond) // time for a 65th to come through, which would be wrong
	if n := len(h.held); n != 64 {
		t.Errorf("%d says in flight", n)
	}
	for i := range 100 {
		(<-h.held)()
		expect(t, c, fmt.Sprintf("said lobby %d", i))
	}
}

// weighty is the service with commands that count twentyfold: of a tenant with few messages 200 are read at once, and 100 a second, which
// is less than the slowest machine could.
type weighty struct{ *chat.Service }

func (w weighty) Pace(tenant string, n int) time.Duration { return w.Service.Pace(tenant, 20*n) }

// TestSession_aFloodIsReadMoreSlowly: neither the commands alone are more than is read at once, nor the pings, of which four count as one.
func TestSession_aFloodIsReadMoreSlowly(t *testing.T) {
	w := uatest.StartWith(t, &words{}, ua.Options{}, func(svc *chat.Service) ua.Service { return weighty{svc} })
	ctx := t.Context()
	if err := w.Store.SetTenantLimits(ctx, uatest.Tenant, map[string]int{"messages_per_second": 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Store.CreateTenant(ctx, store.Tenant{ID: "other"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.PutToken(ctx, store.Token{Tenant: "other", User: "eve", Hash: auth.Hash(uatest.Token("eve"))}); err != nil {
		t.Fatal(err)
	}
	quiet := uatest.Dial(t, strings.TrimSuffix(w.URL, uatest.Tenant)+"other")
	quiet.Send("login " + uatest.Token("eve"))
	expect(t, quiet, "welcome")
	c := login(t, w)
	began := time.Now()
	c.Ping(4 * 130)
	for range 130 {
		c.Send("ping")
	}
	quiet.Send("ping")
	expect(t, quiet, "pong") // it has a pace of its own
	for range 130 {
		expect(t, c, "pong")
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("it was read within %v", took)
	}
	if w.Server.Stats()["paced_total"] == 0 {
		t.Error("nobody was paced")
	}
}

func TestShutdown_answersWhatIsInFlight(t *testing.T) {
	w, h := startHolding(t)
	c, idle := login(t, w), login(t, w)
	c.Send("say lobby 1 text")
	testkit.Eventually(t, uatest.Patience, "the say is under way", func() bool { return len(h.held) == 1 })
	over := make(chan struct{})
	go func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(t.Context(), uatest.Patience)
		defer cancel()
		w.Server.Shutdown(ctx, "stopping")
	}()
	expect(t, idle, "moving stopping", "close 1012")
	expect(t, c, "moving stopping")
	c.Send("say lobby 2 text") // too late: not taken, not answered
	select {
	case <-over:
		t.Error("Shutdown did not wait for the answer")
	case <-time.After(50 * time.Millisecond):
	}
	(<-h.held)()
	expect(t, c, "said lobby 1", "close 1012")
	<-over
	if len(h.held) != 0 {
		t.Error("a say was taken after the notice")
	}
}

// anywhere is the service with channels without end, and counts the joins.
type anywhere struct {
	*chat.Service
	joins *atomic.Int64
}

func (a anywhere) Join(_ context.Context, s chat.Session, _ string, _ *hub.Position, ack func(hub.Joined) []byte) error {
	a.joins.Add(1)
	s.Conn().Send(ack(hub.Joined{}))
	return nil
}

func TestSession_boundsChannels(t *testing.T) {
	var joins atomic.Int64
	w := uatest.StartWith(t, &words{}, ua.Options{}, func(svc *chat.Service) ua.Service { return anywhere{svc, &joins} })
	c := login(t, w)
	for i := range 200 {
		c.Send(fmt.Sprintf("join c%d", i))
		expect(t, c, fmt.Sprintf("joined c%d", i))
	}
	c.Send("join more", "join c7", "leave c7", "join more")
	expect(t, c, "refused more too_many_channels", "joined c7", "left c7", "joined more")
	if n := joins.Load(); n != 201 { // joining c7 again must not make a hole in what it hears
		t.Errorf("%d joins reached the service", n)
	}
}

// stuck is the service with logins that wait as long as they may.
type stuck struct {
	*chat.Service
	waiting chan struct{}
}

func (s stuck) Login(ctx context.Context, _, _ string) (chat.Identity, error) {
	close(s.waiting)
	<-ctx.Done()
	return chat.Identity{}, ctx.Err()
}

func TestClose_doesNotWaitForLogins(t *testing.T) {
	waiting := make(chan struct{})
	w := uatest.StartWith(t, &words{}, ua.Options{LoginDeadline: time.Hour}, func(svc *chat.Service) ua.Service { return stuck{svc, waiting} })
	c := w.Dial(t)
	c.Send("login " + uatest.Token("aki"))
	<-waiting
	began := time.Now()
	w.Server.Close()
	if took := time.Since(began); took > uatest.Patience {
		t.Errorf("took %v", took)
	}
}

func TestLogin_thatGetsNoAnswerMayComeAgain(t *testing.T) {
	waiting := make(chan struct{})
	w := uatest.StartWith(t, &words{}, ua.Options{LoginDeadline: 100 * time.Millisecond}, func(svc *chat.Service) ua.Service { return stuck{svc, waiting} })
	c := w.Dial(t)
	c.Send("login " + uatest.Token("aki"))
	expect(t, c, "refused unavailable", "close 1013")
}

func TestConnections_areListedAndKicked(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	aki, bob, mute := login(t, w), w.Dial(t), w.Dial(t)
	aki.Send("join lobby")
	aki.Until("joined")
	bob.Send("login " + uatest.Token("bob"))
	expect(t, bob, "welcome")

	if all := w.Server.Connections(ua.Filter{}); len(all) != 3 {
		t.Errorf("all: %+v", all)
	}
	if some := w.Server.Connections(ua.Filter{Limit: 2}); len(some) != 2 {
		t.Errorf("limited: %+v", some)
	}
	in := w.Server.Connections(ua.Filter{Tenant: uatest.Tenant, Channel: "lobby"})
	if len(in) != 1 || in[0].User != "aki" || in[0].Name != "あき" || in[0].Channels[0] != "lobby" || in[0].Remote != "127.0.0.1" || in[0].ID == "" {
		t.Fatalf("in the lobby: %+v", in)
	}

	if n := w.Server.Kick(ua.Filter{}, "all"); n != 0 {
		t.Errorf("an empty filter kicked %d", n)
	}
	if n := w.Server.Kick(ua.Filter{Tenant: "other"}, "other"); n != 0 {
		t.Errorf("another tenant: kicked %d", n)
	}
	if n := w.Server.Kick(ua.Filter{Connection: in[0].ID}, "go away"); n != 1 {
		t.Errorf("kicked %d", n)
	}
	aki.Until("closing kicked go away")
	expect(t, aki, "close 4403")
	if aki.Reason != "go away" { // all that a client of 2.0 hears of it
		t.Errorf("the close frame says %q", aki.Reason)
	}
	if n := w.Server.Kick(ua.Filter{Tenant: uatest.Tenant, User: "bob"}, ""); n != 1 {
		t.Errorf("kicked %d", n)
	}
	expect(t, bob, "closing kicked", "close 4403")
	if bob.Reason != "kicked" {
		t.Errorf("the close frame says %q", bob.Reason)
	}
	mute.Send("login " + uatest.Token("bob"))
	expect(t, mute, "welcome")
}

func TestSession_revocationEndsIt(t *testing.T) {
	w := uatest.Start(t, &words{}, ua.Options{})
	c := login(t, w)
	if _, err := w.Store.RevokeTokens(t.Context(), uatest.Tenant, "aki"); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "closing bad_token", "close 4401")
}

// eager tells each session of a deprecation as soon as it is attached, before its welcome has gone out.
type eager struct{ *chat.Service }

func (e eager) Attach(s chat.Session) error {
	defer func() {
		s.Deprecated(store.Deprecation{Notice: "old"})
		s.Deprecated(store.Deprecation{Notice: "older"})
	}()
	return e.Service.Attach(s)
}

func TestLogin_welcomeTellsWhatCameMeanwhile(t *testing.T) {
	w := uatest.StartWith(t, &words{}, ua.Options{}, func(svc *chat.Service) ua.Service { return eager{svc} })
	c := w.Dial(t)
	c.Send("login " + uatest.Token("aki"))
	expect(t, c, "welcome older")
	c.Send("ping")
	expect(t, c, "pong")
}
