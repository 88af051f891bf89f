package api

import (
	"net/http"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// maxTokenLife bounds how long a token may live, so that a mistyped number is not for ever.
const maxTokenLife = 10 * 365 * 24 * time.Hour

func tenantOf(t store.Tenant, keep time.Duration) Tenant {
	return Tenant{ID: t.ID, Name: t.Name, State: t.State, CreatedAt: t.CreatedAt, MinVersion: t.MinVersion,
		KeepSeconds: int64(keep / time.Second)}
}

func keyOf(k store.APIKey) Key {
	return Key{ID: k.ID, Tenant: k.Tenant, Label: k.Label, CreatedAt: k.CreatedAt, LastUsed: k.LastUsed, RevokedAt: k.RevokedAt}
}

// tenant returns the path's tenant once it is known to exist, so that every list tells a mistyped tenant from an empty one. Our
// own internal tenants may be looked at and not touched.
func (c *call) tenant() (string, error) {
	id := c.r.PathValue("tenant")
	check := names.Tenant
	if c.r.Method == http.MethodGet {
		check = names.AnyTenant
	}
	if err := check(id); err != nil {
		return "", err
	}
	_, err := c.Store().Tenant(c.ctx, id)
	return id, err
}

func getTenants(c *call) (any, error) {
	tenants, err := c.Store().Tenants(c.ctx)
	if err != nil {
		return nil, err
	}
	keep, err := c.Store().Retentions(c.ctx)
	out := make([]Tenant, 0, len(tenants))
	for _, t := range tenants {
		out = append(out, tenantOf(t, keep[t.ID]))
	}
	return out, err
}

func getTenant(c *call) (any, error) {
	id := c.r.PathValue("tenant")
	if err := names.AnyTenant(id); err != nil {
		return nil, err
	}
	return c.tenantNow(id)
}

func (c *call) tenantNow(id string) (Tenant, error) {
	t, err := c.Store().Tenant(c.ctx, id)
	if err != nil {
		return Tenant{}, err
	}
	keep, err := c.Store().Retentions(c.ctx)
	return tenantOf(t, keep[id]), err
}

func postTenant(c *call) (any, error) {
	var n NewTenant
	if err := c.decode(&n, maxBody); err != nil {
		return nil, err
	}
	c.subject = n.ID
	if n.Name == "" {
		n.Name = n.ID
	}
	if err := names.Tenant(n.ID); err != nil {
		return nil, err
	}
	if err := names.Display(n.Name); err != nil {
		return nil, err
	}
	t, err := c.Store().CreateTenant(c.ctx, store.Tenant{ID: n.ID, Name: n.Name})
	return tenantOf(t, 0), err
}

func patchTenant(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var change TenantChange
	if err := c.decode(&change, maxBody); err != nil {
		return nil, err
	}
	if change == (TenantChange{}) {
		return nil, badRequest("cannot change nothing: want min_version or keep_seconds")
	}
	if err := change.check(); err != nil {
		return nil, err
	}
	if change.MinVersion != nil {
		if err := c.Store().SetTenantMinVersion(c.ctx, id, *change.MinVersion); err != nil {
			return nil, err
		}
	}
	if change.KeepSeconds != nil {
		if err := c.Store().SetTenantRetention(c.ctx, id, time.Duration(*change.KeepSeconds)*time.Second); err != nil {
			return nil, err
		}
	}
	return c.tenantNow(id)
}

// check looks at all of a change before any of it is done.
func (t TenantChange) check() error {
	if t.MinVersion != nil && *t.MinVersion != "" {
		if err := names.Version(*t.MinVersion); err != nil {
			return err
		}
	}
	const least, most = int64(store.MinRetention / time.Second), int64(store.MaxRetention / time.Second)
	if keep := t.KeepSeconds; keep != nil && *keep != 0 && (*keep < least || *keep > most) {
		return badRequest("bad keep_seconds %d: want 0 (for ever) or %d (an hour) to %d", *keep, least, most)
	}
	return nil
}

func deleteTenant(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	return nil, c.Store().DeleteTenant(c.ctx, id)
}

func suspendTenant(c *call) (any, error) { return nil, c.setTenantState("suspended") }
func resumeTenant(c *call) (any, error)  { return nil, c.setTenantState("active") }

func (c *call) setTenantState(state string) error {
	id, err := c.tenant()
	if err != nil {
		return err
	}
	return c.Store().SetTenantState(c.ctx, id, state)
}

func getKeys(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	keys, err := c.Store().Keys(c.ctx, id)
	out := make([]Key, 0, len(keys))
	for _, k := range keys {
		out = append(out, keyOf(k))
	}
	return out, err
}

func postKey(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var n NewKey
	if err := c.decode(&n, maxBody); err != nil {
		return nil, err
	}
	if n.Label != "" {
		if err := names.Display(n.Label); err != nil {
			return nil, err
		}
	}
	secret := auth.NewSecret("kms_")
	k, err := c.Store().CreateKey(c.ctx, id, n.Label, auth.Hash(secret))
	if err != nil {
		return nil, err
	}
	c.subject = id + "/" + k.ID
	return MadeKey{keyOf(k), secret}, nil
}

func deleteKey(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	return nil, c.Store().RevokeKey(c.ctx, id, c.r.PathValue("key"))
}

func putToken(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var n NewToken
	if err := c.decode(&n, maxBody); err != nil {
		return nil, err
	}
	made := MadeToken{Tenant: id, User: c.r.PathValue("user"), Name: n.Name}
	if err := names.User(made.User); err != nil {
		return nil, err
	}
	if made.Name != "" {
		if err := names.Display(made.Name); err != nil {
			return nil, err
		}
	}
	life := time.Duration(n.Seconds) * time.Second
	if n.Seconds < 0 || n.Seconds > int64(maxTokenLife/time.Second) {
		return nil, badRequest("bad seconds %d: want 0 (no expiry) to %d", n.Seconds, int64(maxTokenLife/time.Second))
	}
	token := n.Token
	if token == "" {
		token = auth.NewSecret("kmst_")
		made.Secret = token
	} else if len(token) < 16 || len(token) > auth.MaxSecret {
		return nil, badRequest("bad token: want 16 to %d bytes", auth.MaxSecret)
	}
	if n.Seconds > 0 {
		now, err := c.Store().Now(c.ctx) // the clock that decides about expiry
		if err != nil {
			return nil, err
		}
		made.ExpiresAt = now.Add(life)
	}
	err = c.Store().PutToken(c.ctx, store.Token{Tenant: id, User: made.User, Name: made.Name, ExpiresAt: made.ExpiresAt, Hash: auth.Hash(token)})
	if err != nil {
		return nil, err
	}
	made.Name, err = c.Store().UserName(c.ctx, id, made.User)
	return made, err
}

func deleteTokens(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	user := c.r.PathValue("user")
	if err := names.User(user); err != nil {
		return nil, err
	}
	n, err := c.Store().RevokeTokens(c.ctx, id, user)
	return Count{n}, err
}
