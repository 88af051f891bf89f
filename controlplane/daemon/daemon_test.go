package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/testkit"
)

// builds is where TestMain puts the real server versions.
var builds string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kms-builds-")
	if err != nil {
		panic(err)
	}
	builds = dir
	for _, version := range []string{"1.0", "2.0"} {
		source := "../../versions/v" + strings.ReplaceAll(version, ".", "_")
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "kms-"+version), source).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build %s: %v\n%s", version, err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// host is a control plane in this process, on real nginx, a real IRC server, SQLite and real builds.
type host struct {
	t      *testing.T
	dir    string
	config *config.Config
	client *api.Client
	stop   func() error
	d      *Daemon // of the last up
}

// newHost takes settings as pairs of a name and a value.
func newHost(t *testing.T, settings ...string) *host {
	t.Helper()
	testkit.Need(t, "nginx")
	testkit.Need(t, "inspircd")
	dir := testkit.ShortDir(t)
	values := map[string]string{
		"home": filepath.Join(dir, "h"), "http": testkit.FreeAddr(t), "https": testkit.FreeAddr(t), "irc.listen": testkit.FreeAddr(t), "irc.kind": "inspircd",
		"builds": builds, "warm": "1m",
	}
	for i := 0; i < len(settings); i += 2 {
		values[settings[i]] = settings[i+1]
	}
	cfg, err := config.Load("", nil, values)
	if err != nil {
		t.Fatal(err)
	}
	return &host{t: t, dir: dir, config: cfg, client: api.Dial(cfg.Paths().ControlSocket())}
}

// up starts the control plane and waits until it is ready. stop ends it as Ctrl-C does.
func (h *host) up() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	h.d = newDaemon(Options{
		Config: h.config, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Laptop: true,
		Ready: func(*controlplane.Status) { close(ready) },
	})
	go func() { ended <- h.d.run(ctx) }()
	stopped := false
	h.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	h.t.Cleanup(func() { h.stop() })
	select {
	case <-ready:
	case err := <-ended:
		stopped = true
		h.t.Fatalf("the control plane did not start: %v", err)
	case <-time.After(time.Minute):
		h.t.Fatal("the control plane was not ready within a minute")
	}
}

func (h *host) status() *controlplane.Status {
	h.t.Helper()
	st, err := h.client.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

func (h *host) version(name string) controlplane.VersionInfo {
	h.t.Helper()
	for _, v := range h.status().Versions {
		if v.Name == name {
			return v
		}
	}
	return controlplane.VersionInfo{}
}

// look asks all the time, as somebody with `watch kmsctl status` does, so that -race sees what is read beside the changes.
func (h *host) look() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			h.d.Status(ctx)
			h.d.Builds(ctx)
			h.d.Connections(ctx, controlplane.Connection{Version: "2.0"})
			time.Sleep(10 * time.Millisecond)
		}
	}()
	h.t.Cleanup(func() { cancel(); <-ended })
}

// release runs a release to its end.
func (h *host) release(r controlplane.ReleaseRequest) *controlplane.Release {
	h.t.Helper()
	begun, err := h.client.Start(h.t.Context(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	ended, err := h.client.Follow(h.t.Context(), begun.ID, func(controlplane.Event) {})
	if err != nil {
		h.t.Fatal(err)
	}
	return ended
}

// otherBuild uploads the 2.0 build with bytes appended: another digest, the same program.
func (h *host) otherBuild(tail string) *controlplane.BuildInfo {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(builds, "kms-2.0"))
	if err != nil {
		h.t.Fatal(err)
	}
	text = append(text, tail...)
	b, err := h.client.AddBuild(h.t.Context(), strings.NewReader(string(text)), int64(len(text)), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *host) httpStatus(path string) int {
	h.t.Helper()
	resp, err := http.Get("http://" + h.config.String("http") + path)
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestRun_deployRollbackRetire(t *testing.T) {
	h := newHost(t)
	h.up()
	h.look()
	first := h.version("2.0").Build
	b := h.otherBuild("x")
	if r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: b.Digest}); r.State != controlplane.ReleaseDone {
		t.Fatalf("deploy: %+v", r.Error)
	}
	if now := h.version("2.0").Build; now != b.Digest {
		t.Errorf("2.0 serves %s, want %s", now, b.Digest)
	}
	r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0"})
	if r.State != controlplane.ReleaseDone || h.version("2.0").Build != first {
		t.Errorf("rollback: %+v, serves %s", r, h.version("2.0").Build)
	}
	for _, s := range r.Steps {
		if s.Name == "start" {
			t.Error("rollback to a warm set started another")
		}
	}
	r = h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: "1.0", Force: true, Message: "moved"})
	if r.State != controlplane.ReleaseDone || h.httpStatus("/ua/1.0/demo") != http.StatusGone {
		t.Errorf("retire: %+v, then HTTP %d", r, h.httpStatus("/ua/1.0/demo"))
	}
	if got := h.httpStatus("/ua/7.0/demo"); got != http.StatusNotFound {
		t.Errorf("an unknown version answers %d", got)
	}
}

func TestRun_secondStartFindsEverythingAsItWas(t *testing.T) {
	h := newHost(t)
	h.up()
	b := h.otherBuild("y")
	h.release(controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: b.Digest})
	set := h.version("2.0").Sets[0].ID
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("pgrep", "-f", h.dir).Output(); len(out) > 0 {
		t.Errorf("processes are left: %s", out)
	}
	h.up()
	v := h.version("2.0")
	if v.Build != b.Digest || len(v.Sets) != 1 || v.Sets[0].ID != set || !v.Healthy {
		t.Errorf("after the second start: %+v", v)
	}
}

