package store

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestToken_livesUntilExpiryOrRevocation(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		got[Tenant](t)(s.CreateTenant(ctx, Tenant{ID: "other"}))
		before := head(t, s)
		soon := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Name: "勇者", ExpiresAt: soon, Hash: hash(1)}))
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Hash: hash(2)}))
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", ExpiresAt: time.Now().Add(-time.Minute), Hash: hash(3)}))
		if lines := changesSince(t, s, before); len(lines) != 0 {
			t.Errorf("new tokens made changes: %q", lines)
		}
		a := got[Token](t)(s.LookupToken(ctx, tenant, hash(1)))
		if a.User != "u" || a.Name != "勇者" || !a.ExpiresAt.Equal(soon) {
			t.Errorf("token: %+v", a)
		}
		if b := got[Token](t)(s.LookupToken(ctx, tenant, hash(2))); !b.ExpiresAt.IsZero() || b.Name != "勇者" {
			t.Errorf("token without expiry and name: %+v", b)
		}
		if c, err := s.LookupToken(ctx, tenant, hash(3)); !errors.Is(err, ErrExpired) || c.User != "u" {
			t.Errorf("expired token: %+v, %v", c, err)
		}
		_, foreign := s.LookupToken(ctx, "other", hash(1))
		_, unknown := s.LookupToken(ctx, tenant, hash(4))
		if !errors.Is(foreign, ErrNotFound) || !errors.Is(unknown, ErrNotFound) {
			t.Errorf("foreign token: %v, unknown token: %v; want ErrNotFound", foreign, unknown)
		}
		if err := s.PutToken(ctx, Token{Tenant: "other", User: "u", Hash: hash(1)}); !errors.Is(err, ErrExists) {
			t.Errorf("another tenant puts the same hash: %v", err)
		}
		if n := got[int](t)(s.RevokeTokens(ctx, tenant, "u")); n != 3 {
			t.Errorf("revoked %d, want 3", n)
		}
		if n := got[int](t)(s.RevokeTokens(ctx, tenant, "u")); n != 0 {
			t.Errorf("revoked %d the second time", n)
		}
		if _, err := s.LookupToken(ctx, tenant, hash(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked token: %v", err)
		}
		if err := s.PutToken(ctx, Token{Tenant: tenant, User: "u", Hash: hash(1)}); !errors.Is(err, ErrConflict) {
			t.Errorf("a revoked token comes back: %v", err)
		}
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"token demo u revoked"}) {
			t.Errorf("changes: %q", lines)
		}
	})
}

func TestPutToken_tellsRenamesAndNewExpiries(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Hash: hash(1)}))
		if name := got[string](t)(s.UserName(ctx, tenant, "u")); name != "u" {
			t.Errorf("name %q, want the id", name)
		}
		before := head(t, s)
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Name: "ゆう", Hash: hash(1)}))
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Name: "ゆう", Hash: hash(1)}))
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", ExpiresAt: time.Now().Add(time.Hour), Hash: hash(1)}))
		if name := got[string](t)(s.UserName(ctx, tenant, "u")); name != "ゆう" {
			t.Errorf("name %q", name)
		}
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"user demo u ", "token demo u "}) {
			t.Errorf("changes: %q", lines)
		}
	})
}

func TestPutToken_forgetsTokensLongOver(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", ExpiresAt: time.Now().Add(-2 * tokenKeep), Hash: hash(1)}))
		must(t, s.PutToken(ctx, Token{Tenant: tenant, User: "u", Hash: hash(2)}))
		if _, err := s.LookupToken(ctx, tenant, hash(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("a token two days over: %v, want ErrNotFound", err)
		}
	})
}
