package failpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// kind is a sort of change that is killed at each of its points.
type kind struct {
	name string
	// prepare makes the change possible, while nothing is to be killed, and returns it.
	prepare func(*rig) change
	// dies is the point at which an earlier control plane is killed, when what is to be killed is the settling.
	dies string
}

// change is what a control plane is killed in.
type change struct {
	version string
	retires bool
	audit   [2]string                   // action and subject of what the audit trail, and not the ledger, has to tell of it
	run     func(context.Context) error // returns when it has ended, or nobody answers
}

const over, fresh = "2.0", "3"

// groups are the kinds that share a home: they change one version again and again, or make a name and take it away.
var groups = map[string][]kind{
	"forth": {
		{name: "deploy over another build", prepare: deployOver},
		{name: "finishing a deploy", prepare: deployOver, dies: SlotSwapped},
		{name: "undoing a deploy", prepare: deployOver, dies: "probe" + begun},
	},
	"back": {
		{name: "warm rollback", prepare: warmRollback},
		{name: "finishing a rollback", prepare: warmRollback, dies: SlotSwapped},
		{name: "cold rollback", prepare: coldRollback},
	},
	"refused": {
		{name: "deploy that fails its gate", prepare: func(r *rig) change {
			return r.releasing(deploy(over, r.bad(`[ "$1" != probe ] || exit 1`)))
		}},
		{name: "deploy that fails behind nginx", prepare: func(r *rig) change {
			return r.releasing(deploy(over, r.bad(`[ "$1" != probe ] || export FAKE_REFUSES=https`)))
		}},
	},
	"names": {
		{name: "deploy to a new name", prepare: deployFresh},
		{name: "undoing a new name", prepare: deployFresh, dies: "probe" + begun},
		{name: "finishing a new name", prepare: deployFresh, dies: SlotSwapped},
	},
	"gone": {
		{name: "retire", prepare: retireFresh},
		{name: "finishing a retire", prepare: retireFresh, dies: "ledger" + begun},
	},
	"places": {
		{name: "pin", prepare: pin},
		{name: "unpin", prepare: unpin},
		{name: "canary", prepare: canary},
		{name: "withdrawal of a canary", prepare: withdraw},
		{name: "promotion of a canary", prepare: promote},
	},
}

func deploy(version, build string) controlplane.ReleaseRequest {
	return controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: version, Build: build, Message: "test"}
}

// releasing is the change that a release makes.
func (r *rig) releasing(q controlplane.ReleaseRequest) change {
	return change{version: q.Version, retires: q.Kind == controlplane.KindRetire, run: func(ctx context.Context) error {
		begun, err := r.client.Start(ctx, q)
		for err == nil && !begun.Ended() {
			time.Sleep(5 * time.Millisecond)
			begun, err = r.client.Release(ctx, begun.ID)
		}
		return err
	}}
}

func deployOver(r *rig) change {
	q := deploy(over, r.cold())
	q.Gate = controlplane.Gate{WarmUp: "true", Check: "true"}
	return r.releasing(q)
}

// warmRollback needs a set that is warm: the first time, and when the release before had failed.
func warmRollback(r *rig) change {
	for {
		for _, s := range r.version(over).Sets {
			if s.State == controlplane.SetWarm || s.State == controlplane.SetDraining {
				return r.releasing(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: over, Build: s.Build})
			}
		}
		r.release(deploy(over, r.cold()))
	}
}

func coldRollback(r *rig) change {
	return r.releasing(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: over, Build: r.cold()})
}

// cold is a build that has no set.
func (r *rig) cold() string {
	used := map[string]bool{}
	for _, s := range r.version(over).Sets {
		used[s.Build] = true
	}
	for _, build := range r.good {
		if !used[build] {
			return build
		}
	}
	r.good = append(r.good, r.build(""))
	return r.good[len(r.good)-1]
}

