package instance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// host is what a control plane has: a store with the tenant demo, an IRC link and a directory for sockets.
type host struct {
	t     testing.TB
	dir   string
	url   string
	store *store.Store
	link  *pb.Link
}

func newHost(t testing.TB) *host {
	t.Helper()
	irc := testkit.StartIRC(t, "inspircd")
	h := &host{t: t, dir: testkit.ShortDir(t), url: "sqlite:" + filepath.Join(t.TempDir(), "kms.db")}
	h.link = &pb.Link{
		Name: "test", Kind: irc.Kind, Servers: []string{irc.Addr}, Password: irc.Password, Key: bytes.Repeat([]byte{1}, 32),
		Channels: 16, MaxLine: int32(irc.MaxLine), Active: true,
	}
	var err error
	h.store, err = store.Open(t.Context(), h.url, store.Options{})
	check(t, err)
	t.Cleanup(func() { h.store.Close() })
	check(t, h.store.Migrate(t.Context()))
	_, err = h.store.CreateTenant(t.Context(), store.Tenant{ID: "demo"})
	check(t, err)
	_, err = h.store.CreateChannel(t.Context(), store.Channel{Tenant: "demo", ID: "lobby", Kind: "world"})
	check(t, err)
	check(t, h.store.PutToken(t.Context(), store.Token{Tenant: "demo", User: "aya", Hash: auth.Hash("aya-token")}))
	_, err = h.store.CreateKey(t.Context(), "demo", "server", auth.Hash("the-key"))
	check(t, err)
	return h
}

func (h *host) request(role string) *pb.ConfigureRequest {
	return &pb.ConfigureRequest{
		Node: "n1", Set: "sabcdefgh", Version: "9.0-demo", Socket: filepath.Join(h.dir, role+".sock"), StoreUrl: h.url,
		Links: []*pb.Link{h.link}, LogLevel: "debug",
	}
}

// start runs the test binary as a child, as the control plane would, and configures it.
func (h *host) start(role string) (pb.InstanceClient, *goplugin.Client, *exec.Cmd) {
	h.t.Helper()
	cmd := exec.Command(os.Args[0], role)
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: plugin.Handshake, VersionedPlugins: plugin.Plugins(), Cmd: cmd,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(), SkipHostEnv: true,
	})
	h.t.Cleanup(client.Kill)
	wire, err := client.Client()
	check(h.t, err)
	raw, err := wire.Dispense(plugin.Name)
	check(h.t, err)
	instance := raw.(pb.InstanceClient)
	_, err = instance.Configure(h.t.Context(), h.request(role))
	check(h.t, err)
	return instance, client, cmd
}

func (h *host) dial(role string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(h.dir, role+".sock"))
	}
}

// client logs in, joins the lobby and returns its WebSocket.
func (h *host) client() *websocket.Conn {
	h.t.Helper()
	d := websocket.Dialer{NetDialContext: h.dial("ua")}
	ws, _, err := d.Dial("ws://localhost/ua/9.0-demo/demo", nil)
	check(h.t, err)
	h.t.Cleanup(func() { ws.Close() })
	send(h.t, ws, "login aya-token")
	expect(h.t, ws, "welcome ")
	send(h.t, ws, "join lobby")
	expect(h.t, ws, "joined lobby")
	return ws
}

func send(t testing.TB, ws *websocket.Conn, frame string) {
	t.Helper()
	check(t, ws.WriteMessage(websocket.TextMessage, []byte(frame)))
}

// expect reads on until the frame has come; the end of the connection counts as the frame `close CODE`.
func expect(t testing.TB, ws *websocket.Conn, want string) {
	t.Helper()
	expectOne(t, ws, want)
}

// say sends a line until it is there: a machine whose disk is busy for longer than a sender waits refuses it, to be sent again.
func say(t testing.TB, ws *websocket.Conn, line string) {
	t.Helper()
	for send(t, ws, line); expectOne(t, ws, line, "unavailable: the service cannot reach its database") != line; send(t, ws, line) {
	}
}

