package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// ngCall is call for what takes longer with a long list.
func (c *Client) ngCall(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ngTimeout+patience-defaultTimeout)
		defer cancel()
	}
	return c.call(ctx, method, path, query, in, out)
}

func ngCall[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (*T, error) {
	out := new(T)
	if err := c.ngCall(ctx, method, path, query, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// revisions makes a query of revisions; negative ones, which stand for the newest, are left out.
func revisions(pairs map[string]int64) url.Values {
	q := url.Values{}
	for name, n := range pairs {
		if n >= 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	return q
}

// NGLists lists the NG lists of a tenant, or the base lists of "_base".
func (c *Client) NGLists(ctx context.Context, tenant string) ([]NGListInfo, error) {
	return get[[]NGListInfo](ctx, c, path("tenants", tenant, "nglists"), nil)
}

// NGList returns a list as it was at a revision; a negative one stands for the newest.
func (c *Client) NGList(ctx context.Context, tenant, list string, revision int64) (*NGList, error) {
	return ngCall[NGList](ctx, c, http.MethodGet, path("tenants", tenant, "nglists", list), revisions(map[string]int64{"revision": revision}), nil)
}

// ChangeNGList makes a new revision of a list.
func (c *Client) ChangeNGList(ctx context.Context, tenant, list string, change NGChange) (*NGChanged, error) {
	return ngCall[NGChanged](ctx, c, http.MethodPatch, path("tenants", tenant, "nglists", list), nil, change)
}

// PlanNGList tells what a change would do, and what is to be said about the words it adds.
func (c *Client) PlanNGList(ctx context.Context, tenant, list string, change NGChange) (*NGPlan, error) {
	return ngCall[NGPlan](ctx, c, http.MethodPost, path("tenants", tenant, "nglists", list, "plan"), nil, change)
}

// RollbackNGList makes a list what it was at a revision, as a new one.
func (c *Client) RollbackNGList(ctx context.Context, tenant, list string, to NGRollback) (*NGChanged, error) {
	return ngCall[NGChanged](ctx, c, http.MethodPost, path("tenants", tenant, "nglists", list, "rollback"), nil, to)
}

// DeleteNGList removes a list with its history, if it is still at the revision base (negative: at any).
func (c *Client) DeleteNGList(ctx context.Context, tenant, list string, base int64) error {
	return c.call(ctx, http.MethodDelete, path("tenants", tenant, "nglists", list), revisions(map[string]int64{"base": base}), nil, nil)
}

// NGHistory returns the newest revisions of a list, at most limit.
func (c *Client) NGHistory(ctx context.Context, tenant, list string, limit int) ([]NGRevision, error) {
	return get[[]NGRevision](ctx, c, path("tenants", tenant, "nglists", list, "history"), url.Values{"limit": {strconv.Itoa(limit)}})
}

// DiffNGList compares two revisions of a list; a negative one stands for the newest.
func (c *Client) DiffNGList(ctx context.Context, tenant, list string, from, to int64) (*NGDiff, error) {
	return ngCall[NGDiff](ctx, c, http.MethodGet, path("tenants", tenant, "nglists", list, "diff"), revisions(map[string]int64{"from": from, "to": to}), nil)
}

// TestNGLists tells what a tenant's NG lists do to texts.
func (c *Client) TestNGLists(ctx context.Context, tenant string, texts NGTexts) ([]NGVerdict, error) {
	out, err := ngCall[[]NGVerdict](ctx, c, http.MethodPost, path("tenants", tenant, "nglists", "test"), nil, texts)
	if err != nil {
		return nil, err
	}
	return *out, nil
}
