package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

// Builds lists the stored builds.
func (c *Client) Builds(ctx context.Context) ([]controlplane.BuildInfo, error) {
	return get[[]controlplane.BuildInfo](ctx, c, "/builds", nil)
}

// Build finds a build by its digest or by a prefix that only one build has.
func (c *Client) Build(ctx context.Context, prefix string) (*controlplane.BuildInfo, error) {
	return get[*controlplane.BuildInfo](ctx, c, path("builds", prefix), nil)
}

// AddBuild uploads an artifact of size bytes. progress, when not nil, is called now and then with the bytes sent so far.
func (c *Client) AddBuild(ctx context.Context, artifact io.Reader, size int64, progress func(int64)) (*controlplane.BuildInfo, error) {
	var out controlplane.BuildInfo
	if progress != nil {
		artifact = &counter{from: artifact, tell: progress}
	}
	if err := c.send(ctx, http.MethodPost, "/builds", nil, io.NopCloser(artifact), size, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

type counter struct {
	from io.Reader
	sent int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.sent += int64(n)
	c.tell(c.sent)
	return n, err
}

// Plan tells what a request would do.
func (c *Client) Plan(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Plan, error) {
	return post[*controlplane.Plan](ctx, c, "/plans", r)
}

// Start begins a release and returns while it runs. It takes as long as r.Wait when somebody else has the lease.
func (c *Client) Start(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+r.Wait)
	defer cancel()
	return post[*controlplane.Release](ctx, c, "/releases", r)
}

// Leases tells which versions are being changed, by whom, and how many wait.
func (c *Client) Leases(ctx context.Context) ([]controlplane.LeaseInfo, error) {
	return get[[]controlplane.LeaseInfo](ctx, c, "/leases", nil)
}

// Release is an entry of the ledger with its steps.
func (c *Client) Release(ctx context.Context, id int64) (*controlplane.Release, error) {
	return get[*controlplane.Release](ctx, c, path("releases", strconv.FormatInt(id, 10)), nil)
}

// Releases lists the newest releases first, of one version when it is not empty.
func (c *Client) Releases(ctx context.Context, version string, limit int) ([]controlplane.Release, error) {
	return get[[]controlplane.Release](ctx, c, "/releases", values("version", version, "limit", strconv.Itoa(limit)))
}

// Events calls each for what happened lately and what happens, until the release that was asked for has ended, no more is wanted, or
// ctx ends.
func (c *Client) Events(ctx context.Context, q controlplane.EventQuery, each func(controlplane.Event) error) error {
	query := url.Values{"follow": {strconv.FormatBool(q.Follow)}}
	if q.Release != 0 {
		query.Set("release", strconv.FormatInt(q.Release, 10))
	}
	if q.Last != 0 {
		query.Set("last", strconv.Itoa(q.Last))
	}
	return c.stream(ctx, "/events", query, func(text []byte) error {
		var e controlplane.Event
		if err := json.Unmarshal(text, &e); err != nil {
			return c.explain(err)
		}
		return each(e)
	})
}

// followPatience is how long a control plane may be away before whoever follows a release gives up.
const followPatience = 30 * time.Second

// Follow tells every step of a release once and returns it when it has ended. It outlives a control plane that is replaced
// or killed meanwhile. When ctx ends first the release runs on and the error is TimedOut.
func (c *Client) Follow(ctx context.Context, id int64, each func(controlplane.Event)) (*controlplane.Release, error) {
	told := map[string]bool{}
	var ended *controlplane.Release
	var awaySince time.Time
	for {
		err := c.Events(ctx, controlplane.EventQuery{Release: id, Follow: true}, func(e controlplane.Event) error {
			awaySince = time.Time{}
			if e.Ended != nil {
				ended = e.Ended
			}
			if e.Step == nil {
				each(e)
			} else if key := e.Step.Name + " " + e.Step.State; !told[key] {
				told[key] = true
				each(e)
			}
			return nil
		})
		if ended != nil {
			return ended, nil
		}
		if ctx.Err() != nil {
			return nil, controlplane.Errorf(controlplane.TimedOut, "release %d still runs", id).WithHint("kmsctl attach %d", id)
		}
		if err == nil || err == errCutOff {
			if r, err := c.Release(ctx, id); err == nil && r.Ended() {
				return r, nil
			}
		} else if e := controlplane.AsError(err); e.Kind == controlplane.NotFound || e.Kind == controlplane.Denied {
			return nil, e
		}
		if awaySince.IsZero() {
			awaySince = time.Now()
		}
		if time.Since(awaySince) > followPatience {
			return nil, controlplane.Errorf(controlplane.TimedOut, "the control plane went away while release %d ran", id).WithHint("kmsctl attach %d", id)
		}
		wait(ctx, 200*time.Millisecond)
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
