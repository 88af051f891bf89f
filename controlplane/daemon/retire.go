package daemon

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// seenWithin is how long a tenant that was seen on a version holds it.
const seenWithin = 14 * 24 * time.Hour

// holders lists who still uses a version, one line each: pinned tenants, open connections, and tenants seen on it lately.
func (d *Daemon) holders(ctx context.Context, version string) ([]string, error) {
	open := map[string]int64{}
	for _, s := range d.setsOf(version) {
		for _, t := range s.ua.tenants() {
			open[t.GetTenant()] += t.GetConnections()
		}
	}
	now, err := d.Store().Now(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := d.Store().TenantsSeen(ctx, version, now.Add(-seenWithin))
	if err != nil {
		return nil, err
	}
	out := d.pinHolders(version)
	for tenant, n := range open {
		if n > 0 && tenant != names.ProbeTenant {
			out = append(out, fmt.Sprintf("tenant %s: %d open connections", tenant, n))
		}
	}
	for tenant, at := range seen {
		if open[tenant] == 0 && tenant != names.ProbeTenant {
			out = append(out, fmt.Sprintf("tenant %s: last seen %s", tenant, at.Local().Format("2006-01-02 15:04")))
		}
	}
	sort.Strings(out)
	return out, nil
}

// retire takes a name away: nginx answers 410 first, so that whoever is told to move cannot come back, then the clients are
// told, then the sets stop.
func (f *flight) retire(ctx context.Context) error {
	r := f.release()
	err := f.step("answer 410", func() (string, error) {
		route := hostdb.Route{Version: r.Version, State: controlplane.Retired, Message: r.Message}
		f.update(func(h *hostdb.Flight) { h.Swapped = true })
		if err := f.d.route(route); err != nil {
			return "", err
		}
		return f.d.applyNginx(ctx)
	})
	if err == nil {
		err = f.step("ledger", func() (string, error) {
			ctx, cancel := asking(ctx)
			defer cancel()
			err := f.d.Store().PutVersion(ctx, store.Version{Name: r.Version, State: store.VersionRetired, Build: r.Build, Message: r.Message})
			failpoint.Reach(failpoint.VersionWritten)
			return "", err
		})
	}
	if err != nil {
		return f.kept(err, f.step("swap back", func() (string, error) { return "", f.d.routeBack(ctx, f.record) }))
	}
	// From here on the version is retired, whatever its sets still say.
	f.d.logError("tell clients", f.step("tell clients", func() (string, error) { return f.tellAll(ctx, r) }))
	f.d.logError("stop sets", f.step("stop", func() (string, error) { return "", f.stopAll(ctx) }))
	return nil
}

// stopAll stops every set of the version and removes its slot. What does not stop is left to tend, which tries again.
func (f *flight) stopAll(ctx context.Context) error {
	version := f.record.Release.Version
	failures := []error{f.d.router.Remove(version)}
	failpoint.Reach(failpoint.SlotRemoved)
	for _, s := range f.d.setsOf(version) {
		f.d.stopSoon(s)
		failures = append(failures, f.d.removeSet(ctx, s))
	}
	return errors.Join(failures...)
}

// tellAll drains every set of the version and waits until its clients have gone; the sets' stop closes who stays.
func (f *flight) tellAll(ctx context.Context, r controlplane.Release) (string, error) {
	connections, failures := 0, []error{}
	message := "version " + r.Version + " is retired"
	if r.Message != "" {
		message += ": " + r.Message
	}
	deadline := min(f.d.cfg.Duration("drain.deadline"), 30*time.Second)
	began := time.Now()
	for _, s := range f.d.setsOf(r.Version) {
		connections += s.ua.info().Connections
		failures = append(failures, f.d.drain(s, deadline, message))
	}
	told := fmt.Sprintf("%d connections", connections)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !f.allEmptySince(r.Version, began) && time.Since(began) < deadline {
		select {
		case <-ctx.Done():
			return told, ctx.Err()
		case <-ticker.C:
		}
	}
	return told, errors.Join(failures...)
}

func (f *flight) allEmptySince(version string, began time.Time) bool {
	for _, s := range f.d.setsOf(version) {
		s.ua.poll(f.d.ctx)
		if !s.ua.emptySince(began) {
			return false
		}
	}
	return true
}
