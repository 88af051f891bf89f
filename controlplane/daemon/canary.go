package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/runtime/names"
)

// Canary leads a share of a version's users to another build: a set of it is started and probed unless one runs. With the build of
// the canary there is it changes the share. Errors: NotFound for an unknown version or build, InUse beside another canary, Unhealthy
// when the build does not start or does not pass its gate, LeaseHeld while a release of the version runs, for whose end it waits up to
// r.Wait.
func (d *Daemon) Canary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
	for until := time.Now().Add(r.Wait); ; {
		c, err := d.startCanary(ctx, r)
		if err == nil || controlplane.AsError(err).Kind != controlplane.LeaseHeld || !time.Now().Before(until) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(leasePoll):
		}
	}
}

func (d *Daemon) startCanary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
	d.pinMu.Lock()
	defer d.pinMu.Unlock()
	stable, err := d.checkCanary(ctx, r)
	if err != nil {
		return nil, err
	}
	s, err := d.setOf(ctx, r.Version, r.Build, r.Gate)
	if err != nil {
		return nil, err
	}
	c := controlplane.Canary{
		Version: r.Version, Build: r.Build, Label: s.Label, Set: s.ID, Beside: stable.ID, Percent: r.Percent, Since: time.Now(),
		Who: r.Who, Message: r.Message,
	}
	if err := d.putCanary(&c, s); err != nil {
		return nil, err
	}
	failpoint.Reach(failpoint.CanaryWritten)
	return &c, d.rearrange(r.Version, "version "+r.Version+" tries another build")
}

// checkCanary returns the set beside which the canary would be.
func (d *Daemon) checkCanary(ctx context.Context, r controlplane.CanaryRequest) (stable *set, err error) {
	if err := names.Version(r.Version); err != nil {
		return nil, controlplane.Errorf(controlplane.Usage, "%v", err)
	}
	if r.Percent < 1 || r.Percent > 99 {
		return nil, controlplane.Errorf(controlplane.Usage, "bad share %d%%: want 1%% to 99%%", r.Percent)
	}
	stable = d.servingSet(r.Version)
	if stable == nil || !d.routed(r.Version) {
		return nil, d.unknownVersion(r.Version)
	}
	if err := errors.Join(d.notChanging(r.Version), d.besideCanary(r.Version, r.Build)); err != nil {
		return nil, err
	}
	if stable.Build == r.Build {
		return nil, controlplane.Errorf(controlplane.Usage, "version %s serves build %s already", r.Version, r.Build[:12]).WithHint("kmsctl list")
	}
	return stable, d.knownBuild(ctx, r.Build)
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

// putCanary makes a canary durable, unless its set or what it is to stand beside went away meanwhile. Another share of the same build
// keeps the time since when it runs.
func (d *Daemon) putCanary(c *controlplane.Canary, s *set) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	route := d.routes[c.Version]
	if d.sets[s.ID] != s || s.ending || d.flights[c.Version] != nil || route.State != controlplane.Live || route.Stable != c.Beside {
		return controlplane.Errorf(controlplane.LeaseHeld, "version %s was changed just now", c.Version).WithHint("kmsctl history %s, then try again", c.Version)
	}
	if before, ok := d.canaryLocked(c.Version); ok && before.Set == c.Set {
		c.Since = before.Since
	}
	if err := d.host.PutCanary(*c); err != nil {
		return err
	}
	d.canaries[c.Version] = *c
	return nil
}

// WithdrawCanary ends a canary: its users are led to the stable set, and its clients move there at the pace of a drain.
func (d *Daemon) WithdrawCanary(ctx context.Context, version string) error {
	d.pinMu.Lock()
	defer d.pinMu.Unlock()
	if err := d.notChanging(version); err != nil {
		return err
	}
	if _, err := d.canary(version); err != nil {
		return err
	}
	return d.dropCanary(version, "version "+version+" moves to another build")
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
func (d *Daemon) dropCanary(version, message string) error {
	if err := d.host.DeleteCanary(version); err != nil {
		return err
	}
	failpoint.Reach(failpoint.CanaryForgotten)
	d.mu.Lock()
	delete(d.canaries, version)
	d.mu.Unlock()
	return d.rearrange(version, message)
}

// CanaryReport holds a canary against the set beside it.
func (d *Daemon) CanaryReport(ctx context.Context, version string) (*controlplane.CanaryReport, error) {
	c, err := d.canary(version)
	if err != nil {
		return nil, err
	}
	report := &controlplane.CanaryReport{Canary: c, Stable: d.side(c.Beside), New: d.side(c.Set)}
	seen, err := d.nginx.Traffic(version, c.Since, func(bucket int) bool { return bucket < c.Percent })
	if err != nil {
		return nil, err
	}
	report.From = seen.From
	report.Stable.Traffic, report.New.Traffic = seen.Stable, seen.Canary
	return report, nil
}

// side is one of the two builds as its own processes see it.
func (d *Daemon) side(set string) controlplane.CanarySide {
	s := d.setByID(set)
	if s == nil {
		return controlplane.CanarySide{Set: set}
	}
	out := controlplane.CanarySide{Set: s.ID, Build: s.Build, Label: s.Label, Healthy: true, Closed: map[string]int64{}}
	for _, in := range s.instances() {
		info := in.info()
		out.Healthy = out.Healthy && info.State == controlplane.InstanceReady
		out.Restarts += info.Restarts
	}
	ua := s.ua.info()
	_, stats := s.ua.lastPoll()
	v := stats.GetValues()
	out.Connections, out.MessagesPS = ua.Connections, ua.MessagesPS
	out.Logins, out.LoginErrors = int64(v["logins_total"]), int64(v["login_errors_total"])
	out.Frames, out.FrameErrors = int64(v["frames_in_total"]), int64(v["errors_total"])
	for name, n := range v {
		if code, ok := closeCode(name); ok {
			out.Closed[code] = int64(n)
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
