package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
)

// place is what a set is for now: whom nginx leads there.
type place struct {
	stable bool     // everybody who is not led elsewhere
	canary bool     // a share of the users
	pins   []string // these tenants, sorted
	away   []string // these tenants are led elsewhere, sorted
}

func (p place) held() bool { return p.stable || p.canary || len(p.pins) > 0 }

// state is the state of a set that is held.
func (p place) state() controlplane.SetState {
	switch {
	case p.stable:
		return controlplane.SetServing
	case p.canary:
		return controlplane.SetCanary
	}
	return controlplane.SetPinned
}

// leaving says whose connections do not belong on the set: those of tenants, or with except of all others; nobody's when any is
// false. Without tenants and with any it is everybody.
func (p place) leaving() (tenants []string, except, any bool) {
	switch {
	case p.stable || p.canary:
		return p.away, false, len(p.away) > 0
	case len(p.pins) > 0:
		return p.pins, true, true
	}
	return nil, false, true
}

func (d *Daemon) place(s *set) place {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.placeLocked(s)
}

func (d *Daemon) placeLocked(s *set) place {
	route := d.routes[s.Version]
	if route.State != controlplane.Live {
		return place{}
	}
	c, hasCanary := d.canaryLocked(s.Version)
	p := place{stable: route.Stable == s.ID, canary: hasCanary && c.Set == s.ID}
	for tenant, pin := range d.pins[s.Version] {
		if pin.Set == s.ID {
			p.pins = append(p.pins, tenant)
		} else {
			p.away = append(p.away, tenant)
		}
	}
	slices.Sort(p.pins)
	slices.Sort(p.away)
	return p
}

// canaryLocked returns the version's canary if there is one in force: it is over as soon as another set serves than the one it was
// started beside, be that because it was promoted or because the version was rolled back.
func (d *Daemon) canaryLocked(version string) (c controlplane.Canary, ok bool) {
	c, ok = d.canaries[version]
	route := d.routes[version]
	return c, ok && route.State == controlplane.Live && route.Stable == c.Beside
}

// loadPlaces reads pins and canaries before anything decides about sets.
func (d *Daemon) loadPlaces() error {
	pins, err := d.host.Pins()
	if err != nil {
		return err
	}
	for _, p := range pins {
		d.setPinLocked(p)
	}
	canaries, err := d.host.Canaries()
	for _, c := range canaries {
		d.canaries[c.Version] = c
	}
	return err
}

func (d *Daemon) setPinLocked(p controlplane.Pin) {
	if d.pins[p.Version] == nil {
		d.pins[p.Version] = map[string]controlplane.Pin{}
	}
	d.pins[p.Version][p.Tenant] = p
}

// rearrange makes nginx and the sets of a version follow a changed pin or canary: first the links, so that whoever is told to move
// is led to the right place.
func (d *Daemon) rearrange(version, message string) error {
	if err := d.link(version); err != nil {
		return err
	}
	failpoint.Reach(failpoint.PlacesLinked)
	for _, s := range d.setsOf(version) {
		if d.stateOf(s) != controlplane.SetStopping {
			d.logError("move clients", d.move(s, message))
		}
	}
	return nil
}

// endPlaces ends pins whose time is over, and what a version that was retired, rolled back or promoted leaves behind. A release
// under way may still go back to what was before, so it is waited for.
func (d *Daemon) endPlaces(now time.Time) {
	for _, p := range d.pinsOver(now) {
		d.log.Info("a pin ends", "version", p.Version, "tenant", p.Tenant)
		err := d.dropPin(p.Version, p.Tenant, "the time on this build is over")
		d.auditAside("pin end", p.Version+"/"+p.Tenant, "its time is over, or the version was retired", err)
	}
	for _, c := range d.canariesOver() {
		d.logError("end a canary", d.dropCanary(c.Version, "version "+c.Version+" moves to another build"))
	}
}

