package nginx

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// host is an nginx of its own with a router; sets are HTTP servers that answer with their name.
type host struct {
	*Manager
	router *Router
	run    string
	http   string
	cmd    *exec.Cmd
}

func startHost(t *testing.T, versions ...Version) *host {
	t.Helper()
	program := testkit.Need(t, "nginx")
	run := testkit.ShortDir(t)
	addr := testkit.FreeAddr(t)
	o := Options{
		Program: program, Dir: filepath.Join(run, "nginx"), Run: run, AccessLog: filepath.Join(run, "logs", "access.log"),
		HTTP: addr, HTTPS: testkit.FreeAddr(t), Workers: 2, Connections: 512,
	}
	if os.Geteuid() == 0 {
		o.User = "root"
	}
	m, err := NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	router, err := NewRouter(run)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Manager: m, router: router, run: run, http: "http://" + addr}
	generation, _, err := m.Write(t.Context(), versions)
	if err != nil {
		t.Fatal(err)
	}
	argv := m.Command()
	h.cmd = exec.Command(argv[0], argv[1:]...)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The group, since workers outlive a killed master.
	t.Cleanup(func() { syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL); h.cmd.Wait() })
	if _, err := m.Verify(t.Context(), h.cmd.Process.Pid, generation); err != nil {
		t.Fatal(err)
	}
	return h
}

// set starts a set whose instances answer with its name and returns its directory.
func (h *host) set(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(h.run, "i", name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"ua", "api"} {
		l, err := net.Listen("unix", filepath.Join(dir, role+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %s", name, role, r.URL.RequestURI())
		})}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	return dir
}

func (h *host) get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(h.http + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (h *host) expect(t *testing.T, path string, status int, want string) {
	t.Helper()
	if code, text := h.get(t, path); code != status || !strings.Contains(text, want) {
		t.Errorf("GET %s = %d %q, want %d with %q", path, code, text, status, want)
	}
}

func TestServe_routesByVersionAndTenant(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"}, Version{Name: "0.9", Retired: true, Message: `moved; use "1.0" $now`})
	h.router.Swap("1.0", Route{Stable: h.set(t, "s1")})
	h.expect(t, "/ua/1.0/demo?u=alice%2F1", 200, "s1 ua /ua/1.0/demo?u=alice%2F1")
	h.expect(t, "/api/1.0/demo/channels/a:b?x=1", 200, "s1 api /api/1.0/demo/channels/a:b?x=1")
	h.expect(t, "/ua/3.0/demo", 404, `"versions":[{"version":"1.0"}]`)
	h.expect(t, "/ua/0.9/demo", 410, `"message":"moved; use \"1.0\" $now"`)
	h.expect(t, "/api/0.9/demo/x", 410, "version_retired")
	h.expect(t, "/ua/1.0/Demo", 404, "not_found")
	h.expect(t, "/ua/1.0/de%20mo", 404, "not_found")
	h.expect(t, "/ua/1.0", 404, "not_found")
	h.expect(t, "/versions", 200, `[{"version":"1.0"}]`)
	h.expect(t, "/", 200, "<")
	h.expect(t, "/%00", 400, "bad_request")
	if resp, err := http.Post(h.http+"/versions", "text/plain", strings.NewReader("x")); err != nil || resp.StatusCode != 405 || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("POST to /versions: %v %v", resp, err)
	}
	if resp, err := http.Post(h.http+"/ua/0.9/demo", "text/plain", strings.NewReader("x")); err != nil || resp.StatusCode != 410 {
		t.Errorf("POST to a retired version: %v %v", resp, err)
	}
}

