package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/kmsctl/kms/controlplane"
)

// Status is the whole host at a glance.
func (c *Client) Status(ctx context.Context) (*controlplane.Status, error) {
	return get[*controlplane.Status](ctx, c, "/status", nil)
}

// Versions lists the versions, retired ones included.
func (c *Client) Versions(ctx context.Context) ([]controlplane.VersionInfo, error) {
	return get[[]controlplane.VersionInfo](ctx, c, "/versions", nil)
}

// Version is one version with its sets.
func (c *Client) Version(ctx context.Context, name string) (*controlplane.VersionInfo, error) {
	return get[*controlplane.VersionInfo](ctx, c, path("versions", name), nil)
}

// Doctor is what the control plane finds about itself.
func (c *Client) Doctor(ctx context.Context) ([]controlplane.Finding, error) {
	return get[[]controlplane.Finding](ctx, c, "/doctor", nil)
}

// Audit returns the newest entries first, of one subject when it is not empty.
func (c *Client) Audit(ctx context.Context, subject string, limit int) ([]AuditEntry, error) {
	return get[[]AuditEntry](ctx, c, "/audit", values("subject", subject, "limit", strconv.Itoa(limit)))
}

// Logs calls each for every line; with Follow it ends with ctx only.
func (c *Client) Logs(ctx context.Context, q controlplane.LogQuery, each func(controlplane.LogLine) error) error {
	query := values("version", q.Version, "set", q.Set, "role", q.Role, "lines", strconv.Itoa(q.Lines))
	if q.Follow {
		query.Set("follow", "true")
	}
	return c.stream(ctx, "/logs", query, func(text []byte) error {
		var l controlplane.LogLine
		if err := json.Unmarshal(text, &l); err != nil {
			return c.explain(err)
		}
		return each(l)
	})
}

// Connections lists client connections; empty fields of the filter mean all.
func (c *Client) Connections(ctx context.Context, f controlplane.Connection) ([]controlplane.Connection, error) {
	query := values("id", f.ID, "version", f.Version, "set", f.Set, "tenant", f.Tenant, "user", f.User)
	if len(f.Channels) > 0 {
		query.Set("channel", f.Channels[0])
	}
	return get[[]controlplane.Connection](ctx, c, "/connections", query)
}

// Kick closes connections and tells how many.
func (c *Client) Kick(ctx context.Context, k KickRequest) (int, error) {
	n, err := post[Count](ctx, c, "/connections/kick", k)
	return n.Count, err
}

// Bus tells how each instance's connection to the bus does.
func (c *Client) Bus(ctx context.Context) ([]controlplane.BusStatus, error) {
	return get[[]controlplane.BusStatus](ctx, c, "/bus", nil)
}

// TailBus calls each for what travels on a link until ctx ends.
func (c *Client) TailBus(ctx context.Context, q controlplane.BusQuery, each func(controlplane.BusLine) error) error {
	query := values("link", q.Link, "tenant", q.Tenant, "channel", q.Channel, "version", q.Version)
	if q.Text {
		query.Set("text", "true")
	}
	return c.stream(ctx, "/bus/tail", query, func(text []byte) error {
		var l controlplane.BusLine
		if err := json.Unmarshal(text, &l); err != nil {
			return c.explain(err)
		}
		return each(l)
	})
}

// PingBus measures a round trip over the active link.
func (c *Client) PingBus(ctx context.Context) (*controlplane.LinkReport, error) {
	return post[*controlplane.LinkReport](ctx, c, "/bus/ping", nil)
}

// Links lists the IRC networks that may be the bus.
func (c *Client) Links(ctx context.Context) ([]controlplane.LinkInfo, error) {
	return get[[]controlplane.LinkInfo](ctx, c, "/links", nil)
}

// AddLink adds an IRC network; the first becomes active.
func (c *Client) AddLink(ctx context.Context, r controlplane.LinkRequest) (*controlplane.LinkInfo, error) {
	return post[*controlplane.LinkInfo](ctx, c, "/links", r)
}

// RemoveLink removes a link that is not active.
func (c *Client) RemoveLink(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, path("links", name), nil, nil, nil)
}

// ActivateLink makes a link the bus; the others stand by.
func (c *Client) ActivateLink(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, path("links", name, "activate"), nil, nil, nil)
}

// TestLink connects to a link, sends lines through it and measures.
func (c *Client) TestLink(ctx context.Context, name string) (*controlplane.LinkReport, error) {
	return post[*controlplane.LinkReport](ctx, c, path("links", name, "test"), nil)
}

// NginxRender returns the generated files by name.
func (c *Client) NginxRender(ctx context.Context) (map[string]string, error) {
	return get[map[string]string](ctx, c, "/nginx", nil)
}

// NginxDiff compares what would be rendered with what nginx runs on.
func (c *Client) NginxDiff(ctx context.Context) (*controlplane.NginxReport, error) {
	return get[*controlplane.NginxReport](ctx, c, "/nginx/diff", nil)
}

// NginxTest has nginx check what would be rendered.
func (c *Client) NginxTest(ctx context.Context) (*controlplane.NginxReport, error) {
	return post[*controlplane.NginxReport](ctx, c, "/nginx/test", nil)
}

// NginxApply renders, tests, replaces, reloads and verifies.
func (c *Client) NginxApply(ctx context.Context) (*controlplane.NginxReport, error) {
	return post[*controlplane.NginxReport](ctx, c, "/nginx/apply", nil)
}

// Backup copies the shared database to an absolute path on the control plane's host.
func (c *Client) Backup(ctx context.Context, file string) error {
	return c.patientCall(ctx, http.MethodPost, "/backup", nil, FilePath{file}, nil)
}

// Restore replaces the shared database by a backup.
func (c *Client) Restore(ctx context.Context, file string) error {
	return c.patientCall(ctx, http.MethodPost, "/restore", nil, FilePath{file}, nil)
}

// RestorePlan tells what Restore would do.
func (c *Client) RestorePlan(ctx context.Context, file string) (*controlplane.Plan, error) {
	return post[*controlplane.Plan](ctx, c, "/plans/restore", FilePath{file})
}

// values builds a query from pairs, leaving out what is empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}
