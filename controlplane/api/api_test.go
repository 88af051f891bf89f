package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/api/apitest"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a control API on a real socket.
type rig struct {
	*apitest.Backend
	socket string
	client *api.Client
	stop   func()
}

func testAPI(t *testing.T) *rig {
	t.Helper()
	dir := testkit.ShortDir(t)
	b, err := apitest.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.DB.Close() })
	r := &rig{Backend: b, socket: filepath.Join(dir, "kms.sock")}
	if r.stop, err = apitest.Serve(r.socket, b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	r.client = api.Dial(r.socket)
	t.Cleanup(r.client.Close)
	return r
}

// raw sends a request as curl would.
func (r *rig) raw(t *testing.T, method, path, body string) (int, *controlplane.Error, []byte) {
	t.Helper()
	k := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://kms"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := k.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	e := &controlplane.Error{}
	json.Unmarshal(text, e)
	return answer.StatusCode, e, text
}

func TestServer_badRequests(t *testing.T) {
	r := testAPI(t)
	if _, err := r.client.AddTenant(t.Context(), api.NewTenant{ID: "demo"}); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, method, path, body string
		status                   int
		kind                     controlplane.Kind
		says                     string
	}{
		{"not JSON", "POST", "/v1/tenants", "{nope", 400, controlplane.Usage, "cannot read body"},
		{"empty", "POST", "/v1/tenants", "", 400, controlplane.Usage, "it is empty"},
		{"unknown field", "POST", "/v1/tenants", `{"tenant":"x","tennant":"y"}`, 400, controlplane.Usage, `unknown field "tennant"`},
		{"two values", "POST", "/v1/tenants", `{"tenant":"x"} {}`, 400, controlplane.Usage, "something follows"},
		{"wrong type", "POST", "/v1/tenants", `{"tenant":7}`, 400, controlplane.Usage, "cannot unmarshal"},
		{"too large", "POST", "/v1/tenants", `{"tenant":"` + strings.Repeat("x", 2<<20) + `"}`, 413, controlplane.Usage, "too large"},
		{"bad name", "POST", "/v1/tenants", `{"tenant":"../etc"}`, 400, controlplane.Usage, `bad tenant "../etc"`},
		{"ours", "POST", "/v1/tenants", `{"tenant":"_probe"}`, 400, controlplane.Usage, "bad tenant"},
		{"remove ours", "DELETE", "/v1/tenants/_probe", "", 400, controlplane.Usage, "bad tenant"},
		{"taken", "POST", "/v1/tenants", `{"tenant":"demo"}`, 409, controlplane.Failed, "exists"},
		{"control characters", "POST", "/v1/tenants", `{"tenant":"x","name":"a\u001b[2J"}`, 400, controlplane.Usage, "bad display name"},
		{"unknown route", "GET", "/v1/nothing", "", 404, controlplane.NotFound, "no route"},
		{"root", "GET", "/", "", 404, controlplane.NotFound, "no route"},
		{"wrong method", "DELETE", "/v1/status", "", 405, controlplane.Usage, "not a method"},
		{"unknown query", "GET", "/v1/audit?limti=3", "", 400, controlplane.Usage, `"limti"`},
		{"query twice", "GET", "/v1/audit?limit=3&limit=4", "", 400, controlplane.Usage, "2 times"},
		{"bad number", "GET", "/v1/audit?limit=-3", "", 400, controlplane.Usage, "bad limit"},
		{"unknown tenant", "GET", "/v1/tenants/nobody/keys", "", 404, controlplane.NotFound, "nobody"},
		{"long message", "POST", "/v1/tenants?message=" + strings.Repeat("x", 1001), `{"tenant":"y"}`, 400, controlplane.Usage, "bad message"},
		{"bad release", "GET", "/v1/releases/x", "", 400, controlplane.Usage, "want its number"},
		{"no such release", "GET", "/v1/releases/9", "", 404, controlplane.NotFound, "no release 9"},
		{"deploy nothing", "POST", "/v1/releases", `{"kind":"deploy","version":"2.0"}`, 400, controlplane.Usage, "without a build"},
		{"bad version", "POST", "/v1/releases", `{"kind":"retire","version":"2.0;drop"}`, 400, controlplane.Usage, "bad version"},
		{"force without why", "POST", "/v1/releases", `{"kind":"retire","version":"2.0","force":true}`, 400, controlplane.Usage, "says why"},
		{"kick all", "POST", "/v1/connections/kick", `{}`, 400, controlplane.Usage, "cannot kick everyone"},
		{"relative path", "POST", "/v1/backup", `{"path":"kms.db"}`, 400, controlplane.Usage, "absolute"},
		{"bad server", "POST", "/v1/links", `{"name":"a","kind":"inspircd","servers":["x"]}`, 400, controlplane.Usage, "bad server"},
		{"password with line end", "POST", "/v1/links", `{"name":"a","kind":"inspircd","servers":["h:1"],"password":"a\nQUIT"}`, 400, controlplane.Usage, "bad password"},
		{"bad NG action", "PATCH", "/v1/tenants/demo/nglists/default", `{"add":[{"word":"x","action":"kill"}]}`, 400, controlplane.Usage, "bad action"},
		{"short token", "PUT", "/v1/tenants/demo/tokens/alice", `{"token":"abc"}`, 400, controlplane.Usage, "bad token"},
		{"short digest", "GET", "/v1/builds/abc", "", 400, controlplane.Usage, "at least 4"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			status, e, text := r.raw(t, tc.method, tc.path, tc.body)
			if status != tc.status || e.Kind != tc.kind || !strings.Contains(e.Message, tc.says) {
				t.Errorf("got %d %.300s, want %d %s with %q", status, text, tc.status, tc.kind, tc.says)
			}
		})
	}
}

