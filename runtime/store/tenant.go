package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// The states of a tenant. Whoever reads another value treats it as suspended.
const (
	TenantActive    = "active"
	TenantSuspended = "suspended"
)

// Tenant is a game app. Name is its display name.
type Tenant struct {
	ID, Name, State string
	CreatedAt       time.Time
	MinVersion      string // older versions refuse the tenant; empty: all serve it
	Limits          Limits
}

// The bounds of a retention. A message that was removed is forgotten with its id, and who sends it again says it again: the lower
// bound is far beyond any client's patience.
const (
	MinRetention = time.Hour
	MaxRetention = 100 * 365 * 24 * time.Hour
)

// CreateTenant adds a tenant: ErrExists when there is one. An empty Name becomes the id, an empty State active.
func (s *Store) CreateTenant(ctx context.Context, t Tenant) (Tenant, error) {
	if t.Name == "" {
		t.Name = t.ID
	}
	if t.State == "" {
		t.State = TenantActive
	}
	err := firstError(names.AnyTenant(t.ID), names.Display(t.Name), oneOf("tenant state", t.State, TenantActive, TenantSuspended))
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			now, err := tx.NowMS()
			if err != nil {
				return err
			}
			t.CreatedAt = fromMS(now)
			err = tx.exec(`INSERT INTO tenants (id, name, state, created_at) VALUES (?, ?, ?, ?)`, t.ID, t.Name, t.State, now)
			if err != nil {
				return err
			}
			return tx.Change(ChangeTenant, t.ID, t.ID, t.State)
		})
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("cannot create tenant %q: %w", t.ID, err)
	}
	return t, nil
}

// Tenant returns one tenant, or ErrNotFound.
func (s *Store) Tenant(ctx context.Context, id string) (Tenant, error) {
	t, err := scanTenant(s.DB().QueryRowContext(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE id = ?`, id))
	if err != nil {
		return Tenant{}, fmt.Errorf("cannot read tenant %q: %w", id, Wrap(err))
	}
	return t, nil
}

// Tenants returns all tenants by id, our own `_` ones included.
func (s *Store) Tenants(ctx context.Context) ([]Tenant, error) {
	list, err := collect(ctx, s.DB(), scanTenant, `SELECT `+tenantColumns+` FROM tenants ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("cannot list tenants: %w", err)
	}
	return list, nil
}

const tenantColumns = `id, name, state, created_at, COALESCE(min_version, ''), limits`

func scanTenant(row scanner) (Tenant, error) {
	var t Tenant
	var created int64
	var limits string
	err := row.Scan(&t.ID, &t.Name, &t.State, &created, &t.MinVersion, &limits)
	t.CreatedAt, t.Limits = fromMS(created), parseLimits(limits)
	return t, err
}

// SetTenantState suspends a tenant or makes it active again.
func (s *Store) SetTenantState(ctx context.Context, id, state string) error {
	err := oneOf("tenant state", state, TenantActive, TenantSuspended)
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			if err := tx.mustAffect(`UPDATE tenants SET state = ? WHERE id = ?`, state, id); err != nil {
				return err
			}
			return tx.Change(ChangeTenant, id, id, state)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot set tenant %q to %s: %w", id, state, err)
	}
	return nil
}

// SetTenantMinVersion makes versions older than this one refuse the tenant; with an empty one all serve it.
func (s *Store) SetTenantMinVersion(ctx context.Context, id, version string) error {
	var err error
	if version != "" {
		err = names.Version(version)
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			if err := tx.mustAffect(`UPDATE tenants SET min_version = ? WHERE id = ?`, version, id); err != nil {
				return err
			}
			return tx.Change(ChangeTenant, id, id, "min_version")
		})
	}
	if err != nil {
		return fmt.Errorf("cannot set the oldest version of tenant %q: %w", id, err)
	}
	return nil
}

// SetTenantRetention sets how long the tenant's messages are kept, from MinRetention to MaxRetention; 0: for ever. What is older
// is removed by and by (chatlog.Purge).
func (s *Store) SetTenantRetention(ctx context.Context, id string, keep time.Duration) error {
	var err error
	if keep != 0 && (keep < MinRetention || keep > MaxRetention) {
		err = fmt.Errorf("bad retention %s: want %s to %s", keep, MinRetention, MaxRetention)
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			ms := sql.NullInt64{Int64: keep.Milliseconds(), Valid: keep != 0}
			return tx.mustAffect(`UPDATE tenants SET retention = ? WHERE id = ?`, ms, id) // no running process has to know
		})
	}
	if err != nil {
		return fmt.Errorf("cannot set the retention of tenant %q: %w", id, err)
	}
	return nil
}

// Retentions returns how long the messages of each tenant that has not said "for ever" are kept. Not a part of Tenant, which builds
// read on the schema before this too.
func (s *Store) Retentions(ctx context.Context) (map[string]time.Duration, error) {
	rows, err := s.DB().QueryContext(ctx, `SELECT id, retention FROM tenants WHERE retention IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("cannot read retentions: %w", Wrap(err))
	}
	defer rows.Close()
	all := map[string]time.Duration{}
	for rows.Next() {
		var id string
		var ms int64
		if err := rows.Scan(&id, &ms); err != nil {
			return nil, fmt.Errorf("cannot read retentions: %w", Wrap(err))
		}
		all[id] = time.Duration(ms) * time.Millisecond
	}
	return all, Wrap(rows.Err())
}

// DeleteTenant removes a tenant with its keys, tokens, users, members and NG lists. Its channels stay as deleted until their
// log is purged.
func (s *Store) DeleteTenant(ctx context.Context, id string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		// First of all, for the lock: whoever adds something to the tenant holds this row in share mode.
		if err := tx.mustAffect(`DELETE FROM tenants WHERE id = ?`, id); err != nil {
			return err
		}
		for _, table := range []string{"api_keys", "tokens", "users", "members", "ng_entries", "ng_lists", "ng_revisions", "tenant_seen"} {
			if err := tx.exec(`DELETE FROM `+table+` WHERE tenant = ?`, id); err != nil {
				return err
			}
		}
		err := tx.exec(`UPDATE channels SET live = NULL, deleted_at = `+tx.dialect.NowMS()+` WHERE tenant = ? AND live = 1`, id)
		if err != nil {
			return err
		}
		return tx.Change(ChangeTenant, id, id, "deleted")
	})
	if err != nil {
		return fmt.Errorf("cannot delete tenant %q: %w", id, err)
	}
	return nil
}

// holdTenant makes sure that a tenant is there, and stays until the transaction ends.
func (tx *Tx) holdTenant(id string) error {
	var one int
	err := Wrap(tx.scan(`SELECT 1 FROM tenants WHERE id = ?`+tx.dialect.forShare(), []any{id}, &one))
	if err != nil {
		return fmt.Errorf("tenant %q: %w", id, err)
	}
	return nil
}