// TestSettle_undoesWhatHadNotSwapped plays a control plane that was killed while a set was starting.
func TestSettle_undoesWhatHadNotSwapped(t *testing.T) {
	h := newHost(t)
	h.up()
	before := h.version("2.0")
	h.stop()
	h.plant(hostdb.Set{ID: "sdeadbeef", Version: "2.0", Build: before.Build, State: controlplane.SetStarting},
		hostdb.Flight{Set: "sdeadbeef", Before: hostdb.Route{Version: "2.0", State: controlplane.Live, Stable: before.Sets[0].ID}, Release: controlplane.Release{
			Kind: controlplane.KindDeploy, Version: "2.0", Build: before.Build, State: controlplane.ReleaseRunning, StartedAt: time.Now(),
			Steps: []controlplane.Step{{Name: "start", State: "running", At: time.Now()}}}})
	h.up()
	v := h.version("2.0")
	if len(v.Sets) != 1 || v.Sets[0].ID != before.Sets[0].ID || v.Running != nil {
		t.Errorf("after the restart: %+v", v)
	}
	ledger, err := h.client.Releases(t.Context(), "2.0", 1)
	if err != nil || len(ledger) != 1 || ledger[0].State != controlplane.ReleaseFailed || ledger[0].Steps[0].State != "interrupted" {
		t.Errorf("ledger: %+v, %v", ledger, err)
	}
}

// TestSettle_finishesWhatHadSwapped plays one that was killed between the swap and the ledger.
func TestSettle_finishesWhatHadSwapped(t *testing.T) {
	h := newHost(t)
	h.up()
	b := h.otherBuild("z")
	before := h.version("2.0")
	h.stop()
	h.plant(hostdb.Set{ID: "scafecafe", Version: "2.0", Build: b.Digest, State: controlplane.SetServing},
		hostdb.Flight{Set: "scafecafe", Swapped: true, Before: hostdb.Route{Version: "2.0", State: controlplane.Live, Stable: before.Sets[0].ID}, Release: controlplane.Release{
			Kind: controlplane.KindDeploy, Version: "2.0", Build: b.Digest, State: controlplane.ReleaseRunning, StartedAt: time.Now(), Steps: []controlplane.Step{}}},
		hostdb.Route{Version: "2.0", State: controlplane.Live, Stable: "scafecafe"})
	h.up()
	if v := h.version("2.0"); v.Build != b.Digest || !v.Healthy {
		t.Errorf("2.0 serves %s, want %s", v.Build, b.Digest)
	}
	ledger, err := h.client.Releases(t.Context(), "2.0", 1)
	if err != nil || len(ledger) != 1 || ledger[0].State != controlplane.ReleaseDone || ledger[0].Build != b.Digest {
		t.Errorf("ledger: %+v, %v", ledger, err)
	}
}

// plant writes into host.db what a killed control plane would have left there.
func (h *host) plant(set hostdb.Set, flight hostdb.Flight, routes ...hostdb.Route) {
	h.t.Helper()
	db, err := hostdb.Open(h.t.Context(), h.config.Paths().HostDB())
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	flight.ID = "f1"
	failures := []error{db.PutSet(set), db.PutFlight(flight)}
	for _, r := range routes {
		failures = append(failures, db.PutRoute(r))
	}
	if err := errors.Join(failures...); err != nil {
		h.t.Fatal(err)
	}
}

// TestInstance_frozenIsReplaced: a process that is stopped may hold the database's lock, so it is not waited for.
func TestInstance_frozenIsReplaced(t *testing.T) {
	h := newHost(t)
	h.up()
	ua := h.version("2.0").Sets[0].Instances[0]
	if err := unix.Kill(ua.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the status tells of it", func() bool { return !h.version("2.0").Healthy })
	testkit.Eventually(t, 20*time.Second, "another process serves", func() bool {
		now := h.version("2.0").Sets[0].Instances[0]
		return h.version("2.0").Healthy && now.PID != ua.PID && now.Restarts == 1
	})
}

func TestRestore_bringsBackMessagesUnderNewEpochs(t *testing.T) {
	h := newHost(t)
	h.up()
	ctx := t.Context()
	backup := filepath.Join(h.dir, "kms.backup")
	running := *h.d.localLink()
	other := running
	other.Password = "of-another-time"
	// The backup knows another password than the IRC server that runs.
	if err := errors.Join(h.d.Store().PutLink(ctx, other), h.client.Backup(ctx, backup), h.d.Store().PutLink(ctx, running)); err != nil {
		t.Fatal(err)
	}
	before := h.epoch()
	if err := h.client.Restore(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if after := h.epoch(); after == before || after == "" {
		t.Errorf("the epoch was %q and is %q", before, after)
	}
	testkit.Eventually(t, 10*time.Second, "both versions serve again", func() bool {
		return h.version("1.0").Healthy && h.version("2.0").Healthy
	})
	if now, err := h.d.Store().Link(ctx, localLink); err != nil || now.Password != running.Password {
		t.Errorf("the link has another password than the server that runs: %v", err)
	}
	if err := h.client.Backup(ctx, backup); controlplane.AsError(err).Kind != controlplane.InUse {
		t.Errorf("a second backup to the same file: %v", err)
	}
}

func (h *host) epoch() string {
	h.t.Helper()
	list, err := h.client.Channels(h.t.Context(), demoTenant)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == demoChannel {
			return c.Epoch
		}
	}
	return ""
}