// TestServer_isReadBeforeItHangsUp: who says "Connection: close" and still sends a body that is refused unread can read why. A connection
// that is closed at once breaks under its writing, and then a client tells of that instead.
func TestServer_isReadBeforeItHangsUp(t *testing.T) {
	r := testAPI(t)
	var err error
	for range 5 { // the server stays for half a second, in which a busy machine may not let us write
		conn, dialled := net.Dial("unix", r.socket)
		if dialled != nil {
			t.Fatal(dialled)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/tenants HTTP/1.1\r\nHost: kms\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", 2<<20)
		answer, ended := io.ReadAll(conn)
		if ended != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 413 ")) {
			t.Fatalf("%q, %v", answer, ended)
		}
		if _, err = conn.Write([]byte("{")); err == nil {
			return
		}
	}
	t.Errorf("the body after the answer: %v", err)
}

// endless is a body that goes on for as long as it is read, and counts.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.n += len(p)
	return len(p), nil
}

// TestServer_bodiesWithoutEnd: what says that it is too large is not read at all, and what does not say so up to the bound.
func TestServer_bodiesWithoutEnd(t *testing.T) {
	r := testAPI(t)
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, length := range []int64{-1, 1 << 40} {
		var body endless
		req := httptest.NewRequest("POST", "/v1/tenants", &body).WithContext(api.ConnContext(t.Context(), conn))
		req.ContentLength = length
		answer := httptest.NewRecorder()
		api.NewServer(r.Backend, discard).ServeHTTP(answer, req)
		if answer.Code != 413 || length > 0 && body.n > 0 || body.n > 4<<20 {
			t.Errorf("of %d bytes %d were read: %d %s", length, body.n, answer.Code, answer.Body)
		}
	}
}

