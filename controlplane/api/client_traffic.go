package api

import (
	"context"
	"net/http"

	"github.com/kmsctl/kms/controlplane"
)

// Pins lists the pins, by version and tenant.
func (c *Client) Pins(ctx context.Context) ([]controlplane.Pin, error) {
	return get[[]controlplane.Pin](ctx, c, "/pins", nil)
}

// Pin holds a tenant on a build, starting a set of it unless one runs, which takes as long as the build does.
func (c *Client) Pin(ctx context.Context, r controlplane.PinRequest) (*controlplane.Pin, error) {
	var out controlplane.Pin
	if err := c.patientCall(ctx, http.MethodPut, path("versions", r.Version, "pins", r.Tenant), nil, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Unpin leads a tenant where everybody is led.
func (c *Client) Unpin(ctx context.Context, version, tenant string) error {
	return c.call(ctx, http.MethodDelete, path("versions", version, "pins", tenant), nil, nil, nil)
}

// StartCanary leads a share of a version's users to a build, starting a set of it unless one runs, or changes the share.
func (c *Client) StartCanary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
	var out controlplane.Canary
	if err := c.patientCall(ctx, http.MethodPut, path("versions", r.Version, "canary"), nil, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Canary holds a version's canary against the build beside it.
func (c *Client) Canary(ctx context.Context, version string) (*controlplane.CanaryReport, error) {
	return get[*controlplane.CanaryReport](ctx, c, path("versions", version, "canary"), nil)
}

// WithdrawCanary ends a version's canary.
func (c *Client) WithdrawCanary(ctx context.Context, version string) error {
	return c.call(ctx, http.MethodDelete, path("versions", version, "canary"), nil, nil, nil)
}

// Drain moves the clients of a set, or changes the pace of a drain that runs.
func (c *Client) Drain(ctx context.Context, r controlplane.DrainRequest) ([]controlplane.Drain, error) {
	return post[[]controlplane.Drain](ctx, c, "/drains", r)
}

// Drains tells how far the clients of a set or version have moved, of all that are being left when target is empty.
func (c *Client) Drains(ctx context.Context, target string) ([]controlplane.Drain, error) {
	return get[[]controlplane.Drain](ctx, c, "/drains", values("target", target))
}

// Deprecate says of a version that it will go away.
func (c *Client) Deprecate(ctx context.Context, r controlplane.DeprecationRequest) (*controlplane.Deprecation, error) {
	var out controlplane.Deprecation
	if err := c.call(ctx, http.MethodPut, path("versions", r.Version, "deprecation"), nil, r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Undeprecate takes that back.
func (c *Client) Undeprecate(ctx context.Context, version string) error {
	return c.call(ctx, http.MethodDelete, path("versions", version, "deprecation"), nil, nil, nil)
}

// SetTenant changes a tenant's settings and returns the tenant.
func (c *Client) SetTenant(ctx context.Context, id string, change TenantChange) (*Tenant, error) {
	var out Tenant
	if err := c.call(ctx, http.MethodPatch, path("tenants", id), nil, change, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// VerifyBuild hashes a stored build's file again.
func (c *Client) VerifyBuild(ctx context.Context, prefix string) (*controlplane.BuildCheck, error) {
	var out controlplane.BuildCheck
	if err := c.patientCall(ctx, http.MethodPost, path("builds", prefix, "verify"), nil, nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// CollectBuilds removes builds that nothing needs, or with DryRun only tells which.
func (c *Client) CollectBuilds(ctx context.Context, r controlplane.GCRequest) ([]controlplane.GCBuild, error) {
	if r.DryRun {
		return post[[]controlplane.GCBuild](ctx, c, "/plans/gc", r)
	}
	var out []controlplane.GCBuild
	err := c.patientCall(ctx, http.MethodPost, "/gc", nil, r, &out)
	return out, err
}
