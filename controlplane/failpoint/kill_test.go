package failpoint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// kind is a sort of release that is killed at each of its points.
type kind struct {
	name string
	// prepare makes the release possible, with a control plane that has no fail point, and returns it.
	prepare func(*rig) controlplane.ReleaseRequest
	// dies is the point at which an earlier control plane is killed, when what is to be killed is the settling.
	dies string
}

const over, fresh = "2.0", "3"

// overKinds change one version again and again; freshKinds make a name and take it away.
var overKinds = []kind{
	{name: "deploy over another build", prepare: deployOver},
	{name: "warm rollback", prepare: warmRollback},
	{name: "cold rollback", prepare: coldRollback},
	{name: "deploy that fails its gate", prepare: func(r *rig) controlplane.ReleaseRequest {
		return deploy(over, r.build(`[ "$1" != probe ] || exit 1`))
	}},
	{name: "deploy that fails behind nginx", prepare: func(r *rig) controlplane.ReleaseRequest {
		return deploy(over, r.build(`[ "$1" != probe ] || export FAKE_REFUSES=https`))
	}},
	{name: "undoing a deploy", prepare: deployOver, dies: "probe" + begun},
	{name: "finishing a deploy", prepare: deployOver, dies: SlotSwapped},
	{name: "finishing a rollback", prepare: warmRollback, dies: SlotSwapped},
}

var freshKinds = []kind{
	{name: "deploy to a new name", prepare: deployFresh},
	{name: "undoing a new name", prepare: deployFresh, dies: "probe" + begun},
	{name: "finishing a new name", prepare: deployFresh, dies: SlotSwapped},
	{name: "retire", prepare: retireFresh},
	{name: "finishing a retire", prepare: retireFresh, dies: "ledger" + begun},
}

func deploy(version, build string) controlplane.ReleaseRequest {
	return controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: version, Build: build, Message: "test"}
}

func deployOver(r *rig) controlplane.ReleaseRequest {
	q := deploy(over, r.build(""))
	q.Gate = controlplane.Gate{WarmUp: "true", Check: "true"}
	return q
}

// warmRollback needs a set that is warm: the first time, and when the release before had failed.
func warmRollback(r *rig) controlplane.ReleaseRequest {
	for {
		for _, s := range r.version(over).Sets {
			if s.State == controlplane.SetWarm || s.State == controlplane.SetDraining {
				return controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: over, Build: s.Build}
			}
		}
		r.release(deploy(over, r.build("")))
	}
}

// coldRollback goes to a build that has no set.
func coldRollback(r *rig) controlplane.ReleaseRequest {
	builds, err := r.client.Builds(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.store.Releases(r.t.Context(), over, 200)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, b := range builds {
		for _, row := range rows { // of those that served once
			if row.State == "done" && row.Build == b.Digest && len(b.UsedBy) == 0 {
				return controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: over, Build: b.Digest}
			}
		}
	}
	r.release(deploy(over, r.build("")))
	return coldRollback(r)
}

// deployFresh retires what earlier ones left when it has become much.
func deployFresh(r *rig) controlplane.ReleaseRequest {
	if live := r.live(); len(live) > 6 {
		for _, v := range live {
			if v != over {
				r.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: v, Force: true, Message: "test"})
			}
		}
	}
	r.builds++
	return deploy(fmt.Sprintf("%s.%d", fresh, r.builds), r.build(""))
}

func retireFresh(r *rig) controlplane.ReleaseRequest {
	for _, v := range r.live() {
		if v != over {
			return controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: v, Force: true, Message: "test"}
		}
	}
	r.release(deployFresh(r))
	return retireFresh(r)
}

func (r *rig) live() (names []string) {
	st, err := r.client.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range st.Versions {
		if v.State == controlplane.Live {
			names = append(names, v.Name)
		}
	}
	return names
}

// TestKill_everyPoint kills the control plane at every point of every kind of release, starts it again, and holds that one valid
// build serves all the time, that no process that served is another, that nothing is left over, and that the ledger tells how
// it ended. Each point must be reached by some kind.
func TestKill_everyPoint(t *testing.T) {
	var mu sync.Mutex
	kills := map[string]map[string]int{} // by store and point
	t.Run("all", func(t *testing.T) {
		for db, url := range map[string]func(*testing.T) string{"sqlite": func(*testing.T) string { return "" }, "mysql": func(t *testing.T) string { return testkit.MySQL(t) }} {
			kills[db] = map[string]int{}
			for group, kinds := range map[string][]kind{"over": overKinds, "fresh": freshKinds} {
				t.Run(db+" "+group, func(t *testing.T) {
					t.Parallel()
					r := newRig(t, url(t))
					r.release(deploy(over, r.build("")))
					own, by := map[string]int{}, map[string]kind{}
					for _, k := range kinds {
						for _, point := range r.killEverywhere(k) {
							name, _ := parse(point)
							own[name]++
							by[name] = k
						}
					}
					for name, n := range own { // what belongs to one kind only gets its second kill
						if n == 1 && r.at(by[name], name) {
							own[name]++
						}
					}
					mu.Lock()
					for name, n := range own {
						kills[db][name] += n
					}
					mu.Unlock()
					slices.Sort(r.back)
					t.Logf("%d kills, recovered after %s (median), %s (worst)", len(r.back), r.back[len(r.back)/2], r.back[len(r.back)-1])
				})
			}
		}
	})
	for db := range kills {
		for _, point := range All() {
			if len(kills[db]) > 0 && kills[db][point] < 2 && !t.Failed() { // or -run left the store out
				t.Errorf("%q was reached %d times on %s, want twice at least", point, kills[db][point], db)
			}
		}
	}
}