// expectOne is expect for whichever of the frames comes first.
func expectOne(t testing.TB, ws *websocket.Conn, want ...string) string {
	t.Helper()
	check(t, ws.SetReadDeadline(time.Now().Add(10*time.Second)))
	var seen []string
	for {
		_, frame, err := ws.ReadMessage()
		if ce, ok := err.(*websocket.CloseError); ok {
			frame, err = fmt.Append(nil, "close ", ce.Code), nil
		}
		if err != nil || len(seen) > 0 && strings.HasPrefix(seen[len(seen)-1], "close ") {
			t.Fatalf("no frame %q: %v; came %q", want, err, seen)
		}
		if slices.Contains(want, string(frame)) {
			return string(frame)
		}
		seen = append(seen, string(frame))
	}
}

func (h *host) post(key, text string) int {
	h.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: h.dial("api"), DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(h.t.Context(), "POST", "http://localhost/api/9.0-demo/demo/lobby", strings.NewReader(text))
	check(h.t, err)
	req.Header.Set("X-Key", key)
	resp, err := client.Do(req)
	check(h.t, err)
	resp.Body.Close()
	return resp.StatusCode
}

func TestInstance_aSetServesTheContractFromItsStartToItsStop(t *testing.T) {
	h := newHost(t)
	server, process, cmd := h.start("ua")
	api, _, _ := h.start("api")
	for _, i := range []pb.InstanceClient{server, api} {
		testkit.Eventually(t, 10*time.Second, "the bus to be up", func() bool { return h.busUp(i) })
	}

	id, err := server.Identify(t.Context(), &pb.IdentifyRequest{})
	check(t, err)
	if id.Role != "ua" || id.Set != "sabcdefgh" || !id.Configured || id.Pid != int64(cmd.Process.Pid) || len(id.InstanceId) < 20 || id.Label != "9.0-test" {
		t.Errorf("identifies itself as %v", id)
	}
	if _, err := server.Configure(t.Context(), h.request("ua")); err == nil {
		t.Error("a second Configure was taken")
	}

	ws := h.client()
	say(t, ws, "say lobby hello")
	if code := h.post("the-key", "from the game"); code != http.StatusOK {
		t.Fatalf("POST answered %d", code)
	}
	expect(t, ws, "system lobby from the game")
	if code := h.post("guess", "x"); code != http.StatusUnauthorized {
		t.Errorf("POST with a wrong key answered %d", code)
	}
	h.expectNumbers(server)
	h.expectProfile(server)

	say(t, ws, "say lobby last words")
	stopped := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := server.Stop(t.Context(), &pb.StopRequest{DeadlineMs: 5000, Message: "bye"})
		stopped <- err
	}()
	expect(t, ws, "close 1012")
	check(t, <-stopped)
	testkit.Eventually(t, 5*time.Second, "the process to exit", process.Exited)
	if !cmd.ProcessState.Success() || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %v, want success at once: nothing was in flight", cmd.ProcessState, time.Since(begin))
	}
	if _, err := os.Stat(filepath.Join(h.dir, "ua.sock")); err == nil {
		t.Error("the socket is still there")
	}
}

func (h *host) busUp(i pb.InstanceClient) bool {
	h.t.Helper()
	health, err := i.Health(h.t.Context(), &pb.HealthRequest{})
	check(h.t, err)
	if !health.Ready {
		h.t.Errorf("not ready: %v", health)
	}
	for _, c := range health.Checks {
		if c.Name == "bus" {
			return c.Ok
		}
	}
	return false
}

