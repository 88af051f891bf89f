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

// arrange changes who is led where: it has the version and its lease meanwhile, as a release has. check holds the request against what
// does not change while it waits, may against the version as it is when its turn has come. change makes the change durable in one write
// with its entry of the audit trail; until then it is undone by an error, by the end of ctx, by who takes over, and by the next control
// plane.
func (d *Daemon) arrange(ctx context.Context, f *flight, wait time.Duration, check, may func() error, change func(context.Context) error) error {
	defer f.cancel(nil)
	err := check()
	if err == nil && !d.changing(f.record.Release.Version) {
		err = may()
	}
	if err == nil {
		err = d.takeOff(ctx, f, wait, func(context.Context) error { return f.writePlace() })
	}
	if err != nil {
		d.auditEnd(f.entry(err), err)
		return err
	}
	defer context.AfterFunc(ctx, func() {
		f.cancel(controlplane.Errorf(controlplane.Failed, "who asked for the %s has gone", f.record.Release.Kind))
	})()
	ended := make(chan struct{})
	d.work.Go(func() {
		defer close(ended)
		d.fly(f, func(ahead context.Context) error {
			if err = may(); err == nil {
				err = change(ahead)
			}
			if cause := f.overtaken(); err != nil && cause != nil {
				err = cause
			}
			return err
		})
	})
	<-ended
	return err
}

// newPlace makes the flight of a pin or canary. The subject is what the audit trail calls it by.
func (d *Daemon) newPlace(r controlplane.Release, subject string) *flight {
	r.Node, r.State, r.StartedAt, r.Steps = d.node, controlplane.ReleaseRunning, time.Now(), []controlplane.Step{}
	entry := newAudit(r.Who, string(r.Kind), subject, r.Message)
	return d.newFlight(hostdb.Flight{ID: entry.ID, Release: r, Audit: &entry})
}

// writePlace begins the flight in host.db.
func (f *flight) writePlace() error {
	f.d.mu.Lock()
	record := f.record
	f.d.mu.Unlock()
	if err := f.d.host.PutFlight(record); err != nil {
		return err
	}
	failpoint.Reach(failpoint.FlightWritten)
	return nil
}

// entry is what the audit trail is owed for a pin or canary that ends now.
func (f *flight) entry(err error) hostdb.Audit {
	a := *f.record.Audit
	a.At, a.Result = time.Now(), resultOf(err)
	return a
}

// endPlace ends the flight of a pin or canary. One that went well is owed to the audit trail since it was made durable.
func (f *flight) endPlace(ctx context.Context, err error) {
	entry := f.entry(err)
	f.d.putAudit(entry, err)
	f.d.mu.Lock()
	next := f.successor
	f.d.mu.Unlock()
	if next == nil || next.record.Release.Kind != controlplane.KindRollback { // which needs the lease
		ctx, cancel := asking(ctx)
		defer cancel()
		f.d.giveBack(ctx, f)
	}
	f.d.unclaim(f)
	f.d.enterNow(entry)
}

// undoPlace undoes a pin or canary that was not durable yet when an earlier control plane ended.
func (f *flight) undoPlace() error {
	err := f.step("undo", func() (string, error) { return "", f.discard(f.d.ctx) })
	began := f.record.Release.StartedAt.Local().Format(time.DateTime)
	return errors.Join(controlplane.Errorf(controlplane.Failed, "undone: the control plane was killed before it was done; it began %s", began), err)
}

// endPlaces ends pins whose time is over, and what a version that was retired, rolled back or promoted leaves behind. A release
// under way may still go back to what was before, so it is waited for. A pin without its set is of a version that was retired and is
// live again: nobody would be led to it, and its tenant's clients be told to move there for ever.
func (d *Daemon) endPlaces(now time.Time) {
	for _, p := range d.pinsOver(now) {
		d.log.Info("a pin ends", "version", p.Version, "tenant", p.Tenant)
		entry := newAudit(d.itself(), "pin end", p.Version+"/"+p.Tenant, "its time is over, or the version was retired")
		err := d.dropPin(p.Version, p.Tenant, "the time on this build is over", entry)
		d.work.Go(func() { d.auditEnd(entry, err) })
	}
	for _, c := range d.canariesOver() {
		entry := newAudit(d.itself(), "canary end", c.Version, "it was promoted, or the version was rolled back or retired")
		err := d.dropCanary(c.Version, "version "+c.Version+" moves to another build", entry)
		d.work.Go(func() { d.auditEnd(entry, err) })
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
			if !p.Until.IsZero() && now.After(p.Until) || d.routes[version].State != controlplane.Live || d.sets[p.Set] == nil {
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

// setFor returns a set of the version that runs the flight's build, whatever it does now, or starts one that has to pass its own probe,
// on its sockets and through nginx; then the operator's gate.
func (f *flight) setFor(ctx context.Context) (*set, error) {
	r := f.release()
	if s := f.d.servingSet(r.Version); s != nil && s.Build == r.Build {
		return s, nil
	}
	if f.new = f.d.warmSet(r.Version, r.Build); f.new != nil {
		return f.new, f.passGate(ctx)
	}
	label := f.d.label(ctx, r.Build)
	f.note(func(h *hostdb.Flight) { h.Release.Label = label })
	err := f.prove(ctx)
	if err == nil {
		err = f.step("probe nginx", func() (string, error) { return f.d.probeAlone(ctx, f.new) })
	}
	if err == nil {
		err = f.passGate(ctx)
	}
	if err != nil {
		return nil, errors.Join(f.d.notStarted(r.Version, r.Build, err), f.discard(f.d.ctx))
	}
	return f.new, nil
}

func (d *Daemon) notStarted(version, build string, err error) error {
	e := *d.explain(err)
	e.Kind = controlplane.Unhealthy
	e.Message = fmt.Sprintf("build %s does not serve version %s: %s", build[:12], version, e.Message)
	return &e
}

// pinsOf returns a version's pins by tenant.
func (d *Daemon) pinsOf(version string) []controlplane.Pin {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Collect(maps.Values(d.pins[version]))
	slices.SortFunc(out, func(a, b controlplane.Pin) int { return strings.Compare(a.Tenant, b.Tenant) })
	return out
}
