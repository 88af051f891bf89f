package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSetDeprecation_outlivesReleasesAndIsTakenBack(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		v := Version{Name: "1.0", State: VersionLive, Build: strings.Repeat("a", 64)}
		dep := Deprecation{Deprecated: time.UnixMilli(1_700_000_000_000), Sunset: time.UnixMilli(1_800_000_000_000), Notice: "2.0 へ"}
		if err := s.SetDeprecation(ctx, "1.0", dep); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown version: %v", err)
		}
		must(t, s.PutVersion(ctx, v))
		_, before, err := s.ChangesHead(ctx)
		must(t, err)
		must(t, s.SetDeprecation(ctx, "1.0", dep))
		v.Build = strings.Repeat("b", 64)
		must(t, s.PutVersion(ctx, v))
		now := got[Version](t)(s.Version(ctx, "1.0"))
		if !now.Deprecated.Equal(dep.Deprecated) || !now.Sunset.Equal(dep.Sunset) || now.Notice != dep.Notice || now.Build != v.Build {
			t.Errorf("after the next release: %+v", now)
		}
		_, list, err := s.ChangesAfter(ctx, before, 10)
		must(t, err)
		if len(list) != 1 || list[0].Kind != ChangeVersion || list[0].Subject != "1.0" {
			t.Errorf("changes %+v", list)
		}
		must(t, s.SetDeprecation(ctx, "1.0", Deprecation{Notice: "of nothing"}))
		if now = got[Version](t)(s.Version(ctx, "1.0")); now.Deprecation != (Deprecation{}) {
			t.Errorf("taken back: %+v", now)
		}
	})
}

func TestSetTenantMinVersion(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		id := testTenant(t, s)
		for _, version := range []string{"2.0", ""} {
			must(t, s.SetTenantMinVersion(ctx, id, version))
			if now := got[Tenant](t)(s.Tenant(ctx, id)); now.MinVersion != version {
				t.Errorf("the oldest version is %q, want %q", now.MinVersion, version)
			}
		}
		if err := s.SetTenantMinVersion(ctx, id, "two"); err == nil {
			t.Error("a name that is no version was taken")
		}
		if err := s.SetTenantMinVersion(ctx, "nobody", "2.0"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown tenant: %v", err)
		}
	})
}

func TestSetTenantRetention(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		id := testTenant(t, s)
		for _, keep := range []time.Duration{30 * 24 * time.Hour, MinRetention, 0} {
			must(t, s.SetTenantRetention(ctx, id, keep))
			if now := got[map[string]time.Duration](t)(s.Retentions(ctx)); now[id] != keep {
				t.Errorf("retention %s, want %s", now[id], keep)
			}
		}
		for _, bad := range []time.Duration{-time.Hour, time.Minute, MaxRetention + 1} {
			if err := s.SetTenantRetention(ctx, id, bad); err == nil {
				t.Errorf("a retention of %s was taken", bad)
			}
		}
		if err := s.SetTenantRetention(ctx, "nobody", time.Hour); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown tenant: %v", err)
		}
	})
}