// long is whether there is time for more than once.
func long() bool { return os.Getenv("LONG") != "" }

// rounds is how often each point of each kind is tried; most points belong to several kinds.
func rounds() int {
	if long() {
		return 10
	}
	return 1
}

// killEverywhere kills a kind of release at each of its points and returns those that were reached.
func (r *rig) killEverywhere(k kind) []string {
	r.t.Helper()
	points := r.trace(k)
	began := time.Now()
	var reached []string
	for range rounds() {
		for _, point := range points {
			if r.at(k, point) {
				reached = append(reached, point)
			}
		}
	}
	r.t.Logf("%s: killed %d times in %s", k.name, len(reached), time.Since(began).Round(time.Millisecond))
	return reached
}

// trace runs a release of the kind once and returns the points that it reaches in their order; one that is reached more than once
// appears twice.
func (r *rig) trace(k kind) []string {
	r.t.Helper()
	path := filepath.Join(r.home, "trace")
	os.Remove(path)
	q := k.prepare(r)
	before := r.version(q.Version)
	if k.dies != "" {
		r.dieAt(k.dies, q)
		r.start("KMS_FAILPOINT_TRACE=" + path)
	} else {
		r.kill()
		r.start("KMS_FAILPOINT_TRACE=" + path)
		r.release(q)
	}
	r.settled(k.name+", not killed", q.Version, before)
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	var points []string
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if !slices.Contains(points, line) {
			points = append(points, line)
		} else if again := line + ":2"; long() && !slices.Contains(points, again) {
			points = append(points, again)
		}
	}
	return points
}

// dieAt starts a release with a control plane that is killed at a point, and reports whether it was: what is done in the background
// may have been done before.
func (r *rig) dieAt(point string, q controlplane.ReleaseRequest) (reached bool) {
	r.t.Helper()
	r.kill()
	r.start("KMS_FAILPOINT=" + point)
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	begun, err := r.client.Start(ctx, q)
	for err == nil && !begun.Ended() {
		time.Sleep(10 * time.Millisecond)
		begun, err = r.client.Release(ctx, begun.ID) // until it has ended, or nobody answers
	}
	if err := r.awaitDeath(2 * time.Second); err != nil {
		r.t.Logf("%s of %s at %q: %v", q.Kind, q.Version, point, err)
		r.kill()
		return false
	}
	return true
}

// at kills a release of the kind at a point, lets the next control plane recover, and reports whether the point was reached.
func (r *rig) at(k kind, point string) bool {
	r.t.Helper()
	what := fmt.Sprintf("%s, killed at %q", k.name, point)
	q := k.prepare(r)
	before := r.version(q.Version)
	var reached bool
	if k.dies == "" {
		reached = r.dieAt(point, q)
	} else if reached = r.dieAt(k.dies, q); reached {
		r.launch("KMS_FAILPOINT=" + point)
		if err := r.awaitDeath(3 * time.Second); err != nil {
			r.t.Logf("%s: %v", what, err)
			reached = false
			r.kill()
		}
	}
	if before.State == controlplane.Live && q.Kind != controlplane.KindRetire {
		if a, err := r.ask("/ua/" + q.Version + "/demo"); err != nil || a.status != http.StatusOK {
			r.t.Errorf("%s: without a control plane nginx answers %d, %v", what, a.status, err)
		}
	}
	if long() && rand.IntN(3) == 0 {
		r.launch("KMS_FAILPOINT=" + All()[rand.IntN(len(All()))])
		r.awaitDeath(time.Second) // or not, when the recovery does not pass there
		r.kill()
	}
	began := time.Now()
	r.start()
	r.settled(what, q.Version, before)
	r.back = append(r.back, time.Since(began).Round(time.Millisecond))
	return reached
}

// settled waits until nothing of a release is under way any more.
func (r *rig) settled(what, version string, before controlplane.VersionInfo) {
	r.t.Helper()
	// What has to stop is given five seconds before it is killed, and a busy machine takes its time.
	r.settledWithin(12*time.Second, what, version, before)
}

func (r *rig) settledWithin(within time.Duration, what, version string, before controlplane.VersionInfo) {
	r.t.Helper()
	began := time.Now()
	err := r.unsettled(version, before)
	for ; err != nil && time.Since(began) < within; err = r.unsettled(version, before) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}
