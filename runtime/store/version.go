package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// The states of a version.
const (
	VersionLive    = "live"
	VersionRetired = "retired"
)

// Version is what a public version name should serve: Build is the digest that is wanted.
type Version struct {
	Name, State, Build, Message string
	UpdatedAt                   time.Time
	Deprecation
}

// Deprecation says that a version will go away. A zero Deprecated means that it is not said; a zero Sunset that no day is set.
type Deprecation struct {
	Deprecated, Sunset time.Time
	Notice             string // for clients and callers
}

// Equal compares what is said.
func (d Deprecation) Equal(o Deprecation) bool {
	return d.Deprecated.Equal(o.Deprecated) && d.Sunset.Equal(o.Sunset) && d.Notice == o.Notice
}

// PutVersion adds a version or sets it anew.
func (s *Store) PutVersion(ctx context.Context, v Version) error {
	err := firstError(names.Version(v.Name), oneOf("version state", v.State, VersionLive, VersionRetired))
	if v.Build != "" {
		err = firstError(err, names.Digest(v.Build))
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			now, err := tx.NowMS()
			if err != nil {
				return err
			}
			return tx.exec(tx.dialect.upsert("versions", "name", "state build message updated_at"),
				v.Name, v.State, v.Build, clip(v.Message, maxText), now)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot store version %q: %w", v.Name, err)
	}
	return nil
}

// SetDeprecation says of a version that it will go away, or with a zero Deprecated takes that back. ErrNotFound for an unknown version.
func (s *Store) SetDeprecation(ctx context.Context, name string, dep Deprecation) error {
	if dep.Deprecated.IsZero() {
		dep = Deprecation{}
	}
	err := s.Write(ctx, func(tx *Tx) error {
		err := tx.mustAffect(`UPDATE versions SET deprecated = ?, sunset = ?, notice = ? WHERE name = ?`, toNullMS(dep.Deprecated),
			toNullMS(dep.Sunset), clip(dep.Notice, maxText), name)
		if err != nil {
			return err
		}
		return tx.Change(ChangeVersion, "", name, "")
	})
	if err != nil {
		return fmt.Errorf("cannot deprecate version %q: %w", name, err)
	}
	return nil
}

// Version returns one version, or ErrNotFound.
func (s *Store) Version(ctx context.Context, name string) (Version, error) {
	v, err := scanVersion(s.DB().QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions WHERE name = ?`, name))
	if err != nil {
		return Version{}, fmt.Errorf("cannot read version %q: %w", name, Wrap(err))
	}
	return v, nil
}

// Versions returns all versions by name, retired ones included.
func (s *Store) Versions(ctx context.Context) ([]Version, error) {
	list, err := collect(ctx, s.DB(), scanVersion, `SELECT `+versionColumns+` FROM versions ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("cannot list versions: %w", err)
	}
	return list, nil
}

const versionColumns = `name, state, build, message, updated_at, deprecated, sunset, COALESCE(notice, '')`

func scanVersion(row scanner) (Version, error) {
	var v Version
	var updated int64
	var deprecated, sunset sql.NullInt64
	err := row.Scan(&v.Name, &v.State, &v.Build, &v.Message, &updated, &deprecated, &sunset, &v.Notice)
	v.UpdatedAt, v.Deprecated, v.Sunset = fromMS(updated), fromNullMS(deprecated), fromNullMS(sunset)
	return v, err
}

// TenantSeen notes that a tenant uses a version today (by the database's clock, UTC). It writes once a day.
func (s *Store) TenantSeen(ctx context.Context, version, tenant string) error {
	err := firstError(names.Version(version), names.AnyTenant(tenant))
	if err == nil {
		err = s.tenantSeen(ctx, version, tenant)
	}
	if err != nil {
		return fmt.Errorf("cannot note tenant %q on version %q: %w", tenant, version, err)
	}
	return nil
}

func (s *Store) tenantSeen(ctx context.Context, version, tenant string) error {
	var now, last int64
	err := s.DB().QueryRowContext(ctx, `SELECT `+s.Dialect().NowMS()+`,
		COALESCE((SELECT day FROM tenant_seen WHERE version = ? AND tenant = ?), 0)`, version, tenant).Scan(&now, &last)
	day := fromMS(now).Truncate(24 * time.Hour).UnixMilli()
	if err != nil || last >= day {
		return Wrap(err)
	}
	return s.Write(ctx, func(tx *Tx) error {
		return tx.exec(tx.dialect.upsert("tenant_seen", "version tenant", "day"), version, tenant, day)
	})
}

// TenantsSeen returns the day (its start, UTC) on which each tenant was last seen on a version, since then.
func (s *Store) TenantsSeen(ctx context.Context, version string, since time.Time) (map[string]time.Time, error) {
	type seen struct {
		tenant string
		day    int64
	}
	scan := func(row scanner) (r seen, err error) { return r, row.Scan(&r.tenant, &r.day) }
	day := since.UTC().Truncate(24 * time.Hour).UnixMilli()
	list, err := collect(ctx, s.DB(), scan, `SELECT tenant, day FROM tenant_seen WHERE version = ? AND day >= ?`, version, day)
	if err != nil {
		return nil, fmt.Errorf("cannot list tenants of version %q: %w", version, err)
	}
	tenants := make(map[string]time.Time, len(list))
	for _, r := range list {
		tenants[r.tenant] = fromMS(r.day)
	}
	return tenants, nil
}
