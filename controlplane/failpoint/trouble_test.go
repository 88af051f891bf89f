package failpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// of is the rig as a test beside others on it sees it.
func (r *rig) of(t *testing.T) *rig {
	here := *r
	here.t = t
	return &here
}

// TestTrouble_badBuilds: what passes the gate and misbehaves then.
func TestTrouble_badBuilds(t *testing.T) {
	r := newRig(t, "")
	moon := filepath.Join(r.home, "the-moon-has-set")
	crashing := r.build(`[ "$1" != ua ] || { while [ ! -e ` + moon + ` ]; do sleep 0.05; done; echo 'the moon has set' >&2; kill -9 $$; } &`)
	stubborn := r.build("export FAKE_STUBBORN=1; trap '' TERM; sleep 1000 &")
	flooding := r.build("export FAKE_FLOODS=1")
	t.Run("all", func(t *testing.T) {
		for name, run := range map[string]func(*rig){
			"crashes":      func(r *rig) { crashes(r, crashing, moon) },
			"ignores stop": func(r *rig) { ignoresStop(r, stubborn) },
			"floods":       func(r *rig) { floods(r, flooding) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(r.of(t))
			})
		}
	})
}

// crashes: it is started again until that makes no sense any more, is told with its last words, and the build before is a swap away.
func crashes(r *rig, build, moon string) {
	const version = "3.1"
	good := r.build("# before it crashes")
	r.release(deploy(version, good))
	before := r.version(version)
	r.release(deploy(version, build))
	if err := os.WriteFile(moon, nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
	var ua controlplane.Instance
	testkit.Eventually(r.t, 40*time.Second, "it is given up", func() bool {
		v := r.version(version)
		ua = v.Sets[0].Instances[0]
		return ua.State == controlplane.InstanceFailed && !v.Healthy
	})
	if !strings.Contains(ua.Problem, "crashes again and again") || !strings.Contains(ua.Problem, "the moon has set") {
		r.t.Errorf("status says %+v", ua)
	}
	if a, err := r.ask("/ua/" + version + "/demo"); err != nil || a.status != http.StatusBadGateway {
		r.t.Errorf("meanwhile nginx answers %d, %v", a.status, err)
	}
	if a, err := r.ask("/api/" + version + "/demo/x"); err != nil || a.status != http.StatusOK {
		r.t.Errorf("its api answers %d, %v", a.status, err)
	}
	if done := r.release(rollback(version)); done.State != controlplane.ReleaseDone || done.Build != good {
		r.t.Errorf("the rollback: %+v", done)
	}
	v := r.version(version)
	if err := r.serves(version, v); err != nil {
		r.t.Error(err)
	}
	if err := r.keptPIDs(before, v); err != nil {
		r.t.Error(err)
	}
}

// ignoresStop: asked, told by TERM, and in the end killed with all that it started.
func ignoresStop(r *rig, build string) {
	const version = "3.2"
	r.release(deploy(version, build))
	set := r.version(version).Sets[0]
	mark := "/run/p/" + set.ID
	if n := len(r.processes(mark)); n != 4 {
		r.t.Fatalf("the set has %d processes, want ua, api and what each started", n)
	}
	if done := r.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: version, Force: true, Message: "test"}); done.State != controlplane.ReleaseDone {
		r.t.Errorf("the retirement: %+v", done.Error)
	}
	if left := r.processes(mark); len(left) > 0 {
		r.t.Errorf("processes are left: %v", left)
	}
}

// floods: its output goes to its log, whose size is bounded, and holds up neither it nor the control plane.
func floods(r *rig, build string) {
	const version = "3.3"
	r.release(deploy(version, build))
	set := r.version(version).Sets[0]
	log := filepath.Join(r.home, "logs", version, set.ID, "ua.log")
	testkit.Eventually(r.t, 40*time.Second, "80 MiB are printed, of which the last are kept", func() bool {
		kept, err := os.Stat(log + ".1")
		now, err2 := os.Stat(log)
		return err == nil && err2 == nil && kept.Size() == 64<<20 && now.Size() < 64<<20
	})
	v := r.version(version)
	if err := r.serves(version, v); err != nil {
		r.t.Error(err)
	}
	if v.Sets[0].Instances[0].PID != set.Instances[0].PID {
		r.t.Error("it was started again")
	}
}