func TestServer_auditsEachChangeOnceWithThePeer(t *testing.T) {
	r := testAPI(t)
	ctx := t.Context()
	r.client.Message = "because 理由 & more"
	if _, err := r.client.AddTenant(ctx, api.NewTenant{ID: "demo"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.AddTenant(ctx, api.NewTenant{ID: "demo"}); err == nil {
		t.Fatal("a tenant was added twice")
	}
	r.client.Tenants(ctx)
	r.client.TestNGLists(ctx, "demo", api.NGTexts{Texts: []string{"text"}})
	r.client.PlanNGList(ctx, "demo", "default", api.NGChange{Add: []api.NGWord{{Word: "text"}}})
	key, err := r.client.AddKey(ctx, "demo", "label")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.client.Join(ctx, "demo", "nowhere", "alice"); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("join of an unknown channel: %v", err)
	}
	trail, err := r.client.Audit(ctx, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ action, subject, result string }{
		{"channel join", "demo/nowhere/alice", "not found"}, {"key add", "demo/" + key.ID, "ok"}, {"tenant add", "demo", "exists"}, {"tenant add", "demo", "ok"},
	}
	if len(trail) != len(want) {
		t.Fatalf("%d entries, want %d: %+v", len(trail), len(want), trail)
	}
	for i, w := range want {
		a := trail[i]
		if a.Action != w.action || a.Subject != w.subject || !strings.Contains(a.Result, w.result) || a.Who != me.Username || a.Message != r.client.Message {
			t.Errorf("entry %d is %+v, want %+v by %s", i, a, w, me.Username)
		}
	}
}

// TestServer_auditsReleasesOnce: one that is begun has its entry from who ends it, any other from here.
func TestServer_auditsReleasesOnce(t *testing.T) {
	r := testAPI(t)
	for version, test := range map[string]struct {
		release *controlplane.Release
		err     error
		result  string
	}{
		"1": {release: &controlplane.Release{ID: 1, State: controlplane.ReleaseRunning}, result: "ok"},
		"2": {release: &controlplane.Release{State: controlplane.ReleaseDone, Queued: true}, result: "ok"},
		"3": {release: &controlplane.Release{State: controlplane.ReleaseDone}, result: "ok"},
		"4": {err: controlplane.Errorf(controlplane.LeaseHeld, "not now"), result: "not now"},
	} {
		r.StartFunc = func(context.Context, controlplane.ReleaseRequest) (*controlplane.Release, error) {
			return test.release, test.err
		}
		r.client.Start(t.Context(), controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: version})
		trail, err := r.client.Audit(t.Context(), "rollback "+version, 10)
		if err != nil || len(trail) != 1 || trail[0].Action != "release" || trail[0].Result != test.result {
			t.Errorf("%+v, %v: the audit trail says %+v, %v", test.release, test.err, trail, err)
		}
	}
	failed := &controlplane.Release{State: controlplane.ReleaseFailed, Queued: true} // which its end has told
	r.StartFunc = func(context.Context, controlplane.ReleaseRequest) (*controlplane.Release, error) {
		return failed, controlplane.Errorf(controlplane.Unhealthy, "no")
	}
	r.client.Start(t.Context(), controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "5"})
	if trail, err := r.client.Audit(t.Context(), "rollback 5", 10); err != nil || len(trail) != 0 {
		t.Errorf("a rollback that failed alone is told twice: %+v, %v", trail, err)
	}
}

func TestServer_refusesChangesFromUnknownPeers(t *testing.T) {
	b, err := apitest.Open(t.Context(), testkit.ShortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer b.DB.Close()
	w := newRecorder(api.NewServer(b, discard), "POST", "/v1/tenants", `{"tenant":"demo"}`)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "cannot tell who calls") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if list, _ := b.DB.Tenants(t.Context()); len(list) != 0 {
		t.Errorf("a change came through: %v", list)
	}
}

