package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	// maxPins bounds one version's pins: each is a link in its routing directory, made anew at every swap.
	maxPins = 1000
	// maxPinLife bounds how long a pin may last, so that a mistyped end is not for ever by accident.
	maxPinLife = 366 * 24 * time.Hour
)

// Pin holds a tenant on a build of a version: a set of that build is started and probed unless one runs, and the tenant's
// connections move there. A tenant that is pinned already is pinned anew. Errors: NotFound for an unknown version, tenant or build,
// Unhealthy when the build does not start, LeaseHeld while a release of the version runs.
func (d *Daemon) Pin(ctx context.Context, r controlplane.PinRequest) (*controlplane.Pin, error) {
	d.pinMu.Lock()
	defer d.pinMu.Unlock()
	if err := d.checkPin(ctx, r); err != nil {
		return nil, err
	}
	s, err := d.setOf(ctx, r.Version, r.Build, controlplane.Gate{})
	if err != nil {
		return nil, err
	}
	p := controlplane.Pin{
		Version: r.Version, Tenant: r.Tenant, Build: r.Build, Label: s.Label, Set: s.ID, Until: r.Until, Since: time.Now(),
		Who: r.Who, Message: r.Message,
	}
	if err := d.putPin(p, s); err != nil {
		return nil, err
	}
	failpoint.Reach(failpoint.PinWritten)
	return &p, d.rearrange(r.Version, "tenant "+r.Tenant+" moves to another build")
}

func (d *Daemon) checkPin(ctx context.Context, r controlplane.PinRequest) error {
	if err := errors.Join(names.Version(r.Version), names.Tenant(r.Tenant)); err != nil {
		return controlplane.Errorf(controlplane.Usage, "%v", err)
	}
	if !d.routed(r.Version) {
		return d.unknownVersion(r.Version)
	}
	if left := time.Until(r.Until); !r.Until.IsZero() && (left <= 0 || left > maxPinLife) {
		return controlplane.Errorf(controlplane.Usage, "bad end %s of the pin: want a time from now to a year from now", r.Until.Format(time.RFC3339))
	}
	if err := d.notChanging(r.Version); err != nil {
		return err
	}
	if _, err := d.Store().Tenant(ctx, r.Tenant); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return controlplane.Errorf(controlplane.NotFound, "there is no tenant %q", r.Tenant).WithHint("kmsctl tenant list")
		}
		return err
	}
	return d.knownBuild(ctx, r.Build)
}

// putPin makes a pin durable, unless its set or its version went away meanwhile.
func (d *Daemon) putPin(p controlplane.Pin, s *set) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.pins[p.Version][p.Tenant]
	switch {
	case d.sets[s.ID] != s || s.ending || s.State == controlplane.SetStopping || d.routes[p.Version].State != controlplane.Live:
		return controlplane.Errorf(controlplane.LeaseHeld, "set %s of version %s stopped just now", s.ID, p.Version).WithHint("try again")
	case !known && len(d.pins[p.Version]) >= maxPins:
		return controlplane.Errorf(controlplane.Usage, "version %s has %d pins already, which is the most", p.Version, maxPins).WithHint("kmsctl pins")
	}
	if err := d.host.PutPin(p); err != nil {
		return err
	}
	d.setPinLocked(p)
	return nil
}

// Unpin takes a pin away: the tenant is led where everybody is, and its connections move there. NotFound without a pin.
func (d *Daemon) Unpin(ctx context.Context, version, tenant string) error {
	d.pinMu.Lock()
	defer d.pinMu.Unlock()
	d.mu.Lock()
	_, pinned := d.pins[version][tenant]
	d.mu.Unlock()
	if !pinned {
		return controlplane.Errorf(controlplane.NotFound, "tenant %q is not pinned on version %q", tenant, version).WithHint("kmsctl pins")
	}
	return d.dropPin(version, tenant, "version "+version+" moves to another build")
}

func (d *Daemon) dropPin(version, tenant, message string) error {
	if err := d.host.DeletePin(version, tenant); err != nil {
		return err
	}
	failpoint.Reach(failpoint.PinForgotten)
	d.mu.Lock()
	delete(d.pins[version], tenant)
	d.mu.Unlock()
	return d.rearrange(version, message)
}

// Pins lists the pins, by version and tenant.
func (d *Daemon) Pins(context.Context) ([]controlplane.Pin, error) { return d.host.Pins() }

// pinHolders tells retire who is pinned on a version.
func (d *Daemon) pinHolders(version string) []string {
	pins := d.pinsOf(version)
	out := make([]string, 0, len(pins))
	for _, p := range pins {
		text := fmt.Sprintf("tenant %s: pinned to build %s by %s", p.Tenant, p.Build[:12], p.Who)
		if !p.Until.IsZero() {
			text += " until " + p.Until.Local().Format("2006-01-02 15:04")
		}
		out = append(out, text)
	}
	return out
}