func TestServe_aSetThatIsDownIsToBeTriedAgain(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"})
	h.router.Swap("1.0", Route{Stable: filepath.Join(h.run, "i", "gone")})
	resp, err := http.Post(h.http+"/api/1.0/demo/x", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Retry-After") != "1" || !strings.Contains(string(text), `"code":"unavailable"`) {
		t.Errorf("%d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
}

func TestSwap_movesRequestsWithoutReload(t *testing.T) {
	h := startHost(t, Version{Name: "2.0"})
	one, two := h.set(t, "s1"), h.set(t, "s2")
	workers := Workers(h.cmd.Process.Pid)
	h.router.Swap("2.0", Route{Stable: one})
	var wrong atomic.Int64
	for i := range 50 {
		stable, want := one, "s1"
		if i%2 == 0 {
			stable, want = two, "s2"
		}
		if _, err := h.router.Swap("2.0", Route{Stable: stable}); err != nil {
			t.Fatal(err)
		}
		if _, text := h.get(t, "/api/2.0/demo/x"); !strings.HasPrefix(text, want) {
			wrong.Add(1)
		}
	}
	if wrong.Load() != 0 {
		t.Errorf("%d of 50 requests went to the old set", wrong.Load())
	}
	if now := Workers(h.cmd.Process.Pid); fmt.Sprint(now) != fmt.Sprint(workers) {
		t.Errorf("workers were replaced: %v, then %v", workers, now)
	}
}

func TestSwap_pinsAndBuckets(t *testing.T) {
	h := startHost(t, Version{Name: "2.0"})
	stable, pinned, canary := h.set(t, "s1"), h.set(t, "s2"), h.set(t, "s3")
	all := map[int]string{}
	for n := range 100 {
		all[n] = canary
	}
	h.router.Swap("2.0", Route{Stable: stable, Pins: map[string]string{"demo": pinned, "_probe": canary}})
	h.expect(t, "/api/2.0/demo/x", 200, "s2 ")
	h.expect(t, "/api/2.0/other/x", 200, "s1 ")
	h.expect(t, "/ua/2.0/_probe", 200, "s3 ")
	h.router.Swap("2.0", Route{Stable: stable, Pins: map[string]string{"demo": pinned}, Buckets: all})
	h.expect(t, "/api/2.0/demo/x", 200, "s2 ")
	h.expect(t, "/api/2.0/other/x", 200, "s3 ")
	// The pin of _probe is gone, yet its link stays a while and leads to the stable set.
	h.expect(t, "/ua/2.0/_probe", 200, "s1 ")
}

func TestSwap_fadedLinksEnd(t *testing.T) {
	now := time.Now()
	r, err := NewRouter(testkit.ShortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return now }
	r.Swap("2.0", Route{Stable: "/a", Pins: map[string]string{"demo": "/b"}})
	link := filepath.Join(r.slots, "2.0", "t", "demo")
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "/a"}, {5 * time.Minute, "/a"}, {6 * time.Minute, ""}} {
		now = now.Add(step.after)
		r.Swap("2.0", Route{Stable: "/a"})
		if got, _ := os.Readlink(link); got != step.want {
			t.Errorf("after another %s the link leads to %q, want %q", step.after, got, step.want)
		}
	}
}

func TestReload_verifiedOnEveryWorker(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"})
	h.router.Swap("2.0", Route{Stable: h.set(t, "s1")})
	h.expect(t, "/ua/2.0/demo", 404, "not_found")
	generation, changed, err := h.Write(t.Context(), []Version{{Name: "1.0"}, {Name: "2.0"}})
	if err != nil || !changed {
		t.Fatalf("Write: changed %v, %v", changed, err)
	}
	workers, err := h.Reload(t.Context(), h.cmd.Process.Pid, generation)
	if err != nil || workers != 2 {
		t.Fatalf("Reload: %d workers, %v", workers, err)
	}
	h.expect(t, "/ua/2.0/demo", 200, "s1 ua")
	if _, changed, _ := h.Write(t.Context(), []Version{{Name: "2.0"}, {Name: "1.0"}}); changed {
		t.Error("the same versions in another order changed the configuration")
	}
}

func TestVerify_saysWhenAWorkerKeepsTheOldGeneration(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.Verify(ctx, h.cmd.Process.Pid, "another"); err == nil || !strings.Contains(err.Error(), "did not take generation another") {
		t.Errorf("Verify = %v", err)
	}
}