func TestServer_panicIsAnError(t *testing.T) {
	r := testAPI(t)
	r.StatusFunc = func(context.Context) (*controlplane.Status, error) { panic("boom") }
	_, err := r.client.Status(t.Context())
	if e := controlplane.AsError(err); e.Kind != controlplane.Failed || !strings.Contains(e.Message, "internal error") {
		t.Errorf("got %v", err)
	}
	if _, err := r.client.Tenants(t.Context()); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestServer_kindsCrossTheSocket(t *testing.T) {
	r := testAPI(t)
	for _, kind := range []controlplane.Kind{controlplane.Failed, controlplane.Usage, controlplane.TimedOut, controlplane.Denied, controlplane.LeaseHeld,
		controlplane.InUse, controlplane.Unhealthy, controlplane.NotFound, controlplane.Changes} {
		sent := controlplane.Errorf(kind, "a %s", kind).WithHint("try %s", kind)
		r.StatusFunc = func(context.Context) (*controlplane.Status, error) { return nil, sent }
		_, err := r.client.Status(t.Context())
		var got *controlplane.Error
		if !errors.As(err, &got) || *got != *sent {
			t.Errorf("got %#v, want %#v", err, sent)
		}
	}
}

func TestClient_secretsAreShownOnceAndStoredHashed(t *testing.T) {
	r := testAPI(t)
	ctx := t.Context()
	r.client.AddTenant(ctx, api.NewTenant{ID: "demo"})
	key, err := r.client.AddKey(ctx, "demo", "")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := r.DB.LookupKey(ctx, auth.Hash(key.Secret)); err != nil || found.ID != key.ID {
		t.Errorf("the made key does not open: %+v, %v", found, err)
	}
	made, err := r.client.PutToken(ctx, "demo", "alice", api.NewToken{Name: "アリス", Seconds: 60})
	if err != nil || made.Secret == "" || made.Name != "アリス" || time.Until(made.ExpiresAt) > time.Minute {
		t.Fatalf("token %+v, %v", made, err)
	}
	own, err := r.client.PutToken(ctx, "demo", "alice", api.NewToken{Token: "0123456789abcdef"})
	if err != nil || own.Secret != "" || own.Name != "アリス" {
		t.Errorf("a given token is answered %+v, %v", own, err)
	}
	if n, err := r.client.RevokeTokens(ctx, "demo", "alice"); err != nil || n != 2 {
		t.Errorf("revoked %d, %v", n, err)
	}
	_, _, keys := r.raw(t, "GET", "/v1/tenants/demo/keys", "")
	_, _, trail := r.raw(t, "GET", "/v1/audit", "")
	for _, secret := range []string{key.Secret, made.Secret, "0123456789abcdef"} {
		if bytes.Contains(keys, []byte(secret)) || bytes.Contains(trail, []byte(secret)) {
			t.Errorf("secret %q shows again", secret)
		}
	}
}

func TestClient_noControlPlane(t *testing.T) {
	dir := testkit.ShortDir(t)
	_, err := api.Dial(filepath.Join(dir, "kms.sock")).Status(t.Context())
	if e := controlplane.AsError(err); e.Kind != controlplane.Failed || !strings.Contains(e.Hint, "kmsctl up") {
		t.Errorf("got %v, hint %q", e, e.Hint)
	}
}

func TestClient_frozenControlPlaneTimesOut(t *testing.T) {
	r := testAPI(t)
	r.StatusFunc = func(ctx context.Context) (*controlplane.Status, error) { <-ctx.Done(); return nil, ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.client.Status(ctx); controlplane.AsError(err).Kind != controlplane.TimedOut {
		t.Errorf("got %v", err)
	}
}

func TestBuilds_uploadStreams(t *testing.T) {
	r := testAPI(t)
	half := make(chan struct{})
	r.AddBuildFunc = func(_ context.Context, body io.Reader, who string) (*controlplane.BuildInfo, error) {
		first := make([]byte, 4)
		if _, err := io.ReadFull(body, first); err != nil {
			return nil, err
		}
		close(half) // the rest is sent only after this: nobody waited for the whole
		rest, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		return &controlplane.BuildInfo{Digest: strings.Repeat("ab", 32), Size: int64(len(first) + len(rest)), By: who}, nil
	}
	reader, writer := io.Pipe()
	go func() {
		writer.Write([]byte("ELF!"))
		<-half
		writer.Write([]byte("rest"))
		writer.Close()
	}()
	var told int64
	b, err := r.client.AddBuild(t.Context(), reader, 8, func(n int64) { told = n })
	if err != nil || b.Size != 8 || told != 8 {
		t.Fatalf("build %+v, told %d, %v", b, told, err)
	}
}

func TestBuilds_uploaderGoesAway(t *testing.T) {
	r := testAPI(t)
	ended := make(chan error, 1)
	r.AddBuildFunc = func(_ context.Context, body io.Reader, _ string) (*controlplane.BuildInfo, error) {
		_, err := io.Copy(io.Discard, body)
		ended <- err
		return nil, err
	}
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST /v1/builds HTTP/1.1\r\nHost: kms\r\nContent-Length: 100\r\n\r\nELF")
	conn.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("half an artifact was taken for a whole")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the upload hangs")
	}
	testkit.Eventually(t, 5*time.Second, "the failed upload is in the audit trail", func() bool {
		trail, _ := r.client.Audit(t.Context(), "", 10)
		return len(trail) == 1 && trail[0].Action == "build add" && trail[0].Result != "ok"
	})
}

func TestBuilds_prefixes(t *testing.T) {
	r := testAPI(t)
	one, two := strings.Repeat("a", 64), "aaaab"+strings.Repeat("c", 59)
	r.BuildsFunc = func(context.Context) ([]controlplane.BuildInfo, error) {
		return []controlplane.BuildInfo{{Digest: one}, {Digest: two}}, nil
	}
	if b, err := r.client.Build(t.Context(), "aaaab"); err != nil || b.Digest != two {
		t.Errorf("prefix: %+v, %v", b, err)
	}
	if _, err := r.client.Build(t.Context(), "aaaa"); controlplane.AsError(err).Kind != controlplane.Usage {
		t.Errorf("ambiguous: %v", err)
	}
	if _, err := r.client.Build(t.Context(), "beef"); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("unknown: %v", err)
	}
}

