package failpoint

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// programs is where TestMain puts kmsctl and the fake build, both without the race detector: what is killed is a child.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kmskill")
	if err != nil {
		panic(err)
	}
	programs = dir
	for name, source := range map[string]string{"kmsctl": "../../cmd/kmsctl", "fakebuild": "./fakebuild"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), source).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build %s: %v\n%s", name, err, out)
			os.Exit(1)
		}
	}
	// Most of the time a home waits, for a disk or a process: with as many at a time as there are cores, the cores wait too.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// rig is a home with a control plane that can be killed: the real kmsctl, nginx and store, and builds of a few bytes.
type rig struct {
	t       *testing.T
	home    string
	http    string
	env     []string
	store   *store.Store
	client  *api.Client
	wrap    []string // what runs the control plane, when it is not to be run as it is
	cmd     *exec.Cmd
	ended   chan struct{}
	host    *sql.DB // host.db
	builds  int
	made    int               // versions
	places  bool              // pins and canaries are made in here
	good    []string          // builds that pass their gate
	scripts map[string]string // other builds, by the line that makes them so
	back    []time.Duration   // how long each control plane took until nothing was left to recover
}

func newRig(t *testing.T, url string) *rig {
	t.Helper()
	return newRigIn(t, url, func(string) []string { return nil })
}