func TestWrite_refusedConfigurationKeepsTheOldOne(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"})
	before := h.Current()
	h.o.Connections = -1
	if _, _, err := h.Write(t.Context(), []Version{{Name: "2.0"}}); err == nil || !strings.Contains(err.Error(), "nginx refuses") {
		t.Errorf("Write = %v", err)
	}
	if h.Current() != before {
		t.Error("the refused configuration replaced the old one")
	}
}

// An operator's certificate takes the place of the one that was made: what nginx shows must be it after the next Write.
func TestWrite_anotherCertificateIsAChange(t *testing.T) {
	h := startHost(t, Version{Name: "1.0"})
	versions := []Version{{Name: "1.0"}}
	before, changed, err := h.Write(t.Context(), versions)
	if err != nil || changed {
		t.Fatalf("nothing new: changed %v, %v", changed, err)
	}
	if err := os.Remove(filepath.Join(h.o.Dir, "tls", "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if err := EnsureCertificate(h.o.Dir); err != nil {
		t.Fatal(err)
	}
	after, changed, err := h.Write(t.Context(), versions)
	if err != nil || !changed || after == before {
		t.Fatalf("another certificate: changed %v, generation %s, was %s, %v", changed, after, before, err)
	}
	if _, err := h.Reload(t.Context(), h.cmd.Process.Pid, after); err != nil {
		t.Error(err)
	}
}

func TestRender_refusesWhatWouldBreakOut(t *testing.T) {
	good := Options{Dir: "/a", Run: "/r", AccessLog: "/l", HTTP: "127.0.0.1:1", HTTPS: "127.0.0.1:2", Workers: 1, Connections: 100}
	if _, _, err := Render(good, []Version{{Name: "1.0"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Render(good, []Version{{Name: `1.0" live; } evil {`}}); err == nil {
		t.Error("a version name broke out of the map")
	}
	bad := good
	bad.Dir = "/a; include /etc/passwd"
	if _, _, err := Render(bad, nil); err == nil {
		t.Error("a directory broke out of its directive")
	}
}

func TestTraffic_tellsCanaryFromStable(t *testing.T) {
	run := testkit.ShortDir(t)
	log := filepath.Join(run, "access.log")
	began := time.Date(2026, 11, 21, 5, 0, 0, 500, time.UTC)
	line := func(second int, version, tenant, role, set string, status int, seconds float64) string {
		return fmt.Sprintf(`{"at":"2026-11-21T05:00:%02dZ","status":%d,"version":"%s","tenant":"%s","role":"%s","set":"/run/slots/%s/%s","seconds":%.3f,"backend_seconds":"-"}`+"\n",
			second, status, version, tenant, role, version, set, seconds)
	}
	text := `{"at":"2026-11-21T04:59:59Z","status":500,"version":"2.0","tenant":"demo","role":"api","set":"/run/slots/2.0/b/03","seconds":9}` + "\n" +
		line(0, "2.0", "demo", "api", "b/03", 200, 0.010) + line(1, "2.0", "demo", "api", "b/04", 502, 0.030) +
		line(1, "2.0", "demo", "api", "b/10", 500, 0.5) + // a bucket that fades: it leads to the stable set
		line(2, "2.0", "demo", "api", "s", 200, 0.002) + line(2, "1.0", "demo", "api", "b/03", 500, 1) +
		line(3, "2.0", "demo", "ua", "b/09", 101, 60) + line(3, "2.0", "demo", "ua", "s", 503, 0) +
		line(4, "2.0", "held", "api", "t/held", 500, 1) + line(4, "2.0", "_probe", "api", "s", 500, 1) + "not JSON\n" + `{"version":"2.0","half`
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Manager{o: Options{AccessLog: log}}
	got, err := m.Traffic("2.0", began, func(bucket int) bool { return bucket < 10 })
	if err != nil {
		t.Fatal(err)
	}
	want := Traffic{From: began, Canary: controlplane.Traffic{Requests: 2, Errors: 1, P50: 0.010, P99: 0.030, WebSockets: 1},
		Stable: controlplane.Traffic{Requests: 2, Errors: 1, P50: 0.002, P99: 0.5, Refused: 1}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
