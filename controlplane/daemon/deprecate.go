package daemon

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	// maxSunset bounds how far away a sunset may be, so that a mistyped year is noticed.
	maxSunset = 10 * 366 * 24 * time.Hour
	// noticeEvery is how often what other hosts deprecate is looked for.
	noticeEvery = 10 * time.Second
)

// Deprecate says of a version that it will go away: to clients at their login, to callers of the API in each answer, and in /versions.
// Said again it keeps the time since when. NotFound for an unknown version.
func (d *Daemon) Deprecate(ctx context.Context, r controlplane.DeprecationRequest) (*controlplane.Deprecation, error) {
	if !d.routed(r.Version) {
		return nil, d.unknownVersion(r.Version)
	}
	if left := time.Until(r.Sunset); !r.Sunset.IsZero() && (left <= 0 || left > maxSunset) {
		return nil, controlplane.Errorf(controlplane.Usage, "bad sunset %s: want a day in the next ten years", r.Sunset.Format(time.DateOnly))
	}
	since, err := d.Store().Now(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if known, ok := d.notices[r.Version]; ok {
		since = known.Since
	}
	d.mu.Unlock()
	if err := d.setDeprecation(ctx, r.Version, store.Deprecation{Deprecated: since, Sunset: r.Sunset, Notice: r.Message}); err != nil {
		return nil, err
	}
	return &controlplane.Deprecation{Since: since, Sunset: r.Sunset, Message: r.Message}, nil
}

// Undeprecate takes that back. NotFound when it was not said.
func (d *Daemon) Undeprecate(ctx context.Context, version string) error {
	d.mu.Lock()
	_, said := d.notices[version]
	d.mu.Unlock()
	if !said {
		return controlplane.Errorf(controlplane.NotFound, "version %q is not deprecated", version).WithHint("kmsctl list")
	}
	return d.setDeprecation(ctx, version, store.Deprecation{})
}

func (d *Daemon) setDeprecation(ctx context.Context, version string, dep store.Deprecation) error {
	err := d.Store().SetDeprecation(ctx, version, dep)
	if errors.Is(err, store.ErrNotFound) {
		return d.unknownVersion(version)
	}
	if err != nil {
		return err
	}
	return d.readNotices(ctx)
}

// readNotices reads what is deprecated and puts it into /versions when it changed.
func (d *Daemon) readNotices(ctx context.Context) error {
	versions, err := d.Store().Versions(ctx)
	if err != nil {
		return err
	}
	now := map[string]controlplane.Deprecation{}
	for _, v := range versions {
		if !v.Deprecated.IsZero() {
			now[v.Name] = controlplane.Deprecation{Since: v.Deprecated, Sunset: v.Sunset, Message: v.Notice}
		}
	}
	d.mu.Lock()
	same := maps.EqualFunc(now, d.notices, func(a, b controlplane.Deprecation) bool {
		return a.Since.Equal(b.Since) && a.Sunset.Equal(b.Sunset) && a.Message == b.Message
	})
	d.notices = now
	d.mu.Unlock()
	if same || d.nginx == nil { // before nginx is there; its start writes them
		return nil
	}
	d.nginxMu.Lock()
	defer d.nginxMu.Unlock()
	return d.nginx.WriteBodies(d.nginxVersions())
}

// noticeSoon asks again now and then, without holding up the watch: another host may have deprecated something.
func (d *Daemon) noticeSoon(now time.Time) {
	if now.Sub(d.noticed) < noticeEvery {
		return
	}
	d.noticed = now
	d.work.Go(func() {
		ctx, cancel := asking(d.ctx)
		defer cancel()
		if err := d.readNotices(ctx); err != nil {
			d.log.Debug("cannot read what is deprecated", "error", err) // status tells that the store is away
		}
	})
}