func (d *Daemon) pinsOver(now time.Time) (over []controlplane.Pin) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for version, pins := range d.pins {
		if d.flights[version] != nil || d.restoring {
			continue
		}
		for _, p := range pins {
			if !p.Until.IsZero() && now.After(p.Until) || d.routes[version].State != controlplane.Live {
				over = append(over, p)
			}
		}
	}
	return over
}

func (d *Daemon) canariesOver() (over []controlplane.Canary) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for version, c := range d.canaries {
		if _, ok := d.canaryLocked(version); !ok && d.flights[version] == nil && !d.restoring {
			over = append(over, c)
		}
	}
	return over
}

// auditAside writes what the control plane did by itself into the audit trail, without waiting for the shared database.
func (d *Daemon) auditAside(action, subject, message string, err error) {
	d.work.Go(func() { d.Audited(d.ctx, "control plane of "+d.node, action, subject, message, err) })
}

// notChanging refuses while a release of the version is under way.
func (d *Daemon) notChanging(version string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.flights[version]; f != nil {
		r := f.record.Release
		return controlplane.Errorf(controlplane.LeaseHeld, "version %s is being changed: %s %d by %s", version, r.Kind, r.ID, r.Who).
			WithHint("kmsctl show %d, then try again", r.ID)
	}
	if d.restoring {
		return controlplane.Errorf(controlplane.LeaseHeld, "the shared database is being restored").WithHint("kmsctl status, then try again")
	}
	return nil
}

// setOf returns a set of the version that runs this build, whatever it does now, or starts one and has it probe itself, on its sockets
// and through nginx. The caller holds pinMu and leads somebody to it, or lets tend drain it.
func (d *Daemon) setOf(ctx context.Context, version, build string, g controlplane.Gate) (*set, error) {
	if s := d.servingSet(version); s != nil && s.Build == build {
		return s, nil
	}
	if s := d.warmSet(version, build); s != nil {
		return s, d.passAside(ctx, s, g)
	}
	if err := d.checkSchema(ctx, build); err != nil {
		return nil, err
	}
	id := newSetID()
	d.begins(id, true)
	defer d.begins(id, false)
	s, err := d.startSet(ctx, newSetRecord(id, version, build, d.label(ctx, build)))
	if err != nil {
		return nil, d.notStarted(version, build, err)
	}
	if _, err = d.probeSet(ctx, s); err == nil {
		err = d.probeAlone(ctx, s)
	}
	if err == nil {
		err = d.passAside(ctx, s, g)
	}
	if err != nil {
		return nil, errors.Join(d.notStarted(version, build, err), d.removeSet(context.WithoutCancel(ctx), s))
	}
	return s, nil
}

// passAside is passGate outside of a release: nothing follows its steps.
func (d *Daemon) passAside(ctx context.Context, s *set, g controlplane.Gate) error {
	return d.passGate(ctx, s, g, func(_ string, run func() (string, error)) error {
		_, err := run()
		return err
	})
}

func newSetRecord(id, version, build, label string) hostdb.Set {
	return hostdb.Set{ID: id, Version: version, Build: build, Label: label, State: controlplane.SetStarting, StartedAt: time.Now()}
}

func (d *Daemon) notStarted(version, build string, err error) error {
	e := *d.explain(err)
	e.Kind = controlplane.Unhealthy
	e.Message = fmt.Sprintf("build %s does not serve version %s: %s", build[:12], version, e.Message)
	return &e
}

// begins keeps tend away from a set that nothing leads to yet.
func (d *Daemon) begins(set string, begins bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if begins {
		d.beginning[set] = true
	} else {
		delete(d.beginning, set)
	}
}

// pinsOf returns a version's pins by tenant.
func (d *Daemon) pinsOf(version string) []controlplane.Pin {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Collect(maps.Values(d.pins[version]))
	slices.SortFunc(out, func(a, b controlplane.Pin) int { return strings.Compare(a.Tenant, b.Tenant) })
	return out
}
