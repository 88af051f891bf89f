package daemon

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/names"
)

// Canary leads a share of a version's users to another build: a set of it is started and probed unless one runs. With the build of
// the canary there is it changes the share. Errors: NotFound for an unknown version or build, InUse beside another canary, Unhealthy
// when the build does not start or does not pass its gate, LeaseHeld while the version is being changed, for whose end it waits up to
// r.Wait.
func (d *Daemon) Canary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
	f := d.newPlace(controlplane.Release{Kind: controlplane.KindCanary, Version: r.Version, Build: r.Build, Who: r.Who, Message: r.Message}, r.Version)
	f.gate = r.Gate
	c := controlplane.Canary{Version: r.Version, Build: r.Build, Percent: r.Percent, Who: r.Who, Message: r.Message}
	err := d.arrange(ctx, f, r.Wait, func() error { return d.checkCanary(ctx, r) }, func() error { return d.mayCanary(r) }, func(ctx context.Context) error {
		s, err := f.setFor(ctx)
		if err != nil {
			return err
		}
		c.Label, c.Set, c.Since, c.Counted = s.Label, s.ID, time.Now(), map[string]map[string]float64{}
		for _, side := range []*set{d.servingSet(r.Version), s} {
			side.ua.poll(ctx)
			c.Counted[side.ID] = side.counted()
		}
		if err := d.putCanary(&c, f.entry(nil)); err != nil {
			return err
		}
		failpoint.Reach(failpoint.CanaryWritten)
		return d.rearrange(r.Version, "version "+r.Version+" tries another build")
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (d *Daemon) checkCanary(ctx context.Context, r controlplane.CanaryRequest) error {
	if err := names.Version(r.Version); err != nil {
		return controlplane.Errorf(controlplane.Usage, "%v", err)
	}
	if r.Percent < 1 || r.Percent > 99 {
		return controlplane.Errorf(controlplane.Usage, "bad share %d%%: want 1%% to 99%%", r.Percent)
	}
	return d.knownBuild(ctx, r.Build)
}

func (d *Daemon) mayCanary(r controlplane.CanaryRequest) error {
	stable := d.servingSet(r.Version)
	if stable == nil || !d.routed(r.Version) {
		return d.unknownVersion(r.Version)
	}
	if err := d.besideCanary(r.Version, r.Build); err != nil {
		return err
	}
	if stable.Build == r.Build {
		return controlplane.Errorf(controlplane.Usage, "version %s serves build %s already", r.Version, r.Build[:12]).WithHint("kmsctl list")
	}
	return nil
}

// besideCanary refuses what would put a third build beside a version's canary.
func (d *Daemon) besideCanary(version, build string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.canaryLocked(version)
	if !ok || c.Build == build {
		return nil
	}
	return controlplane.Errorf(controlplane.InUse, "version %s has a canary: build %s at %d%%", version, c.Build[:12], c.Percent).
		WithHint("kmsctl canary promote %s, or kmsctl canary withdraw %s", version, version)
}

// putCanary makes a canary durable beside the set that serves. Another share of the same build keeps the time since when it runs, and
// what was counted by then.
func (d *Daemon) putCanary(c *controlplane.Canary, entry hostdb.Audit) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, ok := d.canaryLocked(c.Version); ok && before.Set == c.Set {
		c.Since, c.Counted = before.Since, before.Counted
	}
	c.Beside = d.routes[c.Version].Stable
	if err := d.host.PutCanary(*c, entry); err != nil {
		return err
	}
	d.canaries[c.Version] = *c
	return nil
}

// WithdrawCanary ends a canary: its users are led to the stable set, and its clients move there at the pace of a drain. One that only
// begins is undone. It needs no shared database. Errors: NotFound without a canary, LeaseHeld while a release or pin of the version is
// under way.
func (d *Daemon) WithdrawCanary(ctx context.Context, r controlplane.WithdrawRequest) error {
	f := d.newPlace(controlplane.Release{Kind: controlplane.KindWithdraw, Version: r.Version, Who: r.Who, Message: r.Message}, r.Version)
	defer f.cancel(nil)
	err := d.withdraw(ctx, f)
	d.auditEnd(f.entry(err), err)
	return err
}

func (d *Daemon) withdraw(ctx context.Context, f *flight) error {
	version := f.record.Release.Version
	if _, none := d.canary(version); none != nil && !d.canaryBegins(version) {
		return none
	}
	if err := d.claim(ctx, f, 0); err != nil {
		return controlplane.AsError(err).WithHint("kmsctl events -f, then try again")
	}
	defer d.unclaim(f)
	if _, none := d.canary(version); none != nil {
		return d.host.PutAudit(f.entry(nil)) // it was taken over before anybody was led there
	}
	return d.dropCanary(version, "version "+version+" moves to another build", f.entry(nil))
}

// canaryBegins reports whether a canary of the version is under way that nobody is led to yet, or one that gets another share.
func (d *Daemon) canaryBegins(version string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.flights[version]
	return f != nil && f.record.Release.Kind == controlplane.KindCanary
}

// canary returns the canary in force, or NotFound.
func (d *Daemon) canary(version string) (controlplane.Canary, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.canaryLocked(version)
	if !ok {
		return c, controlplane.Errorf(controlplane.NotFound, "version %q has no canary", version).
			WithHint("kmsctl deploy BUILD --as %s --canary 10%%", version)
	}
	return c, nil
}

// dropCanary ends a canary: its users are led to the stable set, and its clients move there.
func (d *Daemon) dropCanary(version, message string, entry hostdb.Audit) error {
	if err := d.deleteCanary(version, entry); err != nil {
		return err
	}
	failpoint.Reach(failpoint.CanaryForgotten)
	return d.rearrange(version, message)
}

func (d *Daemon) deleteCanary(version string, entry hostdb.Audit) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.host.DeleteCanary(version, entry); err != nil {
		return err
	}
	delete(d.canaries, version)
	return nil
}