// bad is the build whose script has this line; it is made once.
func (r *rig) bad(line string) string {
	if r.scripts == nil {
		r.scripts = map[string]string{}
	}
	if r.scripts[line] == "" {
		r.scripts[line] = r.build(line)
	}
	return r.scripts[line]
}

// deployFresh retires what earlier ones left when it has become much.
func deployFresh(r *rig) change {
	if live := r.live(); len(live) > 4 {
		for _, v := range live {
			if v != over {
				r.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: v, Force: true, Message: "test"})
			}
		}
	}
	r.made++
	return r.releasing(deploy(fmt.Sprintf("%s.%d", fresh, r.made), r.bad("")))
}

func retireFresh(r *rig) change {
	for {
		for _, v := range r.live() {
			if v != over {
				return r.releasing(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: v, Force: true, Message: "test"})
			}
		}
		if err := deployFresh(r).run(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// pinned is the tenant whose pins come and go.
const pinned = "dragon"

// cleared takes pin and canary away, and stops the sets of earlier ones.
func cleared(r *rig) {
	r.places = true
	v := r.version(over)
	if len(v.Pins) > 0 {
		r.done(r.client.Unpin(r.t.Context(), over, pinned))
	}
	if v.Canary != nil {
		r.done(r.client.WithdrawCanary(r.t.Context(), over))
	}
	if len(v.Sets) > 4 {
		idle := func() bool { // a release stops what is warm, not what drains
			return !slices.ContainsFunc(r.version(over).Sets, func(s controlplane.Set) bool {
				return s.State != controlplane.SetWarm && s.State != controlplane.SetServing
			})
		}
		testkit.Eventually(r.t, 20*time.Second, "the sets of earlier pins and canaries are warm", idle)
		r.release(deploy(over, r.cold()))
		testkit.Eventually(r.t, 20*time.Second, "they have stopped", func() bool { return len(r.version(over).Sets) <= 2 })
	}
}

func (r *rig) done(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func pin(r *rig) change {
	cleared(r)
	if _, err := r.store.CreateTenant(r.t.Context(), store.Tenant{ID: pinned}); err != nil && !errors.Is(err, store.ErrExists) {
		r.t.Fatal(err)
	}
	build := r.cold()
	return change{version: over, audit: [2]string{"pin", over + "/" + pinned}, run: func(ctx context.Context) error {
		_, err := r.client.Pin(ctx, controlplane.PinRequest{Version: over, Tenant: pinned, Build: build})
		return err
	}}
}

func unpin(r *rig) change {
	r.done(pin(r).run(r.t.Context()))
	return change{version: over, audit: [2]string{"unpin", over + "/" + pinned}, run: func(ctx context.Context) error { return r.client.Unpin(ctx, over, pinned) }}
}

func canary(r *rig) change {
	cleared(r)
	build := r.cold()
	return change{version: over, audit: [2]string{"canary", over}, run: func(ctx context.Context) error {
		_, err := r.client.StartCanary(ctx, controlplane.CanaryRequest{Version: over, Build: build, Percent: 50})
		return err
	}}
}

func withdraw(r *rig) change {
	r.done(canary(r).run(r.t.Context()))
	return change{version: over, audit: [2]string{"canary withdraw", over}, run: func(ctx context.Context) error { return r.client.WithdrawCanary(ctx, over) }}
}

func promote(r *rig) change {
	r.done(canary(r).run(r.t.Context()))
	return r.releasing(deploy(over, r.version(over).Canary.Build))
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

// tally counts the kills, by store and point.
type tally struct {
	mu    sync.Mutex
	kills map[string]map[string]int
}

func (k *tally) add(db, point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kills[db][point]++
}

func (k *tally) of(db, point string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kills[db][point]
}

// TestKill_everyPoint kills the control plane at every point of every kind of release, and of pins and canaries, starts it again, and
// holds that one valid build serves all the time, that no process that served is another, that nothing is left over, and that the
// ledger tells how it ended. The points of a kind are shared out between the stores; each point must be reached twice on both.
func TestKill_everyPoint(t *testing.T) {
	t.Parallel()
	kills := &tally{kills: map[string]map[string]int{}}
	t.Run("all", func(t *testing.T) {
		for db, url := range map[string]func(*testing.T) string{"sqlite": func(*testing.T) string { return "" }, "mysql": func(t *testing.T) string { return testkit.MySQL(t) }} {
			kills.kills[db] = map[string]int{}
			for group, kinds := range groups {
				t.Run(db+" "+group, func(t *testing.T) {
					t.Parallel()
					killGroup(t, newRig(t, url(t)), db, kinds, kills)
				})
			}
		}
	})
	for db, reached := range kills.kills {
		for _, point := range All() {
			if len(reached) > 0 && reached[point] < 2 && !t.Failed() { // or -run left the store out
				t.Errorf("%q was reached %d times on %s, want twice at least", point, reached[point], db)
			}
		}
	}
}

// killGroup kills all kinds of a group, and once more at points that are too seldom reached so far.
func killGroup(t *testing.T, r *rig, db string, kinds []kind, kills *tally) {
	r.release(deploy(over, r.cold()))
	by := map[string]kind{}
	for i, k := range kinds {
		began, points, n := time.Now(), r.trace(k), 0
		for _, point := range points {
			by[point] = k
		}
		for at, point := range slices.Repeat(points, rounds()) {
			name, _ := parse(point)
			if ours := (at+i)%2 == 0; !long() && ours != (db == "sqlite") || !r.at(k, point) {
				continue
			}
			kills.add(db, name)
			n++
		}
		t.Logf("%s: killed %d times in %s", k.name, n, time.Since(began).Round(time.Millisecond))
	}
	for point, k := range by {
		name, _ := parse(point)
		for range 2 {
			if kills.of(db, name) < 2 && r.at(k, name) {
				kills.add(db, name)
			}
		}
	}
	slices.Sort(r.back)
	t.Logf("%d kills, recovered after %s (median), %s (worst)", len(r.back), r.back[len(r.back)/2], r.back[len(r.back)-1])
	if err := r.ledgerTells(over, r.version(over), 1_000_000); err != nil {
		t.Error(err)
	}
	r.releasesAudited()
}

// releasesAudited holds that the audit trail tells once of each release that was begun, and as the ledger does how it ended.
func (r *rig) releasesAudited() {
	r.t.Helper()
	rows, err := r.store.Releases(r.t.Context(), "", 1_000_000)
	r.done(err)
	trail, err := r.store.AuditTrail(r.t.Context(), store.AuditFilter{Limit: 1_000_000})
	r.done(err)
	told := map[string]int{}
	for _, a := range trail {
		if state, rest, ok := strings.Cut(a.Result, ": release "); ok && a.Action == "release" {
			number, _, _ := strings.Cut(rest, ":")
			told[state+" "+number+" "+a.Subject]++
		}
	}
	for _, row := range rows {
		want := 1
		if strings.Contains(row.Error, "before the release began") {
			want = 0
		}
		if n := told[fmt.Sprintf("%s %d %s %s", row.State, row.ID, row.Kind, row.Version)]; n != want {
			r.t.Errorf("the audit trail tells %d times, want %d, of release %+v", n, want, row)
		}
	}
}

// long is whether there is time for more than once.
func long() bool { return os.Getenv("LONG") != "" }

// rounds is how often each point of each kind is tried; most points belong to several kinds. Ten take more than half an hour.
func rounds() int {
	if long() {
		return 6
	}
	return 1
}

// trace makes a change of the kind once and returns the points that it reaches in their order; one that is reached more than once
// appears twice.
func (r *rig) trace(k kind) []string {
	r.t.Helper()
	c := k.prepare(r)
	before := r.version(c.version)
	if k.dies != "" {
		if !r.dieAt(k.dies, c) {
			r.t.Fatalf("%s: %q was not reached", k.name, k.dies)
		}
	}
	os.Remove(r.trail())
	if k.dies != "" {
		r.start()
	} else if err := c.run(r.t.Context()); err != nil {
		r.t.Fatalf("%s: %v", k.name, err)
	}
	r.settled(k.name+", not killed", c.version, before)
	text, err := os.ReadFile(r.trail())
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

// dieAt makes a change with a control plane that is killed at a point, and reports whether it was: what is done in the background
// may have been done before.
func (r *rig) dieAt(point string, c change) (reached bool) {
	r.t.Helper()
	r.order(point)
	defer r.order("")
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	_ = c.run(ctx) // what becomes of it is held afterwards
	if err := r.awaitDeath(2 * time.Second); err != nil {
		r.t.Logf("%s at %q: %v", c.version, point, err)
		return false
	}
	return true
}

// at kills a change of the kind at a point, lets the next control plane recover, and reports whether the point was reached.
func (r *rig) at(k kind, point string) bool {
	r.t.Helper()
	what := fmt.Sprintf("%s, killed at %q", k.name, point)
	c := k.prepare(r)
	before, audits := r.version(c.version), r.audits(c)
	reached := false
	if k.dies == "" {
		reached = r.dieAt(point, c)
	} else if r.dieAt(k.dies, c) {
		reached = r.diesSettling(point)
	}
	if before.State == controlplane.Live && !c.retires {
		if a, err := r.ask("/ua/" + c.version + "/demo"); err != nil || a.status != http.StatusOK {
			r.t.Errorf("%s: without a control plane nginx answers %d, %v", what, a.status, err)
		}
	}
	if long() && reached && rand.IntN(3) == 0 {
		r.diesSettling(All()[rand.IntN(len(All()))]) // or not, when the recovery does not pass there
	}
	began := time.Now()
	if r.gone() {
		r.start()
	}
	r.settled(what, c.version, before)
	if reached {
		r.audited(what, point, c, before, r.audits(c)[len(audits):])
	}
	r.back = append(r.back, time.Since(began).Round(time.Millisecond))
	return reached
}

// audits are the entries of the audit trail of the change's kind, oldest first.
func (r *rig) audits(c change) (list []store.Audit) {
	r.t.Helper()
	if c.audit[0] == "" {
		return nil
	}
	all, err := r.store.AuditTrail(r.t.Context(), store.AuditFilter{Subject: c.audit[1], Limit: 10_000})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Reverse(all)
	return slices.DeleteFunc(all, func(a store.Audit) bool { return a.Action != c.audit[0] })
}

// audited holds that the audit trail tells once of a pin or canary that was begun: who, and whether it is done or undone.
func (r *rig) audited(what, point string, c change, before controlplane.VersionInfo, told []store.Audit) {
	r.t.Helper()
	name, _ := parse(point)
	if c.audit[0] == "" || name == BeforeLease || name == LeaseTaken {
		if len(told) > 0 {
			r.t.Errorf("%s: nothing was begun, and the audit trail says %+v", what, told)
		}
		return
	}
	after := r.version(c.version)
	changed := len(after.Pins) != len(before.Pins) || (after.Canary == nil) != (before.Canary == nil)
	if len(told) != 1 || told[0].Who == "" || (told[0].Result == "done") != changed || !changed && !strings.HasPrefix(told[0].Result, "undone: the control plane was killed") {
		r.t.Errorf("%s: changed %v, and the audit trail says %+v", what, changed, told)
	}
}

// diesSettling starts a control plane that is killed at a point, and reports whether it was.
func (r *rig) diesSettling(point string) bool {
	r.order(point)
	defer r.order("")
	r.launch()
	err := r.awaitDeath(3 * time.Second)
	if err != nil {
		r.t.Logf("%q: %v", point, err)
	}
	return err == nil
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
