package api

import (
	"cmp"

	"github.com/kmsctl/kms/runtime/store"
)

func getLimits(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	return c.limits(id)
}

func patchLimits(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var change map[string]int
	if err := c.decode(&change, maxBody); err != nil {
		return nil, err
	}
	if len(change) == 0 {
		return nil, badRequest("cannot change nothing: want at least one limit")
	}
	if err := store.CheckLimits(change); err != nil {
		return nil, err
	}
	if err := c.Store().SetTenantLimits(c.ctx, id, change); err != nil {
		return nil, err
	}
	return c.limits(id)
}

// limits tells each of a tenant's limits and what it has refused.
func (c *call) limits(id string) ([]TenantLimit, error) {
	t, err := c.Store().Tenant(c.ctx, id)
	if err != nil {
		return nil, err
	}
	refused, err := c.Limited(c.ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]TenantLimit, len(store.AllLimits))
	for i, l := range store.AllLimits {
		own := *l.Of(&t.Limits)
		out[i] = TenantLimit{
			Limit: l.Name, Value: cmp.Or(own, l.Default), Set: own != 0, Default: l.Default, Max: l.Max, About: l.About, Refused: refused[l.Name],
		}
	}
	return out, nil
}