// CanaryReport holds a canary against the set beside it.
func (d *Daemon) CanaryReport(ctx context.Context, version string) (*controlplane.CanaryReport, error) {
	c, err := d.canary(version)
	if err != nil {
		return nil, err
	}
	report := &controlplane.CanaryReport{Canary: c, Stable: d.side(c, c.Beside), New: d.side(c, c.Set)}
	seen, err := d.nginx.Traffic(version, c.Since, func(bucket int) bool { return bucket < c.Percent })
	if err != nil {
		return nil, err
	}
	report.From = seen.From
	report.Stable.Traffic, report.New.Traffic = seen.Stable, seen.Canary
	return report, nil
}

// restartsCounter counts the restarts of a set's processes, beside what they count themselves.
const restartsCounter = "restarts"

// counted is what a set's ua has counted since it began, and how often its processes were started again.
func (s *set) counted() map[string]float64 {
	_, stats := s.ua.lastPoll()
	out := maps.Clone(stats.GetValues())
	if out == nil {
		out = map[string]float64{}
	}
	for _, in := range s.instances() {
		out[restartsCounter] += float64(in.info().Restarts)
	}
	return out
}

// side is one of the two builds as its own processes see it, since the canary began: a set may have served long before.
func (d *Daemon) side(c controlplane.Canary, set string) controlplane.CanarySide {
	s := d.setByID(set)
	if s == nil {
		return controlplane.CanarySide{Set: set}
	}
	out := controlplane.CanarySide{Set: s.ID, Build: s.Build, Label: s.Label, Healthy: true, Closed: map[string]int64{}}
	for _, in := range s.instances() {
		out.Healthy = out.Healthy && in.info().State == controlplane.InstanceReady
	}
	ua, now, before := s.ua.info(), s.counted(), c.Counted[set]
	if out.Restarts = int(now[restartsCounter]); !d.startedAt.After(c.Since) { // else there was nobody to count them before
		out.Restarts -= int(before[restartsCounter])
	}
	if ua.StartedAt.After(c.Since) { // it counts from the beginning again
		before = nil
	}
	since := func(name string) int64 { return max(0, int64(now[name]-before[name])) }
	out.Connections, out.MessagesPS = ua.Connections, ua.MessagesPS
	out.Logins, out.LoginErrors = since("logins_total"), since("login_errors_total")
	out.Frames, out.FrameErrors = since("frames_in_total"), since("errors_total")
	for name := range now {
		if code, ok := closeCode(name); ok && since(name) > 0 {
			out.Closed[code] = since(name)
		}
	}
	return out
}

// closeCode takes a close code out of the name of its counter.
func closeCode(name string) (code string, ok bool) {
	rest, ok := strings.CutPrefix(name, "closed_")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "_total")
}
