package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// tokenKeep is how long an ended token stays, so that its user hears "expired" and not "unknown".
const tokenKeep = 24 * time.Hour

// Token lets a user log in. Hash is the sha256 of the secret in lower-case hex; ExpiresAt zero means never.
type Token struct {
	Tenant, User, Name              string // Name: the user's display name
	ExpiresAt, CreatedAt, RevokedAt time.Time
	Hash                            string
}

// PutToken adds a token and sets its user's display name (an empty Name keeps the one there is, at first the user id). The same
// hash again sets its expiry anew; a revoked one stays revoked (ErrConflict), one of somebody else is ErrExists.
func (s *Store) PutToken(ctx context.Context, t Token) error {
	err := firstError(names.User(t.User), checkHash(t.Hash))
	if t.Name != "" {
		err = firstError(err, names.Display(t.Name))
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error { return tx.putToken(t) })
	}
	if err != nil {
		return fmt.Errorf("cannot store a token for user %q of tenant %q: %w", t.User, t.Tenant, err)
	}
	return nil
}

func (tx *Tx) putToken(t Token) error {
	if err := tx.holdTenant(t.Tenant); err != nil {
		return err
	}
	now, err := tx.NowMS()
	if err != nil {
		return err
	}
	renamed, err := tx.putUser(t.Tenant, t.User, t.Name, now)
	if err != nil {
		return err
	}
	shortened, err := tx.putTokenRow(t, now)
	if err != nil {
		return err
	}
	err = tx.exec(`DELETE FROM tokens WHERE tenant = ? AND user = ? AND expires_at < ?`, t.Tenant, t.User, now-tokenKeep.Milliseconds())
	if err == nil && renamed {
		err = tx.Change(ChangeUser, t.Tenant, t.User, "")
	}
	if err == nil && shortened {
		err = tx.Change(ChangeToken, t.Tenant, t.User, "")
	}
	return err
}

// putTokenRow reports whether it changed the expiry of a token that somebody may have logged in with.
func (tx *Tx) putTokenRow(t Token, now int64) (bool, error) {
	var tenant, user string
	var expires, revoked sql.NullInt64
	err := tx.scan(`SELECT tenant, user, expires_at, revoked_at FROM tokens WHERE hash = ?`+tx.dialect.ForUpdate(), []any{t.Hash},
		&tenant, &user, &expires, &revoked)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, tx.exec(`INSERT INTO tokens (hash, tenant, user, created_at, expires_at) VALUES (?, ?, ?, ?, ?)`,
			t.Hash, t.Tenant, t.User, now, toNullMS(t.ExpiresAt))
	case err != nil:
		return false, err
	case tenant != t.Tenant || user != t.User:
		return false, ErrExists
	case revoked.Valid:
		return false, fmt.Errorf("%w: the token was revoked", ErrConflict)
	}
	next := toNullMS(t.ExpiresAt)
	return next != expires, tx.exec(`UPDATE tokens SET expires_at = ? WHERE hash = ?`, next, t.Hash)
}

// putUser reports whether a user that was there has another display name now.
func (tx *Tx) putUser(tenant, user, name string, now int64) (bool, error) {
	var old string
	err := tx.scan(`SELECT name FROM users WHERE tenant = ? AND user = ?`+tx.dialect.ForUpdate(), []any{tenant, user}, &old)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if name == "" {
			name = user
		}
		return false, tx.exec(tx.dialect.upsert("users", "tenant user", "name created_at"), tenant, user, name, now)
	case err != nil || name == "" || name == old:
		return false, err
	}
	return true, tx.exec(`UPDATE users SET name = ? WHERE tenant = ? AND user = ?`, name, tenant, user)
}

// RevokeTokens ends all tokens of a user and returns how many were not ended before.
func (s *Store) RevokeTokens(ctx context.Context, tenant, user string) (int, error) {
	var n int
	err := s.Write(ctx, func(tx *Tx) (err error) {
		n, err = tx.affected(`UPDATE tokens SET revoked_at = `+tx.dialect.NowMS()+`
			WHERE tenant = ? AND user = ? AND revoked_at IS NULL`, tenant, user)
		if err != nil || n == 0 {
			return err
		}
		return tx.Change(ChangeToken, tenant, user, "revoked")
	})
	if err != nil {
		return 0, fmt.Errorf("cannot revoke tokens of user %q of tenant %q: %w", user, tenant, err)
	}
	return n, nil
}

// LookupToken finds a tenant's token by its hash. One that is over comes back with ErrExpired; unknown, revoked and another
// tenant's are all ErrNotFound.
func (s *Store) LookupToken(ctx context.Context, tenant, hash string) (Token, error) {
	t := Token{Tenant: tenant, Hash: hash}
	var created, now int64
	var expires sql.NullInt64
	err := s.DB().QueryRowContext(ctx, `SELECT t.user, COALESCE(u.name, t.user), t.created_at, t.expires_at, `+s.Dialect().NowMS()+`
		FROM tokens t LEFT JOIN users u ON u.tenant = t.tenant AND u.user = t.user
		WHERE t.hash = ? AND t.tenant = ? AND t.revoked_at IS NULL`, hash, tenant).Scan(&t.User, &t.Name, &created, &expires, &now)
	if err != nil {
		return Token{}, fmt.Errorf("cannot look up token: %w", Wrap(err))
	}
	t.CreatedAt, t.ExpiresAt = fromMS(created), fromNullMS(expires)
	if expires.Valid && expires.Int64 <= now {
		return t, fmt.Errorf("token of user %q: %w", t.User, ErrExpired)
	}
	return t, nil
}

// UserName returns a user's display name, or ErrNotFound.
func (s *Store) UserName(ctx context.Context, tenant, user string) (string, error) {
	var name string
	err := s.DB().QueryRowContext(ctx, `SELECT name FROM users WHERE tenant = ? AND user = ?`, tenant, user).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("cannot read user %q of tenant %q: %w", user, tenant, Wrap(err))
	}
	return name, nil
}
