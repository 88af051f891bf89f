package api

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
)

// minPrefix is the shortest prefix of a digest that names a build.
const minPrefix = 4

func getBuilds(c *call) (any, error) {
	builds, err := c.Builds(c.ctx)
	return some(builds), err
}

func postBuild(c *call) (any, error) {
	b, err := c.AddBuild(c.ctx, c.artifact(), c.who)
	if err != nil {
		return nil, err
	}
	c.subject = b.Digest
	return b, nil
}

// getBuild finds a build by its digest or by a prefix that only one build has.
func getBuild(c *call) (any, error) { return c.build() }

func (c *call) build() (controlplane.BuildInfo, error) {
	prefix := c.r.PathValue("build")
	if len(prefix) < minPrefix || len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return controlplane.BuildInfo{}, badRequest("bad build %q: want at least %d lower-case hex digits of its sha256", prefix, minPrefix)
	}
	builds, err := c.Builds(c.ctx)
	if err != nil {
		return controlplane.BuildInfo{}, err
	}
	var found []controlplane.BuildInfo
	for _, b := range builds {
		if strings.HasPrefix(b.Digest, prefix) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return controlplane.BuildInfo{}, controlplane.Errorf(controlplane.NotFound, "no build %q", prefix).WithHint("kmsctl build list")
	case 1:
		return found[0], nil
	}
	return controlplane.BuildInfo{}, controlplane.Errorf(controlplane.Usage, "build %q is ambiguous: %d builds begin so", prefix, len(found)).WithHint("kmsctl build list")
}

// releaseRequest reads and checks what both a plan and a release are asked with.
func (c *call) releaseRequest() (controlplane.ReleaseRequest, error) {
	var r controlplane.ReleaseRequest
	if err := c.decode(&r, maxBody); err != nil {
		return r, err
	}
	c.subject = r.Version
	if r.Message == "" {
		r.Message = c.message
	}
	c.message, r.Who = r.Message, c.who
	if err := names.Version(r.Version); err != nil {
		return r, err
	}
	if r.Build != "" {
		if err := names.Digest(r.Build); err != nil {
			return r, err
		}
	}
	switch {
	case r.Kind != controlplane.KindDeploy && r.Kind != controlplane.KindRollback && r.Kind != controlplane.KindRetire:
		return r, badRequest("bad kind %q: want deploy, rollback or retire", r.Kind)
	case r.Kind == controlplane.KindDeploy && r.Build == "":
		return r, badRequest("cannot deploy without a build")
	case r.Kind == controlplane.KindRetire && r.Build != "":
		return r, badRequest("cannot retire a build: builds are collected when nothing uses them")
	}
	if r.Gate != (controlplane.Gate{}) && r.Kind == controlplane.KindRetire {
		return r, badRequest("cannot retire with a gate: nothing new serves")
	}
	if err := checkGate(r.Gate, r.Wait); err != nil {
		return r, err
	}
	return r, checkMessage(r.Message)
}

const (
	maxWait    = 24 * time.Hour
	maxCommand = 4096 // bytes
)

func checkGate(g controlplane.Gate, wait time.Duration) error {
	if wait < 0 || wait > maxWait {
		return badRequest("bad wait_ns %d: want 0 to %d, which is %s", wait, int64(maxWait), maxWait)
	}
	for name, command := range map[string]string{"warm_up": g.WarmUp, "check": g.Check} {
		if len(command) > maxCommand || !utf8.ValidString(command) || strings.ContainsRune(command, 0) {
			return badRequest("bad command for %s: want UTF-8 without NUL of at most %d bytes", name, maxCommand)
		}
	}
	return nil
}

func postPlan(c *call) (any, error) {
	r, err := c.releaseRequest()
	if err != nil {
		return nil, err
	}
	r.DryRun = true
	return c.Plan(c.ctx, r)
}

func postRelease(c *call) (any, error) {
	r, err := c.releaseRequest()
	if err != nil {
		return nil, err
	}
	if r.DryRun {
		return nil, badRequest("cannot start a dry run: POST it to /v1/plans")
	}
	if r.Force && r.Message == "" {
		return nil, badRequest("cannot force without a message that says why")
	}
	c.subject = string(r.Kind) + " " + r.Version
	ctx, cancel := context.WithTimeout(c.ctx, defaultTimeout+r.Wait)
	defer cancel()
	release, err := c.Start(ctx, r)
	c.audited = release != nil && (release.Queued || !release.Ended()) // else it was not begun
	return release, err
}

func getLeases(c *call) (any, error) {
	leases, err := c.Leases(c.ctx)
	return some(leases), err
}

func getReleases(c *call) (any, error) {
	version := c.query("version")
	if version != "" {
		if err := names.Version(version); err != nil {
			return nil, err
		}
	}
	limit, err := c.queryInt("limit", 20)
	if err != nil {
		return nil, err
	}
	releases, err := c.Releases(c.ctx, version, int(min(limit, 10_000)))
	return some(releases), err
}

func getRelease(c *call) (any, error) {
	id, err := strconv.ParseInt(c.r.PathValue("release"), 10, 64)
	if err != nil || id < 1 {
		return nil, badRequest("bad release %q: want its number", c.r.PathValue("release"))
	}
	return c.Release(c.ctx, id)
}
