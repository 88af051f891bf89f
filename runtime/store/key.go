package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// keyTouch bounds how often the use of a key is written down.
const keyTouch = time.Minute

// APIKey is a game server's key. Only a hash of its secret is stored; several may live at a time so that they can be rotated.
type APIKey struct {
	ID, Tenant, Label              string
	CreatedAt, LastUsed, RevokedAt time.Time // zero: never
}

// CreateKey stores a key under the sha256 of its secret, in lower-case hex.
func (s *Store) CreateKey(ctx context.Context, tenant, label, hash string) (APIKey, error) {
	k := APIKey{ID: "k" + newID(8), Tenant: tenant, Label: label}
	err := checkHash(hash)
	if label != "" {
		err = firstError(err, names.Display(label))
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			if err := tx.holdTenant(tenant); err != nil {
				return err
			}
			now, err := tx.NowMS()
			if err != nil {
				return err
			}
			k.CreatedAt = fromMS(now)
			return tx.exec(`INSERT INTO api_keys (id, tenant, label, hash, created_at) VALUES (?, ?, ?, ?, ?)`,
				k.ID, tenant, label, hash, now)
		})
	}
	if err != nil {
		return APIKey{}, fmt.Errorf("cannot create key for tenant %q: %w", tenant, err)
	}
	return k, nil
}

// Keys returns a tenant's keys, oldest first, revoked ones included.
func (s *Store) Keys(ctx context.Context, tenant string) ([]APIKey, error) {
	list, err := collect(ctx, s.DB(), scanKey, `SELECT `+keyColumns+` FROM api_keys WHERE tenant = ? ORDER BY created_at, id`, tenant)
	if err != nil {
		return nil, fmt.Errorf("cannot list keys of tenant %q: %w", tenant, err)
	}
	return list, nil
}

// LookupKey finds the key with this hash. Unknown and revoked are both ErrNotFound. The tenant's state is the caller's to check.
func (s *Store) LookupKey(ctx context.Context, hash string) (APIKey, error) {
	k, err := scanKey(s.DB().QueryRowContext(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE hash = ? AND revoked_at IS NULL`, hash))
	if err != nil {
		return APIKey{}, fmt.Errorf("cannot look up key: %w", Wrap(err))
	}
	return k, nil
}

// TouchKey writes down that a key is in use, once a minute at most.
func (s *Store) TouchKey(ctx context.Context, k APIKey) error {
	now, err := s.Now(ctx)
	if err != nil || now.Sub(k.LastUsed) < keyTouch {
		return err
	}
	err = s.Write(ctx, func(tx *Tx) error {
		return tx.exec(`UPDATE api_keys SET last_used = ? WHERE id = ? AND (last_used IS NULL OR last_used < ?)`,
			now.UnixMilli(), k.ID, now.Add(-keyTouch).UnixMilli())
	})
	if err != nil {
		return fmt.Errorf("cannot note the use of key %q: %w", k.ID, err)
	}
	return nil
}

// RevokeKey ends a key for good. Doing so again changes nothing.
func (s *Store) RevokeKey(ctx context.Context, tenant, id string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		err := tx.mustAffect(`UPDATE api_keys SET revoked_at = COALESCE(revoked_at, `+tx.dialect.NowMS()+`)
			WHERE id = ? AND tenant = ?`, id, tenant)
		if err != nil {
			return err
		}
		return tx.Change(ChangeKey, tenant, id, "")
	})
	if err != nil {
		return fmt.Errorf("cannot revoke key %q of tenant %q: %w", id, tenant, err)
	}
	return nil
}

const keyColumns = `id, tenant, label, created_at, last_used, revoked_at`

func scanKey(row scanner) (APIKey, error) {
	var k APIKey
	var created int64
	var used, revoked sql.NullInt64
	err := row.Scan(&k.ID, &k.Tenant, &k.Label, &created, &used, &revoked)
	k.CreatedAt, k.LastUsed, k.RevokedAt = fromMS(created), fromNullMS(used), fromNullMS(revoked)
	return k, err
}

// checkHash keeps plain secrets out of the database by mistake.
func checkHash(hash string) error {
	if names.Digest(hash) != nil {
		return fmt.Errorf("bad hash: want the sha256 in 64 lower-case hex digits")
	}
	return nil
}
