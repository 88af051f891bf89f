package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
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
// Unhealthy when the build does not start, LeaseHeld while the version is being changed, for whose end it waits up to r.Wait.
func (d *Daemon) Pin(ctx context.Context, r controlplane.PinRequest) (*controlplane.Pin, error) {
	f := d.newPlace(controlplane.Release{Kind: controlplane.KindPin, Version: r.Version, Build: r.Build, Who: r.Who, Message: r.Message}, r.Version+"/"+r.Tenant)
	p := controlplane.Pin{Version: r.Version, Tenant: r.Tenant, Build: r.Build, Until: r.Until, Who: r.Who, Message: r.Message}
	err := d.arrange(ctx, f, r.Wait, func() error { return d.checkPin(ctx, r) }, func() error { return d.mayPin(r) }, func(ctx context.Context) error {
		s, err := f.setFor(ctx)
		if err != nil {
			return err
		}
		p.Label, p.Set, p.Since = s.Label, s.ID, time.Now()
		if err := d.putPin(p, f.entry(nil)); err != nil {
			return err
		}
		failpoint.Reach(failpoint.PinWritten)
		return d.rearrange(r.Version, "tenant "+r.Tenant+" moves to another build")
	})
	if err != nil {
		return nil, err
	}
	return &p, nil
}

func (d *Daemon) checkPin(ctx context.Context, r controlplane.PinRequest) error {
	if err := errors.Join(names.Version(r.Version), names.Tenant(r.Tenant)); err != nil {
		return controlplane.Errorf(controlplane.Usage, "%v", err)
	}
	if left := time.Until(r.Until); !r.Until.IsZero() && (left <= 0 || left > maxPinLife) {
		return controlplane.Errorf(controlplane.Usage, "bad end %s of the pin: want a time from now to a year from now", r.Until.Format(time.RFC3339))
	}
	if _, err := d.Store().Tenant(ctx, r.Tenant); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return controlplane.Errorf(controlplane.NotFound, "there is no tenant %q", r.Tenant).WithHint("kmsctl tenant list")
		}
		return err
	}
	return d.knownBuild(ctx, r.Build)
}

func (d *Daemon) mayPin(r controlplane.PinRequest) error {
	d.mu.Lock()
	_, known := d.pins[r.Version][r.Tenant]
	full := len(d.pins[r.Version]) >= maxPins && !known
	d.mu.Unlock()
	switch {
	case !d.routed(r.Version):
		return d.unknownVersion(r.Version)
	case full:
		return controlplane.Errorf(controlplane.Usage, "version %s has %d pins already, which is the most", r.Version, maxPins).WithHint("kmsctl pins")
	}
	return nil
}

// putPin makes a pin durable.
func (d *Daemon) putPin(p controlplane.Pin, entry hostdb.Audit) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.host.PutPin(p, entry); err != nil {
		return err
	}
	d.setPinLocked(p)
	return nil
}

// Unpin takes a pin away: the tenant is led where everybody is, and its connections move there. It waits for nothing and needs no shared
// database. NotFound without a pin.
func (d *Daemon) Unpin(_ context.Context, r controlplane.UnpinRequest) error {
	entry := newAudit(r.Who, "unpin", r.Version+"/"+r.Tenant, r.Message)
	err := d.dropPin(r.Version, r.Tenant, "version "+r.Version+" moves to another build", entry)
	d.auditEnd(entry, err)
	return err
}

func (d *Daemon) dropPin(version, tenant, message string, entry hostdb.Audit) error {
	if err := d.deletePin(version, tenant, entry); err != nil {
		return err
	}
	failpoint.Reach(failpoint.PinForgotten)
	return d.rearrange(version, message)
}

func (d *Daemon) deletePin(version, tenant string, entry hostdb.Audit) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, pinned := d.pins[version][tenant]; !pinned {
		return controlplane.Errorf(controlplane.NotFound, "tenant %q is not pinned on version %q", tenant, version).WithHint("kmsctl pins")
	}
	if err := d.host.DeletePin(version, tenant, entry); err != nil {
		return err
	}
	delete(d.pins[version], tenant)
	return nil
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