// TestTrouble_diskFull: nothing is left of what did not fit, and all else goes on.
func TestTrouble_diskFull(t *testing.T) {
	unshare := testkit.Need(t, "unshare")
	mine := []string{unshare, "--mount"} // no one else sees what is mounted, and it ends with the last process
	if exec.Command(unshare, "--mount", "true").Run() != nil {
		mine = []string{unshare, "--map-root-user", "--mount"}
	}
	r := newRigIn(t, "", func(home string) []string {
		return append(mine, "sh", "-c", `mkdir -p "$0" && mount -t tmpfs -o size=1m none "$0" && exec "$@"`, filepath.Join(home, "artifacts"))
	})
	r.release(deploy(over, r.build("")))
	before := r.version(over)
	large := strings.Repeat("x", 4<<20)
	for range 2 {
		_, err := r.client.AddBuild(t.Context(), strings.NewReader(large), int64(len(large)), nil)
		if err == nil {
			t.Fatal("4 MiB fit into 1")
		}
		if e := controlplane.AsError(err); e.Kind != controlplane.Failed || !strings.Contains(e.Message, "is full") || !strings.Contains(e.Hint, "kmsctl build gc") {
			t.Errorf("a full disk is told as %+v", e)
		}
	}
	if err := r.serves(over, before); err != nil {
		t.Error(err)
	}
	if done := r.release(deploy(over, r.build("# that fits"))); done.State != controlplane.ReleaseDone {
		t.Errorf("a build that fits: %+v", done.Error)
	}
}

// TestTrouble_nginx: one that refuses its configuration or is killed half way costs no one the old build.
func TestTrouble_nginx(t *testing.T) {
	r := newRig(t, "")
	r.release(deploy(over, r.build("")))
	before := r.version(over)

	// Killed during the release of a new name, which needs it.
	q := deploy(fresh+".1", r.build(""))
	q.Gate.WarmUp = fmt.Sprintf("kill -9 $(cat %s/nginx/nginx.pid)", r.home)
	if done := r.release(q); done.State != controlplane.ReleaseDone {
		t.Errorf("nginx was killed: %+v", done.Error)
	}
	r.settled("after nginx was killed", q.Version, controlplane.VersionInfo{})

	cert := filepath.Join(r.home, "nginx", "tls", "cert.pem")
	good, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	q = deploy(fresh+".2", r.build(""))
	failed := r.release(q)
	if e := failed.Error; e == nil || e.Kind != controlplane.Unhealthy || !strings.Contains(e.Message, "cert.pem") {
		t.Errorf("nginx refuses its configuration: %+v", e)
	}
	if err := os.WriteFile(cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := r.ask("/ua/" + q.Version + "/demo"); err != nil || a.status != http.StatusNotFound {
		t.Errorf("the new name answers %d, %v", a.status, err)
	}
	r.settled("after nginx refused", over, before)
	if done := r.release(q); done.State != controlplane.ReleaseDone {
		t.Errorf("once nginx takes it: %+v", done.Error)
	}
}

// TestTrouble_databaseAwayMidRelease: a deploy that cannot be written down is undone, told so, and its entry comes later.
func TestTrouble_databaseAwayMidRelease(t *testing.T) {
	u, err := url.Parse(testkit.MySQL(t))
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, u.Host)
	u.Host = w.address
	r := newRig(t, u.String())
	r.release(deploy(over, r.build("")))
	before := r.version(over)
	q := deploy(over, r.build(""))
	q.Gate.WarmUp = "sleep 1"
	begun, err := r.begin(q)
	if err != nil {
		t.Fatal(err)
	}
	w.goAway()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended, err := r.client.Follow(ctx, begun.ID, func(controlplane.Event) {})
	if err != nil || ended.Error == nil || ended.Error.Kind != controlplane.Unhealthy || !strings.Contains(ended.Error.Message, "still serves its old build") {
		t.Errorf("the release: %+v, %v", ended, err)
	}
	if err := r.serves(over, before); err != nil {
		t.Error(err)
	}
	w.comeBack()
	r.settledWithin(30*time.Second, "after the outage", over, before)
	row, err := r.store.Release(t.Context(), begun.ID)
	if err != nil || row.State != "failed" || row.Error == "" {
		t.Errorf("the ledger says %+v, %v", row, err)
	}
}