// newRigIn has the control plane run by what wrap returns for a home.
func newRigIn(t *testing.T, url string, wrap func(home string) []string) *rig {
	t.Helper()
	testkit.Need(t, "nginx")
	dir := testkit.ShortDir(t)
	home := filepath.Join(dir, "h")
	r := &rig{t: t, home: home, http: testkit.FreeAddr(t), client: api.Dial(filepath.Join(home, "run", "kms.sock"))}
	r.env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + dir, "KMS_HOME=" + home, "KMS_HTTP=" + r.http, "KMS_HTTPS=" + testkit.FreeAddr(t),
		"KMS_IRC_RUN=none", "KMS_WARM=1h", "KMS_NODE=" + filepath.Base(dir)}
	if url == "" {
		url = "sqlite:" + filepath.Join(home, "kms.db")
	} else {
		r.env = append(r.env, "KMS_STORE="+url)
	}
	r.env = append(r.env, "KMS_FAILPOINT="+home+".order", "KMS_FAILPOINT_TRACE="+r.trail())
	r.wrap = wrap(home)
	t.Cleanup(r.close)
	r.start()
	var err error
	if r.store, err = store.Open(t.Context(), url, store.Options{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// trail is the file with the points that the control planes reached.
func (r *rig) trail() string { return r.home + ".trace" }

// order names the point at which control planes are killed from now on; empty: none.
func (r *rig) order(point string) {
	r.t.Helper()
	beside := r.home + ".order.new"
	if err := errors.Join(os.WriteFile(beside, []byte(point), 0o600), os.Rename(beside, r.home+".order")); err != nil {
		r.t.Fatal(err)
	}
}

// gone reports whether the control plane has ended.
func (r *rig) gone() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// launch starts a control plane.
func (r *rig) launch(env ...string) {
	r.t.Helper()
	log, err := os.OpenFile(r.home+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	argv := append(slices.Clone(r.wrap), filepath.Join(programs, "kmsctl"), "server")
	r.cmd = exec.Command(argv[0], argv[1:]...)
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = append(slices.Clone(r.env), env...), log, log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	cmd, ended := r.cmd, make(chan struct{})
	r.ended = ended
	go func() { cmd.Wait(); close(ended) }()
}

// start launches one and waits until it answers.
func (r *rig) start(env ...string) {
	r.t.Helper()
	r.launch(env...)
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := r.client.Status(r.t.Context()); err == nil {
			return
		}
		select {
		case <-r.ended:
			r.t.Fatalf("the control plane ended: %s", r.lastWords())
		default:
		}
		if time.Since(begun) > 20*time.Second {
			r.t.Fatalf("the control plane does not answer: %s", r.lastWords())
		}
	}
}

func (r *rig) lastWords() string {
	text, _ := os.ReadFile(r.home + ".log")
	return string(text[max(0, len(text)-3000):])
}

// kill is kill -9.
func (r *rig) kill() {
	r.cmd.Process.Kill()
	<-r.ended
	r.client.Close()
}

// awaitDeath waits for a control plane to kill itself.
func (r *rig) awaitDeath(within time.Duration) error {
	select {
	case <-r.ended:
		r.client.Close()
		if state := r.cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != syscall.SIGKILL {
			return fmt.Errorf("the control plane ended by itself (%s): %s", r.cmd.ProcessState, r.lastWords())
		}
		return nil
	case <-time.After(within):
		return fmt.Errorf("the fail point was not reached within %s", within)
	}
}

func (r *rig) close() {
	if r.t.Failed() {
		r.t.Logf("the control planes' last words:\n%s", r.lastWords())
	}
	r.kill()
	if r.store != nil {
		r.store.Close()
	}
	if r.host != nil {
		r.host.Close()
	}
	for _, pid := range r.processes("") {
		syscall.Kill(-pid, syscall.SIGKILL) // each leads a group: of nginx's workers nothing tells whose they are
		syscall.Kill(pid, syscall.SIGKILL)
	}
	testkit.Eventually(r.t, 5*time.Second, "nobody is left at "+r.http, func() bool {
		c, err := net.Dial("tcp", r.http)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// processes are the living processes that have to do with the home: instances and what runs beside them by their environment,
// nginx by its command line.
func (r *rig) processes(mark string) []int {
	var out []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || r.cmd != nil && pid == r.cmd.Process.Pid {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if !strings.Contains(string(stat), ") Z ") && strings.Contains(string(env)+string(args), r.home+mark) {
			out = append(out, pid)
		}
	}
	sort.Ints(out)
	return out
}

// build uploads a build that no one has seen before, as large as its name. A line of shell may go before it serves.
func (r *rig) build(before string) string {
	r.t.Helper()
	r.builds++
	text := fmt.Sprintf("#!/bin/sh\n# build %d of %s\n%s\nexec %s \"$@\"\n", r.builds, r.home, before, filepath.Join(programs, "fakebuild"))
	b, err := r.client.AddBuild(r.t.Context(), strings.NewReader(text), int64(len(text)), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return b.Digest
}

// release runs a release to its end.
func (r *rig) release(q controlplane.ReleaseRequest) *controlplane.Release {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	begun, err := r.client.Start(ctx, q)
	if err != nil {
		r.t.Fatalf("%s of %s: %v", q.Kind, q.Version, err)
	}
	ended, err := r.client.Follow(ctx, begun.ID, func(controlplane.Event) {})
	if err != nil {
		r.t.Fatalf("%s of %s: %v", q.Kind, q.Version, err)
	}
	return ended
}

func (r *rig) version(name string) controlplane.VersionInfo {
	r.t.Helper()
	st, err := r.client.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range st.Versions {
		if v.Name == name {
			return v
		}
	}
	return controlplane.VersionInfo{}
}

// answer is what the fake build says, through nginx; status is not 200 when nginx answers itself.
type answer struct {
	Set    string `json:"set"`
	Build  string `json:"build"`
	PID    int    `json:"pid"`
	status int
}

func (r *rig) ask(path string) (a answer, err error) {
	resp, err := http.Get("http://" + r.http + path)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	text, err := io.ReadAll(resp.Body)
	if err == nil && a.status == http.StatusOK {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// pids maps each process of a version's sets, as "set/role", to its number.
func pids(v controlplane.VersionInfo) map[string]int {
	out := map[string]int{}
	for _, s := range v.Sets {
		for _, in := range s.Instances {
			out[s.ID+"/"+in.Role] = in.PID
		}
	}
	return out
}

// serving is the set that the version's slot leads to, as status tells.
func serving(v controlplane.VersionInfo) (controlplane.Set, error) {
	var found []controlplane.Set
	for _, s := range v.Sets {
		if s.State == controlplane.SetServing {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return controlplane.Set{}, fmt.Errorf("%d sets serve", len(found))
	}
	return found[0], nil
}

// owed counts what host.db still has under way, or owes the ledger or the audit trail.
func (r *rig) owed() (n int, err error) {
	if r.host == nil {
		if r.host, err = sql.Open("sqlite", "file:"+filepath.Join(r.home, "host.db")+"?mode=ro&_pragma=busy_timeout(1000)"); err != nil {
			return 0, err
		}
	}
	err = r.host.QueryRow("SELECT (SELECT COUNT(*) FROM flights) + (SELECT COUNT(*) FROM audits)").Scan(&n)
	return n, err
}

// unsettled says what of a version is not as it has to be once nothing is under way any more; nil when all is.
func (r *rig) unsettled(version string, before controlplane.VersionInfo) error {
	st, err := r.client.Status(r.t.Context())
	if err != nil {
		return err
	}
	var v controlplane.VersionInfo
	var known []string // sets
	var slots []string
	var want []int
	for _, other := range st.Versions {
		if other.Name == version {
			v = other
		}
		if other.State == controlplane.Live {
			slots = append(slots, other.Name)
		}
		for _, s := range other.Sets {
			if s.State == controlplane.SetStopping {
				return fmt.Errorf("set %s stops", s.ID)
			}
			known = append(known, s.ID)
			for _, in := range s.Instances {
				want = append(want, in.PID)
			}
		}
	}
	sort.Ints(want)
	if v.Running != nil {
		return errors.New("a release still runs")
	}
	if err := r.ledgerTells(version, v, 1_000); err != nil {
		return err
	}
	leases, err := r.store.Leases(r.t.Context())
	if err != nil || len(leases) > 0 {
		return fmt.Errorf("leases are held: %+v, %v", leases, err)
	}
	sort.Strings(known)
	for dir, want := range map[string][]string{"run/i": known, "run/p": known, "run/slots": slots, "run/r": slots} {
		if have := r.names(dir); !slices.Equal(have, want) {
			return fmt.Errorf("in %s are %v, want %v", dir, have, want)
		}
	}
	if err := r.keptPIDs(before, v); err != nil {
		return err
	}
	if err := errors.Join(r.serves(version, v), r.leads(version, v)); err != nil {
		return err
	}
	if n, err := r.owed(); n > 0 || err != nil {
		return fmt.Errorf("host.db has %d flights and audits, %v", n, err)
	}
	if have := r.processes("/run/p/"); !slices.Equal(have, want) { // the dearest question comes last
		return fmt.Errorf("the home's processes are %v, status knows %v", have, want)
	}
	return nil
}

func (r *rig) names(dir string) []string {
	entries, _ := os.ReadDir(filepath.Join(r.home, dir))
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// ledgerTells holds the ledger, as far back as limit, and the desired build against what serves.
func (r *rig) ledgerTells(version string, v controlplane.VersionInfo, limit int) error {
	rows, err := r.store.Releases(r.t.Context(), version, limit)
	if err != nil {
		return err
	}
	last := store.Release{}
	for _, row := range rows {
		if row.State == store.ReleaseRunning || row.FinishedAt.IsZero() {
			return fmt.Errorf("release %d is %s", row.ID, row.State)
		}
		for _, step := range row.Steps {
			if step.State == "running" {
				return fmt.Errorf("step %s of release %d is %s", step.Name, row.ID, step.State)
			}
		}
		if row.State == store.ReleaseDone && last.ID == 0 {
			last = row
		}
	}
	wanted, err := r.store.Version(r.t.Context(), version)
	if errors.Is(err, store.ErrNotFound) && last.ID == 0 && v.Name == "" {
		return nil // a new name that came to nothing
	}
	if err != nil {
		return err
	}
	if retired := last.Kind == store.ReleaseRetire; retired != (v.State == controlplane.Retired) || retired != (wanted.State == store.VersionRetired) {
		return fmt.Errorf("the version is %s, desired %s, by the ledger a %s was done", v.State, wanted.State, last.Kind)
	}
	if v.State == controlplane.Live && (v.Build != last.Build || wanted.Build != v.Build) {
		return fmt.Errorf("%.12s serves, desired is %.12s, by the ledger (release %d) %.12s", v.Build, wanted.Build, last.ID, last.Build)
	}
	return nil
}

// keptPIDs holds that no process that served, or was warm, is another by now; one that is gone was stopped with its set.
func (r *rig) keptPIDs(before, v controlplane.VersionInfo) error {
	now := pids(v)
	for name, pid := range pids(before) {
		if other, ok := now[name]; ok && other != pid {
			return fmt.Errorf("%s has pid %d, had %d", name, other, pid)
		}
	}
	served, err := serving(before)
	if err != nil || v.State != controlplane.Live {
		return nil // nothing served before, or nothing is to serve any more
	}
	if _, ok := now[served.ID+"/ua"]; !ok {
		return fmt.Errorf("set %s, which served before, is gone", served.ID)
	}
	return nil
}

// serves holds that nginx leads to exactly the set that status names, on both roles.
func (r *rig) serves(version string, v controlplane.VersionInfo) error {
	for _, role := range []string{"ua", "api"} {
		path := "/" + role + "/" + version + "/demo"
		if role == "api" {
			path += "/x"
		}
		a, err := r.ask(path)
		if err != nil {
			return err
		}
		want := http.StatusOK
		switch v.State {
		case controlplane.Retired:
			want = http.StatusGone
		case "":
			want = http.StatusNotFound
		}
		if a.status != want {
			return fmt.Errorf("%s answers %d, want %d", path, a.status, want)
		}
		if want != http.StatusOK {
			continue
		}
		s, err := serving(v)
		if err != nil {
			return err
		}
		if v.Canary != nil && a.Set == v.Canary.Set {
			continue // the share has this tenant
		}
		if !v.Healthy || a.Set != s.ID || a.PID != pids(v)[s.ID+"/"+role] {
			return fmt.Errorf("%s is answered by set %s pid %d; %s serves with %v, healthy %v", path, a.Set, a.PID, s.ID, pids(v), v.Healthy)
		}
	}
	return nil
}

// leads holds that nginx leads the pinned tenant and the canary's share where status says, and nobody else there.
func (r *rig) leads(version string, v controlplane.VersionInfo) error {
	if v.State != controlplane.Live || !r.places {
		return nil
	}
	s, err := serving(v)
	if err != nil {
		return err
	}
	want, few := s.ID, 0
	for _, p := range v.Pins {
		want = p.Set
	}
	if a, err := r.ask("/ua/" + version + "/" + pinned); err != nil || a.Set != want && (v.Canary == nil || a.Set != v.Canary.Set) {
		return fmt.Errorf("the tenant of pins is answered by set %s, want %s: %v", a.Set, want, err)
	}
	for i := range 12 {
		a, err := r.ask(fmt.Sprintf("/ua/%s/demo?u=%d", version, i))
		if err != nil {
			return err
		}
		if a.Set != s.ID {
			few++
		}
		if a.Set != s.ID && (v.Canary == nil || a.Set != v.Canary.Set) {
			return fmt.Errorf("user %d is answered by set %s, %s serves and the canary is %+v", i, a.Set, s.ID, v.Canary)
		}
	}
	if (few > 0) != (v.Canary != nil) {
		return fmt.Errorf("%d of 12 users are led to the canary %+v", few, v.Canary)
	}
	return nil
}
