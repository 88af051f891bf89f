package failpoint

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func (r *rig) begin(q controlplane.ReleaseRequest) (*controlplane.Release, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	return r.client.Start(ctx, q)
}

func rollback(version string) controlplane.ReleaseRequest {
	return controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: version, Message: "test"}
}

// TestLease_parallelDeploysSerialise: all of fifty CI jobs that wait get their turn, in the order in which they came, pins and canaries
// among them; and one that does not wait is refused.
func TestLease_parallelDeploysSerialise(t *testing.T) {
	r := newRig(t, "")
	builds := []string{r.build(""), r.build("")}
	r.release(deploy(over, builds[0]))
	slow, allCame := deploy(over, builds[1]), filepath.Join(r.home, "all-came")
	slow.Gate.WarmUp = "until test -e " + allCame + "; do sleep 0.05; done"
	if _, err := r.begin(slow); err != nil {
		t.Fatal(err)
	}
	if _, err := r.begin(deploy(over, builds[0])); controlplane.AsError(err).Kind != controlplane.LeaseHeld {
		t.Errorf("a deploy that does not wait: %v", err)
	}
	if _, err := r.store.CreateTenant(t.Context(), store.Tenant{ID: pinned}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	deploys := 0
	for i := range 50 {
		next, message := builds[deploys%2], fmt.Sprintf("job %02d", i)
		job := func() error {
			q := deploy(over, next)
			q.Message, q.Wait = message, time.Minute
			_, err := r.client.Start(t.Context(), q)
			return err
		}
		switch i % 5 {
		case 1: // the next deploy promotes it
			job = func() error {
				_, err := r.client.StartCanary(t.Context(), controlplane.CanaryRequest{Version: over, Build: next, Percent: 10, Message: message, Wait: time.Minute})
				return err
			}
		case 3:
			job = func() error {
				_, err := r.client.Pin(t.Context(), controlplane.PinRequest{Version: over, Tenant: pinned, Build: next, Message: message, Wait: time.Minute})
				return err
			}
		default:
			deploys++
		}
		group.Go(func() {
			if err := job(); err != nil {
				t.Errorf("%s: %v", message, err)
			}
		})
		testkit.Eventually(t, 10*time.Second, message+" waits", func() bool { // first come
			leases, err := r.client.Leases(t.Context())
			return err == nil && len(leases) == 1 && leases[0].Waiting == i+1
		})
	}
	leases, err := r.client.Leases(t.Context())
	if err != nil || len(leases) != 1 || leases[0].Version != over || !strings.HasPrefix(leases[0].Purpose, "deploy of 2.0 by ") || leases[0].Waiting != 50 {
		t.Errorf("leases are %+v, %v", leases, err)
	}
	if err := os.WriteFile(allCame, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	testkit.Eventually(t, 10*time.Second, "the last has ended", func() bool { return r.version(over).Running == nil })
	ended := r.jobsEnded()
	if len(ended) < 40 { // a deploy may have found nothing to do
		t.Errorf("%d of 50 jobs are told of: %q", len(ended), ended)
	}
	if !slices.IsSorted(ended) {
		t.Errorf("the jobs ended in this order: %q", ended)
	}
	r.settled("after fifty deploys", over, r.version(over))
}

// jobsEnded are the messages of jobs that are done by the ledger or the audit trail, in the order in which they were.
func (r *rig) jobsEnded() (messages []string) {
	r.t.Helper()
	rows, err := r.store.Releases(r.t.Context(), over, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	trail, err := r.store.AuditTrail(r.t.Context(), store.AuditFilter{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	at := map[string]time.Time{}
	for _, row := range rows {
		if row.State == store.ReleaseDone {
			at[row.Message] = row.FinishedAt
		}
	}
	for _, a := range trail {
		if (a.Action == "pin" || a.Action == "canary") && a.Result == "done" {
			at[a.Message] = a.At
		}
	}
	for message := range at {
		if strings.HasPrefix(message, "job") {
			messages = append(messages, message)
		}
	}
	slices.SortFunc(messages, func(a, b string) int { return cmp.Or(at[a].Compare(at[b]), strings.Compare(a, b)) })
	return messages
}

// TestRollback_takesOver a deploy that hangs, at once, and means the build that served before it.
func TestRollback_takesOver(t *testing.T) {
	r := newRig(t, "")
	for range 2 {
		r.release(deploy(over, r.build("")))
	}
	for name, q := range map[string]controlplane.ReleaseRequest{
		"in its start":      deploy(over, r.build(`[ "$1" != ua ] || sleep 60`)),
		"in its probe":      deploy(over, r.build(`[ "$1" != probe ] || sleep 60`)),
		"in a command":      {Kind: controlplane.KindDeploy, Version: over, Build: r.build(""), Gate: controlplane.Gate{Check: "sleep 60"}},
		"behind its swap":   deploy(over, r.build(`[ "$1" != probe ] || export FAKE_HANGS=https`)),
		"while jobs wait":   {Kind: controlplane.KindDeploy, Version: over, Build: r.build(""), Gate: controlplane.Gate{WarmUp: "sleep 60"}},
		"with a name to go": {Kind: controlplane.KindDeploy, Version: over, Build: r.build(""), Gate: controlplane.Gate{WarmUp: "sleep 60"}},
	} {
		before := r.version(over)
		stuck, err := r.begin(q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		time.Sleep(500 * time.Millisecond)
		back := rollback(over)
		if name == "with a name to go" {
			back.Build = before.Build
		}
		if name == "while jobs wait" {
			waits := deploy(over, before.Build)
			waits.Wait = time.Second
			go r.client.Start(t.Context(), waits)
			time.Sleep(100 * time.Millisecond)
		}
		began := time.Now()
		done := r.release(back)
		took := time.Since(began)
		if done.State != controlplane.ReleaseDone || done.Build != before.Build || took > 5*time.Second {
			t.Errorf("%s: %+v after %s", name, done, took)
		}
		t.Logf("%s: taken over in %s", name, took.Round(time.Millisecond))
		ended, err := r.client.Release(t.Context(), stuck.ID)
		if err != nil || ended.State != controlplane.ReleaseFailed || !strings.Contains(ended.Error.Message, "a rollback by") {
			t.Errorf("%s: the deploy is %+v, %v", name, ended, err)
		}
		r.settled(name, over, before)
	}
}

// TestGate_commands: what a command finds, and that one which fails keeps the old build and says why.
func TestGate_commands(t *testing.T) {
	r := newRig(t, "")
	q := deploy(over, r.build(""))
	q.Gate = controlplane.Gate{WarmUp: `echo "$KMS_VERSION $KMS_BUILD"; test -S "$KMS_UA_SOCKET" && test -S "$KMS_API_SOCKET"`, Check: `test -z "$KMS_STORE$KMS_HOME" && echo fine`}
	done := r.release(q)
	steps := map[string]string{}
	for _, s := range done.Steps {
		steps[s.Name] = s.State + " " + s.Message
	}
	if steps["warm up"] != "done 2.0 "+q.Build || steps["check"] != "done fine" {
		t.Errorf("the commands' steps are %q, the error %+v", steps, done.Error)
	}
	before := r.version(over)
	q = deploy(over, r.build(""))
	q.Gate.Check = `echo "the moon is in the wrong phase" >&2; exit 3`
	failed := r.release(q)
	if failed.Error == nil || failed.Error.Kind != controlplane.Unhealthy || !strings.Contains(failed.Error.Message, "exit status 3") ||
		!strings.Contains(failed.Error.Message, "wrong phase") || strings.Contains(fmt.Sprint(failed), "exit 3") {
		t.Errorf("the release is %+v, %+v", failed, failed.Error)
	}
	r.settled("after a check that failed", over, before)
}

// TestPlaces_passTheWholeGate: a build for a few is held to what one for all is, before anybody is led to it.
func TestPlaces_passTheWholeGate(t *testing.T) {
	r := newRig(t, "")
	r.release(deploy(over, r.build("")))
	before := r.version(over)
	if _, err := r.store.CreateTenant(t.Context(), store.Tenant{ID: "dragon"}); err != nil {
		t.Fatal(err)
	}
	bad := r.build(`[ "$1" != probe ] || export FAKE_REFUSES=https`)
	_, canary := r.client.StartCanary(t.Context(), controlplane.CanaryRequest{Version: over, Build: bad, Percent: 10})
	_, pin := r.client.Pin(t.Context(), controlplane.PinRequest{Version: over, Build: bad, Tenant: "dragon"})
	for what, err := range map[string]error{"canary": canary, "pin": pin} {
		if e := controlplane.AsError(err); err == nil || e.Kind != controlplane.Unhealthy || !strings.Contains(e.Message, "told to refuse https") {
			t.Errorf("a %s that fails behind nginx: %v", what, err)
		}
	}
	q := controlplane.CanaryRequest{Version: over, Build: r.build(""), Percent: 10, Gate: controlplane.Gate{Check: `echo "the moon is in the wrong phase"; exit 3`}}
	if _, err := r.client.StartCanary(t.Context(), q); err == nil || controlplane.AsError(err).Kind != controlplane.Unhealthy || !strings.Contains(err.Error(), "wrong phase") {
		t.Errorf("a canary that fails its check: %v", err)
	}
	r.settled("after all three", over, before)

	slow := deploy(over, r.build(""))
	slow.Gate.WarmUp = "sleep 1"
	if _, err := r.begin(slow); err != nil {
		t.Fatal(err)
	}
	q.Gate.Check = `test "$KMS_BUILD" = ` + q.Build
	if _, err := r.client.StartCanary(t.Context(), q); err == nil || controlplane.AsError(err).Kind != controlplane.LeaseHeld {
		t.Errorf("a canary during a deploy: %v", err)
	}
	q.Wait = 30 * time.Second
	c, err := r.client.StartCanary(t.Context(), q)
	if err != nil || c.Beside == before.Sets[0].ID {
		t.Fatalf("a canary that waits for a deploy: %+v, %v", c, err)
	}
	// Its probe came through the link that only the probe's tenant has, which leads back now.
	log, err := os.ReadFile(filepath.Join(r.home, "logs", "nginx-access.log"))
	if n := strings.Count(string(log), "/t/_probe"); err != nil || n < 4 { // of the last two; the bad build asks nobody
		t.Errorf("%d requests of probes went through their link, %v", n, err)
	}
	if a, err := r.ask("/ua/" + over + "/_probe"); err != nil || a.Set == c.Set {
		t.Errorf("the probe's tenant is on set %s, %v", a.Set, err)
	}
}

// TestPlaces_haveTheVersionToThemselves: while a canary's command runs, its version is taken, no other is, and a rollback or the
// canary's withdrawal ends it at once. Who asked for it may go away, which undoes it.
func TestPlaces_haveTheVersionToThemselves(t *testing.T) {
	r := newRig(t, "")
	first, second, slow := r.build(""), r.build(""), r.build("")
	r.release(deploy(over, first))
	r.release(deploy(over, second))
	r.release(deploy("3.0", first))
	if _, err := r.store.CreateTenant(t.Context(), store.Tenant{ID: pinned}); err != nil {
		t.Fatal(err)
	}
	stuck := controlplane.CanaryRequest{Version: over, Build: slow, Percent: 10, Gate: controlplane.Gate{Check: "sleep 60"}}
	for name, ends := range map[string]func(gone context.CancelFunc) error{
		"a rollback by":            func(context.CancelFunc) error { _, err := r.begin(rollback(over)); return err },
		"a canary withdraw by":     func(context.CancelFunc) error { return r.client.WithdrawCanary(t.Context(), over) },
		"who asked for the canary": func(gone context.CancelFunc) error { gone(); return nil },
	} {
		before := r.version(over)
		ctx, gone := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { _, err := r.client.StartCanary(ctx, stuck); ended <- err }()
		testkit.Eventually(t, 20*time.Second, "its command runs", func() bool {
			f := r.version(over).Running
			return f != nil && f.Kind == controlplane.KindCanary && len(f.Steps) > 0 && f.Steps[len(f.Steps)-1].Name == "check"
		})
		leases, err := r.client.Leases(t.Context())
		if err != nil || len(leases) != 1 || !strings.HasPrefix(leases[0].Purpose, "canary of 2.0 by ") {
			t.Errorf("the leases are %+v, %v", leases, err)
		}
		pin := controlplane.PinRequest{Version: over, Tenant: pinned, Build: first}
		if _, err := r.client.Pin(t.Context(), pin); controlplane.AsError(err).Kind != controlplane.LeaseHeld || !strings.Contains(err.Error(), "canary by") {
			t.Errorf("a pin of the version meanwhile: %v", err)
		}
		pin.Version = "3.0"
		if _, err := r.client.Pin(t.Context(), pin); err != nil {
			t.Errorf("a pin of another version meanwhile: %v", err)
		}
		began := time.Now()
		if err := ends(gone); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err = <-ended
		gone()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s ended the canary after %s", name, took)
		}
		if err == nil || ctx.Err() == nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the canary says %v", name, err)
		}
		r.settledWithin(20*time.Second, name, over, before)
		trail, err := r.store.AuditTrail(t.Context(), store.AuditFilter{Subject: over, Limit: 10})
		at := slices.IndexFunc(trail, func(a store.Audit) bool { return a.Action == "canary" })
		if err != nil || at < 0 || !strings.Contains(trail[at].Result, name) || trail[at].Who == "" {
			t.Errorf("%s: the audit trail says %+v, %v", name, trail, err)
		}
	}
}

// TestBack_withTwentyVersions holds how long a control plane takes to be back after kill -9.
func TestBack_withTwentyVersions(t *testing.T) {
	r := newRig(t, "")
	build := r.build("")
	for i := range 20 {
		r.release(deploy(fmt.Sprintf("4.%d", i), build))
	}
	before := r.processes("/run/p/")
	best := time.Hour
	for range 3 {
		r.kill()
		began := time.Now()
		r.start()
		best = min(best, time.Since(began))
	}
	after := r.processes("/run/p/")
	t.Logf("back after %s, with %d processes", best.Round(time.Millisecond), len(after))
	if fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 40 {
		t.Errorf("the processes are %v, were %v", after, before)
	}
	if best > time.Second {
		t.Errorf("back after %s, want 1 s", best)
	}
}

// outage makes a shared database go away and come back.
type outage struct{ begin, end func() }

// wire is a port before MySQL that can be cut, or hang.
type wire struct {
	t       *testing.T
	to      string
	address string

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
	hangs bool
}

func newWire(t *testing.T, to string) *wire {
	l, err := net.Listen("tcp", testkit.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, to: to, address: l.Addr().String(), l: l}
	go w.serve(l)
	t.Cleanup(func() { w.l.Close(); w.cut(false) })
	return w
}

// goAway refuses connections, comeBack takes them again.
func (w *wire) goAway() {
	w.l.Close()
	w.cut(false)
}

func (w *wire) comeBack() {
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.l = l
	go w.serve(l)
}

func (w *wire) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.conns = append(w.conns, c)
		hangs := w.hangs
		w.mu.Unlock()
		if hangs {
			continue
		}
		go func() {
			s, err := net.Dial("tcp", w.to)
			if err != nil {
				c.Close()
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, s)
			w.mu.Unlock()
			go func() { io.Copy(s, c); s.Close() }()
			io.Copy(c, s)
			c.Close()
		}()
	}
}

func (w *wire) cut(hangs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = hangs
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// TestRollback_withoutTheDatabase goes to a warm set from host.db alone, holds through a kill -9, and is in the ledger when the database
// is back: as the newest release, or as superseded by one that was made elsewhere meanwhile.
func TestRollback_withoutTheDatabase(t *testing.T) {
	t.Parallel()
	t.Run("sqlite locked for ever", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "")
		lock, err := os.OpenFile(filepath.Join(r.home, "kms.db.writer"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		rollBackAlone(t, r, outage{
			begin: func() { unix.Flock(int(lock.Fd()), unix.LOCK_EX) },
			end:   func() { unix.Flock(int(lock.Fd()), unix.LOCK_UN) },
		}, false)
	})
	for name, hangs := range map[string]bool{"mysql gone": false, "mysql hanging": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(testkit.MySQL(t))
			if err != nil {
				t.Fatal(err)
			}
			w := newWire(t, u.Host)
			direct := *u
			u.Host = w.address
			r := newRig(t, u.String())
			r.store.Close()
			if r.store, err = store.Open(t.Context(), direct.String(), store.Options{}); err != nil {
				t.Fatal(err)
			}
			away := outage{begin: w.goAway, end: w.comeBack}
			if hangs {
				away = outage{begin: func() { w.cut(true) }, end: func() { w.cut(false) }}
			}
			rollBackAlone(t, r, away, true)
		})
	}
}

// rollBackAlone rolls back during an outage; the second time, when elsewhere is true, a release is made elsewhere meanwhile.
func rollBackAlone(t *testing.T, r *rig, away outage, elsewhere bool) {
	first, second := r.build(""), r.build("")
	r.release(deploy(over, first))
	r.release(deploy(over, second))
	before := r.version(over)
	away.begin()
	began := time.Now()
	queued, err := r.begin(rollback(over))
	if err != nil || !queued.Queued || queued.State != controlplane.ReleaseDone || queued.Build != first || queued.ID != 0 {
		t.Fatalf("rollback without the database: %+v, %v", queued, err)
	}
	t.Logf("rolled back in %s", time.Since(began).Round(time.Millisecond))
	if v := r.version(over); v.Build != first {
		t.Errorf("%s serves", v.Build)
	}
	if _, err := r.begin(deploy(over, second)); err == nil {
		t.Error("a deploy without the database")
	}
	if !elsewhere { // SQLite, whose lock ends with the control plane's death
		r.kill()
		away.end()
		r.start()
	} else {
		away.end()
	}
	r.settledWithin(30*time.Second, "after the outage", over, before)
	rows, err := r.store.Releases(t.Context(), over, 1)
	if err != nil || rows[0].Kind != store.ReleaseRollback || rows[0].State != store.ReleaseDone || rows[0].Build != first {
		t.Fatalf("the newest release is %+v, %v", rows, err)
	}
	trail, err := r.store.AuditTrail(t.Context(), store.AuditFilter{Subject: "rollback " + over})
	if err != nil || len(trail) != 1 || !strings.HasPrefix(trail[0].Result, "done, queued") || trail[0].Who == "" {
		t.Errorf("the audit trail says %+v, %v", trail, err)
	}
	if !elsewhere {
		return
	}
	third := r.build("")
	r.release(deploy(over, third))
	away.begin()
	if queued, err = r.begin(rollback(over)); err != nil || queued.Build != first {
		t.Fatalf("rollback without the database: %+v, %v", queued, err)
	}
	_, err = r.store.PutRelease(t.Context(), store.Release{Version: over, Build: second, Kind: store.ReleaseDeploy, State: store.ReleaseDone,
		Who: "bob", Node: "elsewhere", StartedAt: time.Now().Add(time.Second), FinishedAt: time.Now().Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if r.t.Name() == "TestRollback_withoutTheDatabase/mysql_gone" {
		r.kill()
		away.end()
		r.start()
	} else {
		away.end()
	}
	testkit.Eventually(t, 30*time.Second, "this host follows", func() bool { v := r.version(over); return v.Build == second && v.Running == nil })
	rows, err = r.store.Releases(t.Context(), over, 3)
	superseded := 0
	for _, row := range rows {
		if row.State == store.ReleaseSuperseded && row.Build == first {
			superseded++
		}
	}
	if err != nil || superseded != 1 {
		t.Errorf("the ledger has %+v, %v", rows, err)
	}
	r.settledWithin(10*time.Second, "after it was superseded", over, r.version(over))
}