// expectNumbers looks at what the contract tells of one client that said one thing.
func (h *host) expectNumbers(server pb.InstanceClient) {
	h.t.Helper()
	stats, err := server.Stats(h.t.Context(), &pb.StatsRequest{})
	check(h.t, err)
	for name, want := range map[string]float64{
		"connections": 1, "sessions": 1, "messages_in_total": 1, "messages_total": 1, "bus_up": 1, "messages_pending": 0,
	} {
		if got, ok := stats.Values[name]; !ok || got != want {
			h.t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"deliveries_total", "bus_in_total", "resident_bytes", "cpu_seconds_total", "uptime_seconds"} {
		if stats.Values[name] <= 0 {
			h.t.Errorf("%s = %v", name, stats.Values[name])
		}
	}
	if len(stats.Tenants) != 1 || stats.Tenants[0].Tenant != "demo" || stats.Tenants[0].Connections != 1 || stats.Tenants[0].MessagesTotal != 1 {
		h.t.Errorf("tenants: %v", stats.Tenants)
	}
	stream, err := server.Connections(h.t.Context(), &pb.ConnectionsRequest{Tenant: "demo", Channel: "lobby"})
	check(h.t, err)
	c, err := stream.Recv()
	check(h.t, err)
	if c.User != "aya" || len(c.Channels) != 1 || c.SentBytes == 0 || c.ConnectedAtMs == 0 {
		h.t.Errorf("connection %v", c)
	}
	if _, err := stream.Recv(); err != io.EOF {
		h.t.Errorf("after the only connection: %v", err)
	}
}

func (h *host) expectProfile(server pb.InstanceClient) {
	h.t.Helper()
	stream, err := server.Profile(h.t.Context(), &pb.ProfileRequest{Kind: "goroutine"})
	check(h.t, err)
	if chunk, err := stream.Recv(); err != nil || !bytes.HasPrefix(chunk.Data, []byte{0x1f, 0x8b}) {
		h.t.Errorf("no gzipped profile: %v", err)
	}
	stream, err = server.Profile(h.t.Context(), &pb.ProfileRequest{Kind: "horoscope"})
	check(h.t, err)
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "unknown profile") {
		h.t.Errorf("an unknown profile: %v", err)
	}
}

func TestInstance_kickAndDrainReachClients(t *testing.T) {
	h := newHost(t)
	server, _, _ := h.start("ua")
	ws := h.client()
	kicked, err := server.Kick(t.Context(), &pb.KickRequest{Tenant: "demo", User: "aya", Reason: "spam"})
	check(t, err)
	if kicked.Closed != 1 {
		t.Errorf("kicked %d", kicked.Closed)
	}
	expect(t, ws, "close 4403")

	ws = h.client()
	_, err = server.Drain(t.Context(), &pb.DrainRequest{Rate: 0, Message: "move on"})
	check(t, err)
	expect(t, ws, "close 1012")
	health, err := server.Health(t.Context(), &pb.HealthRequest{})
	check(t, err)
	if !health.Draining || !health.Ready {
		t.Errorf("while draining: %v", health)
	}
	_, err = server.CancelDrain(t.Context(), &pb.CancelDrainRequest{})
	check(t, err)
	ws = h.client()
	say(t, ws, "say lobby still here")
}

func TestInstance_reloadChangesLimitsAndLinks(t *testing.T) {
	h := newHost(t)
	server, _, _ := h.start("ua")
	ws := h.client()
	_, err := server.Reload(t.Context(), &pb.ReloadRequest{Links: []*pb.Link{h.link}, Limits: &pb.Limits{MaxTextChars: 3}})
	check(t, err)
	send(t, ws, "say lobby four")
	expect(t, ws, "too_large: a message has at most 3 characters")
	say(t, ws, "say lobby two")
	if _, err := server.Reload(t.Context(), &pb.ReloadRequest{LogLevel: "loud"}); err == nil || !strings.Contains(err.Error(), `unknown log level "loud"`) {
		t.Errorf("a bad log level: %v", err)
	}
}

