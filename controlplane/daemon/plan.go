package daemon

import (
	"context"
	"errors"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// Plan tells what a request would do. No steps: nothing would change.
func (d *Daemon) Plan(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Plan, error) {
	if err := d.resolve(ctx, &r); err != nil {
		return nil, err
	}
	plan := &controlplane.Plan{Version: r.Version, To: r.Build, Steps: []string{}}
	replaced := d.replacedNow(r.Version)
	serving := d.servingSet(r.Version)
	if serving != nil {
		plan.From = serving.Build
	}
	switch {
	case r.Kind == controlplane.KindRetire:
		holders, err := d.holders(ctx, r.Version)
		if err != nil {
			return nil, err
		}
		plan.Holders, plan.To = holders, ""
		plan.Steps = []string{"answer 410 for " + r.Version, "tell its clients to move", "stop its sets"}
	case r.Kind == controlplane.KindRollback && replaced == r.Build && replaced != "":
		plan.Steps = []string{"end the deploy that is under way, which undoes it", "write the ledger"}
	case d.serves(r.Version, r.Build):
	case d.warmSet(r.Version, r.Build) != nil:
		plan.Steps = append(r.Gate.Steps(), "swap the slot to the warm set", "write the ledger", "drain the old set")
	default:
		plan.Steps = d.deploySteps(r, plan.From != "")
	}
	return plan, nil
}

func (d *Daemon) deploySteps(r controlplane.ReleaseRequest, replaces bool) []string {
	steps := append([]string{"start a set", "probe its sockets", "wait for its bus"}, r.Gate.Steps()...)
	steps = append(steps, "swap the slot")
	if !d.routed(r.Version) {
		steps = append(steps, "add the name to nginx and reload")
	}
	steps = append(steps, "probe through nginx", "write the ledger")
	if replaces {
		steps = append(steps, "drain the old set")
	}
	return steps
}

// resolve checks a request and completes its build.
func (d *Daemon) resolve(ctx context.Context, r *controlplane.ReleaseRequest) error {
	if err := names.Version(r.Version); err != nil {
		return controlplane.Errorf(controlplane.Usage, "%v", err)
	}
	switch r.Kind {
	case controlplane.KindDeploy:
		if err := d.besideCanary(r.Version, r.Build); err != nil {
			return err
		}
		return d.knownBuild(ctx, r.Build)
	case controlplane.KindRollback:
		return d.resolveRollback(ctx, r)
	case controlplane.KindRetire:
		return d.resolveRetire(r)
	}
	return controlplane.Errorf(controlplane.Usage, "unknown kind of release %q", r.Kind)
}

// knownBuild refuses a build that was never uploaded, or whose file this host does not have.
func (d *Daemon) knownBuild(ctx context.Context, digest string) error {
	b, err := d.Store().Build(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return controlplane.Errorf(controlplane.NotFound, "there is no build %q", digest).WithHint("kmsctl build list")
	}
	if err == nil && !d.stored(b) {
		return controlplane.Errorf(controlplane.NotFound, "the file of build %q (%s) is not on this host", digest, b.Label).
			WithHint("kmsctl deploy PATH uploads it again")
	}
	return err
}

// resolveRollback finds the build that served before, when none is named.
func (d *Daemon) resolveRollback(ctx context.Context, r *controlplane.ReleaseRequest) error {
	serving := d.servingSet(r.Version)
	if serving == nil || !d.routed(r.Version) {
		return d.unknownVersion(r.Version)
	}
	if r.Build != "" {
		return d.knownBuild(ctx, r.Build)
	}
	if r.Build = d.replacedNow(r.Version); r.Build != "" {
		return nil
	}
	past, err := d.Store().Releases(ctx, r.Version, 50)
	if err != nil {
		return err
	}
	for _, p := range past {
		if p.State == store.ReleaseDone && p.Build == serving.Build && p.Previous != "" && p.Previous != serving.Build {
			r.Build = p.Previous
			return nil
		}
	}
	return controlplane.Errorf(controlplane.NotFound, "version %s has no earlier build to roll back to", r.Version).
		WithHint("kmsctl history %s", r.Version)
}

func (d *Daemon) resolveRetire(r *controlplane.ReleaseRequest) error {
	if !d.routed(r.Version) {
		return d.unknownVersion(r.Version)
	}
	if s := d.servingSet(r.Version); s != nil {
		r.Build = s.Build
	}
	return nil
}

func (d *Daemon) unknownVersion(version string) error {
	d.mu.Lock()
	route := d.routes[version]
	d.mu.Unlock()
	if route.State == controlplane.Retired {
		return controlplane.Errorf(controlplane.NotFound, "version %s is retired", version).
			WithHint("kmsctl history %s shows its builds; kmsctl deploy BUILD --as %s brings it back", version, version)
	}
	return controlplane.Errorf(controlplane.NotFound, "there is no version %q", version).WithHint("kmsctl list")
}

// routed reports whether nginx serves the version.
func (d *Daemon) routed(version string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.routes[version].State == controlplane.Live
}
