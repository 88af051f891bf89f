package api

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

func getStatus(c *call) (any, error) { return c.Status(c.ctx) }

func getVersions(c *call) (any, error) {
	st, err := c.Status(c.ctx)
	if err != nil {
		return nil, err
	}
	return some(st.Versions), nil
}

func getVersion(c *call) (any, error) {
	name := c.r.PathValue("version")
	if err := names.Version(name); err != nil {
		return nil, err
	}
	st, err := c.Status(c.ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range st.Versions {
		if v.Name == name {
			return v, nil
		}
	}
	return nil, controlplane.Errorf(controlplane.NotFound, "no version %q", name).WithHint("kmsctl list")
}

func getDoctor(c *call) (any, error) {
	findings, err := c.Doctor(c.ctx)
	return some(findings), err
}

func getAudit(c *call) (any, error) {
	limit, err := c.queryInt("limit", 50)
	if err != nil {
		return nil, err
	}
	trail, err := c.Store().AuditTrail(c.ctx, store.AuditFilter{Subject: c.query("subject"), Limit: int(min(limit, 10_000))})
	if err != nil {
		return nil, err
	}
	out := make([]AuditEntry, 0, len(trail))
	for _, a := range trail {
		out = append(out, AuditEntry{ID: a.ID, At: a.At, Who: a.Who, Action: a.Action, Subject: a.Subject, Message: a.Message, Result: a.Result, Node: a.Node})
	}
	return out, nil
}

func getConnections(c *call) (any, error) {
	filter := controlplane.Connection{ID: c.query("id"), Version: c.query("version"), Set: c.query("set"), Tenant: c.query("tenant"), User: c.query("user")}
	if channel := c.query("channel"); channel != "" {
		filter.Channels = []string{channel}
	}
	conns, err := c.Connections(c.ctx, filter)
	return some(conns), err
}

func postKick(c *call) (any, error) {
	var k KickRequest
	if err := c.decode(&k, maxBody); err != nil {
		return nil, err
	}
	filter := controlplane.Connection{ID: k.ID, Version: k.Version, Set: k.Set, Tenant: k.Tenant, User: k.User}
	c.subject = kickSubject(filter)
	if c.subject == "" {
		return nil, badRequest("cannot kick everyone: name an id, a version, a set, a tenant or a user")
	}
	if len(k.Reason) > 100 { // a close frame holds 123 bytes of reason
		return nil, badRequest("bad reason: want at most 100 bytes")
	}
	closed, err := c.Kick(c.ctx, filter, k.Reason)
	return Count{closed}, err
}

func kickSubject(f controlplane.Connection) string {
	subject := ""
	for _, part := range []struct{ name, value string }{{"id", f.ID}, {"version", f.Version}, {"set", f.Set}, {"tenant", f.Tenant}, {"user", f.User}} {
		if part.value != "" {
			subject += " " + part.name + "=" + part.value
		}
	}
	if subject == "" {
		return ""
	}
	return subject[1:]
}

func getNginx(c *call) (any, error)   { return c.NginxRender(c.ctx) }
func diffNginx(c *call) (any, error)  { return c.NginxDiff(c.ctx) }
func testNginx(c *call) (any, error)  { return c.NginxTest(c.ctx) }
func applyNginx(c *call) (any, error) { return c.NginxApply(c.ctx) }

// filePath reads the body of backup and restore. The path must be absolute: the daemon's directory is not the caller's.
func (c *call) filePath() (string, error) {
	var f FilePath
	if err := c.decode(&f, maxBody); err != nil {
		return "", err
	}
	c.subject = f.Path
	if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
		return "", badRequest("bad path %q: want an absolute, clean one", f.Path)
	}
	return f.Path, nil
}

func postBackup(c *call) (any, error) {
	path, err := c.filePath()
	if err != nil {
		return nil, err
	}
	return nil, c.Backup(c.ctx, path)
}

func postRestore(c *call) (any, error) {
	path, err := c.filePath()
	if err != nil {
		return nil, err
	}
	return nil, c.Restore(c.ctx, path)
}

func postRestorePlan(c *call) (any, error) {
	path, err := c.filePath()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, controlplane.Errorf(controlplane.NotFound, "no backup file %q", path)
	}
	st, err := c.Status(c.ctx)
	if err != nil {
		return nil, err
	}
	plan := controlplane.Plan{}
	for _, v := range st.Versions {
		for _, set := range v.Sets {
			plan.Steps = append(plan.Steps, fmt.Sprintf("stop set %s of %s, closing its connections with 1012", set.ID, v.Name))
		}
	}
	plan.Steps = append(plan.Steps, fmt.Sprintf("replace the shared database with %s (%d bytes, written %s)", path, info.Size(), info.ModTime().UTC().Format("2006-01-02 15:04:05Z")),
		"give every channel and the changes feed a new epoch", "start the sets again")
	return plan, nil
}

// some makes an empty list of nil, which JSON would show as null.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