func TestConfigure_saysWhatIsWrongAndMayBeCalledAgain(t *testing.T) {
	h := newHost(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	check(t, err)
	defer log.Close()
	s := newServer(testBuild(), plugin.RoleUA, log)
	for name, tt := range map[string]struct {
		spoil func(*pb.ConfigureRequest)
		want  string
	}{
		"no set":      {func(r *pb.ConfigureRequest) { r.Set = "" }, "node, set, socket and store_url are needed"},
		"bad version": {func(r *pb.ConfigureRequest) { r.Version = "2;0" }, "bad version"},
		"bad store":   {func(r *pb.ConfigureRequest) { r.StoreUrl = "papyrus:/x" }, "bad store URL"},
		"bad level":   {func(r *pb.ConfigureRequest) { r.LogLevel = "loud" }, "unknown log level"},
		"bad socket":  {func(r *pb.ConfigureRequest) { r.Socket = "/nowhere/at/all.sock" }, "cannot listen"},
	} {
		req := h.request("ua")
		tt.spoil(req)
		if _, err := s.Configure(t.Context(), req); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	s.build.SchemaMax = 0
	if _, err := s.Configure(t.Context(), h.request("ua")); err == nil {
		t.Error("a schema that the build does not know was taken")
	}
	s.build = testBuild()
	_, err = s.Configure(t.Context(), h.request("ua"))
	check(t, err)
	_, err = s.Stop(t.Context(), &pb.StopRequest{DeadlineMs: 1000})
	check(t, err)
	if _, err := s.Configure(t.Context(), h.request("ua")); err == nil {
		t.Error("a stopped instance was configured")
	}
	written, err := os.ReadFile(log.Name())
	check(t, err)
	if strings.Contains(string(written), h.link.Password) {
		t.Error("the log holds the link's password")
	}
}

func TestNotConfigured_answersWithoutAnything(t *testing.T) {
	s := newServer(testBuild(), plugin.RoleUA, os.Stderr)
	health, err := s.Health(t.Context(), nil)
	if err != nil || health.Ready {
		t.Errorf("health %v, %v", health, err)
	}
	if id, err := s.Identify(t.Context(), nil); err != nil || id.Configured || id.InstanceId == "" {
		t.Errorf("identify %v, %v", id, err)
	}
	if _, err := s.Stats(t.Context(), nil); err != nil {
		t.Errorf("stats: %v", err)
	}
	if _, err := s.Drain(t.Context(), &pb.DrainRequest{}); err == nil {
		t.Error("drained nothing")
	}
	if err := s.Connections(&pb.ConnectionsRequest{}, grpc.ServerStreamingServer[pb.Connection](nil)); err == nil {
		t.Error("listed nothing")
	}
}

func TestDue_notesATenantOnceAnHourAndNoProbes(t *testing.T) {
	now := time.Now()
	noted := map[string]time.Time{"fresh": now.Add(-30 * time.Minute), "again": now.Add(-2 * time.Hour), "quiet": now.Add(-2 * time.Hour)}
	got := due([]chat.TenantStats{
		{Tenant: "new", LastSeen: now},
		{Tenant: "fresh", LastSeen: now},
		{Tenant: "again", LastSeen: now},
		{Tenant: "quiet", LastSeen: now.Add(-3 * time.Hour)},
		{Tenant: "_probe", LastSeen: now},
	}, noted, now)
	if fmt.Sprint(got) != "[new again]" {
		t.Errorf("due are %v, want new and again", got)
	}
}

func TestNoteTenant_isSeenOnTheVersion(t *testing.T) {
	h := newHost(t)
	r := &running{version: "9.0-demo", store: h.store}
	if !r.noteTenant(t.Context(), "demo") {
		t.Fatal("not noted")
	}
	seen, err := h.store.TenantsSeen(t.Context(), "9.0-demo", time.Now().AddDate(0, 0, -2))
	check(t, err)
	if _, ok := seen["demo"]; !ok {
		t.Errorf("seen are %v", seen)
	}
}
