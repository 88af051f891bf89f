package api

import (
	"context"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
)

func getPins(c *call) (any, error) {
	pins, err := c.Pins(c.ctx)
	return some(pins), err
}

func putPin(c *call) (any, error) {
	var r controlplane.PinRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	r.Version, r.Tenant, r.Who = c.r.PathValue("version"), c.r.PathValue("tenant"), c.who
	if r.Message == "" {
		r.Message = c.message
	}
	c.message = r.Message
	if err := names.Version(r.Version); err != nil {
		return nil, err
	}
	if err := names.Tenant(r.Tenant); err != nil {
		return nil, err
	}
	if err := names.Digest(r.Build); err != nil {
		return nil, err
	}
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	if err := checkGate(controlplane.Gate{}, r.Wait); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, startTimeout+r.Wait)
	defer cancel()
	c.audited = true
	return c.Pin(ctx, r)
}

func deletePin(c *call) (any, error) {
	c.audited = true
	return nil, c.Unpin(c.ctx, controlplane.UnpinRequest{
		Version: c.r.PathValue("version"), Tenant: c.r.PathValue("tenant"), Message: c.message, Who: c.who,
	})
}

func getCanary(c *call) (any, error) { return c.CanaryReport(c.ctx, c.r.PathValue("version")) }

func putCanary(c *call) (any, error) {
	var r controlplane.CanaryRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	r.Version, r.Who = c.r.PathValue("version"), c.who
	if r.Message == "" {
		r.Message = c.message
	}
	c.message = r.Message
	if err := names.Version(r.Version); err != nil {
		return nil, err
	}
	if err := names.Digest(r.Build); err != nil {
		return nil, err
	}
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	if err := checkGate(r.Gate, r.Wait); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, startTimeout+r.Wait+gateTimeout)
	defer cancel()
	c.audited = true
	return c.Canary(ctx, r)
}

func deleteCanary(c *call) (any, error) {
	c.audited = true
	return nil, c.WithdrawCanary(c.ctx, controlplane.WithdrawRequest{Version: c.r.PathValue("version"), Message: c.message, Who: c.who})
}

func getDrains(c *call) (any, error) {
	drains, err := c.Drains(c.ctx, c.query("target"))
	return some(drains), err
}

func postDrain(c *call) (any, error) {
	var r controlplane.DrainRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	c.subject, r.Who = r.Target, c.who
	if r.Message == "" {
		r.Message = c.message
	}
	c.message = r.Message
	if r.Target == "" {
		return nil, badRequest("cannot drain nothing: want a version or a set as target")
	}
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	return c.Drain(c.ctx, r)
}

func putDeprecation(c *call) (any, error) {
	var r controlplane.DeprecationRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	r.Version = c.r.PathValue("version")
	if r.Message == "" {
		r.Message = c.message
	}
	c.message = r.Message
	if err := names.Version(r.Version); err != nil {
		return nil, err
	}
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	return c.Deprecate(c.ctx, r)
}

func deleteDeprecation(c *call) (any, error) {
	return nil, c.Undeprecate(c.ctx, c.r.PathValue("version"))
}