func TestLinks_firstIsActiveAndActiveOneStays(t *testing.T) {
	r := testAPI(t)
	ctx := t.Context()
	told := 0
	r.LinksFunc = func(context.Context) error { told++; return nil }
	one, err := r.client.AddLink(ctx, controlplane.LinkRequest{Name: "one", Kind: "inspircd", Servers: []string{"127.0.0.1:6667"}, Password: "hush-hush"})
	if err != nil || one.State != "active" || one.MaxLine != 4096 {
		t.Fatalf("first link %+v, %v", one, err)
	}
	two, err := r.client.AddLink(ctx, controlplane.LinkRequest{Name: "two", Kind: "ngircd", Servers: []string{"127.0.0.1:6668"}})
	if err != nil || two.State != "standby" || two.MaxLine != 512 {
		t.Fatalf("second link %+v, %v", two, err)
	}
	if err := r.client.RemoveLink(ctx, "one"); controlplane.AsError(err).Kind != controlplane.InUse {
		t.Errorf("removing the active link: %v", err)
	}
	if err := r.client.ActivateLink(ctx, "two"); err != nil {
		t.Error(err)
	}
	if err := r.client.RemoveLink(ctx, "one"); err != nil {
		t.Error(err)
	}
	if told != 4 {
		t.Errorf("instances were told %d times, want 4", told)
	}
	if _, _, text := r.raw(t, "GET", "/v1/links", ""); bytes.Contains(text, []byte("hush")) || bytes.Contains(text, []byte("key")) {
		t.Errorf("secrets show: %s", text)
	}
	keyed, err := r.DB.Link(ctx, "two")
	if err != nil || len(keyed.Key) != 32 {
		t.Errorf("key of %d bytes, %v", len(keyed.Key), err)
	}
}
