package api

import (
	"context"
	"net/http"
)

// Tenants lists the tenants.
func (c *Client) Tenants(ctx context.Context) ([]Tenant, error) {
	return get[[]Tenant](ctx, c, "/tenants", nil)
}

// Tenant is one tenant.
func (c *Client) Tenant(ctx context.Context, id string) (*Tenant, error) {
	return get[*Tenant](ctx, c, path("tenants", id), nil)
}

// AddTenant makes a tenant.
func (c *Client) AddTenant(ctx context.Context, n NewTenant) (*Tenant, error) {
	return post[*Tenant](ctx, c, "/tenants", n)
}

// TenantLimits lists a tenant's limits.
func (c *Client) TenantLimits(ctx context.Context, id string) ([]TenantLimit, error) {
	return get[[]TenantLimit](ctx, c, path("tenants", id, "limits"), nil)
}

// SetTenantLimits changes the limits that are named, 0 to the default, and returns all.
func (c *Client) SetTenantLimits(ctx context.Context, id string, change map[string]int) (list []TenantLimit, err error) {
	err = c.call(ctx, http.MethodPatch, path("tenants", id, "limits"), nil, change, &list)
	return list, err
}

// SuspendTenant closes a tenant's connections and refuses its logins and calls.
func (c *Client) SuspendTenant(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, path("tenants", id, "suspend"), nil, nil, nil)
}

// ResumeTenant takes a suspension back.
func (c *Client) ResumeTenant(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, path("tenants", id, "resume"), nil, nil, nil)
}

// RemoveTenant removes a tenant with all that is its own.
func (c *Client) RemoveTenant(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, path("tenants", id), nil, nil, nil)
}

// Keys lists a tenant's API keys, revoked ones included, without their secrets.
func (c *Client) Keys(ctx context.Context, tenant string) ([]Key, error) {
	return get[[]Key](ctx, c, path("tenants", tenant, "keys"), nil)
}

// AddKey makes an API key. Its secret is in this answer and nowhere else.
func (c *Client) AddKey(ctx context.Context, tenant, label string) (*MadeKey, error) {
	return post[*MadeKey](ctx, c, path("tenants", tenant, "keys"), NewKey{label})
}

// RevokeKey ends an API key.
func (c *Client) RevokeKey(ctx context.Context, tenant, id string) error {
	return c.call(ctx, http.MethodDelete, path("tenants", tenant, "keys", id), nil, nil, nil)
}

// PutToken stores a user's token, making one when n has none.
func (c *Client) PutToken(ctx context.Context, tenant, user string, n NewToken) (*MadeToken, error) {
	var out MadeToken
	if err := c.call(ctx, http.MethodPut, path("tenants", tenant, "tokens", user), nil, n, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// RevokeTokens ends all tokens of a user and tells how many.
func (c *Client) RevokeTokens(ctx context.Context, tenant, user string) (int, error) {
	var n Count
	err := c.call(ctx, http.MethodDelete, path("tenants", tenant, "tokens", user), nil, nil, &n)
	return n.Count, err
}

// Channels lists a tenant's channels.
func (c *Client) Channels(ctx context.Context, tenant string) ([]Channel, error) {
	return get[[]Channel](ctx, c, path("tenants", tenant, "channels"), nil)
}

// AddChannel makes a channel.
func (c *Client) AddChannel(ctx context.Context, tenant string, n NewChannel) (*Channel, error) {
	return post[*Channel](ctx, c, path("tenants", tenant, "channels"), n)
}

// RemoveChannel removes a channel.
func (c *Client) RemoveChannel(ctx context.Context, tenant, channel string) error {
	return c.call(ctx, http.MethodDelete, path("tenants", tenant, "channels", channel), nil, nil, nil)
}

// Members lists a channel's members.
func (c *Client) Members(ctx context.Context, tenant, channel string) ([]string, error) {
	return get[[]string](ctx, c, path("tenants", tenant, "channels", channel, "members"), nil)
}

// Join makes a user a member of a channel; one that is already stays one.
func (c *Client) Join(ctx context.Context, tenant, channel, user string) error {
	return c.call(ctx, http.MethodPut, path("tenants", tenant, "channels", channel, "members", user), nil, nil, nil)
}

// Leave ends a membership.
func (c *Client) Leave(ctx context.Context, tenant, channel, user string) error {
	return c.call(ctx, http.MethodDelete, path("tenants", tenant, "channels", channel, "members", user), nil, nil, nil)
}
