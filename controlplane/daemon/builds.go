package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxKeep = 1000
	// ledgerBack is how many releases of a version are looked through for its last builds.
	ledgerBack = 1000
)

// VerifyBuild hashes a stored build's file again. A file that is not the build's any more counts as missing from then on, so that
// uploading it again heals it.
func (d *Daemon) VerifyBuild(ctx context.Context, digest string) (*controlplane.BuildCheck, error) {
	b, err := d.Store().Build(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, controlplane.Errorf(controlplane.NotFound, "there is no build %q", digest).WithHint("kmsctl build list")
	}
	if err != nil {
		return nil, err
	}
	problem, err := checkArtifact(ctx, d.home.Artifact(digest), b)
	if err != nil {
		return nil, err
	}
	if problem == "" {
		d.damaged.Delete(digest)
	} else {
		d.damaged.Store(digest, true)
	}
	return &controlplane.BuildCheck{Build: digest, Version: b.Version, Label: b.Label, OK: problem == "", Problem: problem}, nil
}

// checkArtifact says what is wrong with a file, or nothing.
func checkArtifact(ctx context.Context, path string, b store.Build) (problem string, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "the file is missing", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot verify build %q: %v", b.Digest, err)
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, cancelled{ctx, file})
	if err != nil {
		return "", fmt.Errorf("cannot verify build %q: %w", b.Digest, err)
	}
	switch now := hex.EncodeToString(hash.Sum(nil)); {
	case size != b.Size:
		return fmt.Sprintf("the file has %d bytes, the build %d", size, b.Size), nil
	case now != b.Digest:
		return "the file's sha256 is " + now, nil
	}
	return "", nil
}

// cancelled reads until ctx ends.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// CollectBuilds removes stored builds that nothing needs, files that belong to no build among them, and tells of all with why those
// that stay do. Where several hosts share the database, what the others need is not known here: then only this host's files go.
func (d *Daemon) CollectBuilds(ctx context.Context, r controlplane.GCRequest) ([]controlplane.GCBuild, error) {
	if r.Keep == 0 {
		r.Keep = d.cfg.Int("gc.keep")
	}
	if r.Keep < 1 || r.Keep > maxKeep {
		return nil, controlplane.Errorf(controlplane.Usage, "bad number %d of builds to keep: want 1 to %d", r.Keep, maxKeep)
	}
	d.storing.Lock() // no upload is between its file and its entry
	defer d.storing.Unlock()
	builds, err := d.Store().Builds(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := d.keptBuilds(ctx, builds, r.Keep)
	if err != nil {
		return nil, err
	}
	nodes, err := d.Store().Nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := []controlplane.GCBuild{}
	for _, b := range builds {
		g := controlplane.GCBuild{Build: b.Digest, Version: b.Version, Label: b.Label, Size: b.Size, CreatedAt: b.CreatedAt, Kept: kept[b.Digest]}
		if len(nodes) > 1 && g.Kept == "" && !d.stored(b) {
			g.Kept = "other hosts may need it"
		}
		out = append(out, g)
	}
	out = append(out, d.strangeArtifacts(builds, kept)...)
	if r.DryRun {
		return out, nil
	}
	for i := range out {
		if out[i].Kept == "" {
			if err := d.collect(ctx, &out[i], len(nodes) > 1); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// collect removes a build unless somebody has begun to use it meanwhile. The file goes first: an entry without one is found by the next
// collection.
func (d *Daemon) collect(ctx context.Context, g *controlplane.GCBuild, shared bool) error {
	if err := d.removeUnused(g); err != nil || g.Kept != "" {
		return err
	}
	if g.Version != "" && !shared {
		if err := d.Store().DeleteBuild(ctx, g.Build); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	d.damaged.Delete(g.Build)
	d.log.Info("build collected", "build", g.Build, "version", g.Version, "label", g.Label, "bytes", g.Size)
	return nil
}

// removeUnused removes a build's file. Whoever claims a version from now on for this build finds none.
func (d *Daemon) removeUnused(g *controlplane.GCBuild) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdLocal(func(build, why string) {
		if build == g.Build {
			g.Kept = why
		}
	})
	if g.Kept != "" {
		return nil
	}
	if err := os.Remove(d.home.Artifact(g.Build)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove build %q: %v", g.Build, err)
	}
	return nil
}

// keptBuilds tells of each build that has to stay why.
func (d *Daemon) keptBuilds(ctx context.Context, builds []store.Build, keep int) (map[string]string, error) {
	kept := map[string]string{}
	hold := func(build, why string) {
		if kept[build] == "" {
			kept[build] = why
		}
	}
	d.mu.Lock()
	d.holdLocal(hold)
	d.mu.Unlock()
	flights, err := d.host.Flights()
	if err != nil {
		return nil, err
	}
	for _, f := range flights { // what has ended and is owed to the ledger among them
		holdFlight(f.Release, hold)
	}
	versions, err := d.Store().Versions(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if v.State == store.VersionLive {
			hold(v.Build, "serves "+v.Name)
		}
		if err := d.holdLast(ctx, v.Name, keep, hold); err != nil {
			return nil, err
		}
	}
	uploaded := map[string]int{}
	for _, b := range builds { // newest first
		if uploaded[b.Version]++; uploaded[b.Version] <= keep {
			hold(b.Digest, fmt.Sprintf("among the last %d of %s", keep, b.Version))
		}
	}
	return kept, nil
}

func holdFlight(r controlplane.Release, hold func(build, why string)) {
	hold(r.Build, fmt.Sprintf("%s of %s is under way", r.Kind, r.Version))
	hold(r.Previous, fmt.Sprintf("%s of %s is under way", r.Kind, r.Version))
}

// holdLocal holds what sets, pins, canaries and flights of this host run on, and what those that wait for the lease will; d.mu is held.
func (d *Daemon) holdLocal(hold func(build, why string)) {
	for _, s := range d.sets {
		hold(s.Build, fmt.Sprintf("%s for %s", s.State, s.Version))
	}
	for version, pins := range d.pins {
		for _, p := range pins {
			hold(p.Build, fmt.Sprintf("%s is pinned to it on %s", p.Tenant, version))
		}
	}
	for version, c := range d.canaries {
		hold(c.Build, "canary of "+version)
	}
	for _, f := range d.flights {
		holdFlight(f.record.Release, hold)
	}
	for _, f := range d.waitingLocked() {
		hold(f.record.Release.Build, fmt.Sprintf("%s of %s waits for the lease", f.record.Release.Kind, f.record.Release.Version))
	}
}

// holdLast holds the builds that a version served last, to which it may be rolled back.
func (d *Daemon) holdLast(ctx context.Context, version string, keep int, hold func(build, why string)) error {
	past, err := d.Store().Releases(ctx, version, ledgerBack)
	if err != nil {
		return err
	}
	served := []string{}
	for _, r := range past {
		if r.State == store.ReleaseDone && r.Build != "" && !slices.Contains(served, r.Build) && len(served) < keep {
			served = append(served, r.Build)
			hold(r.Build, fmt.Sprintf("among the last %d of %s", keep, version))
		}
	}
	return nil
}

// strangeArtifacts are files that the database knows no build for: after a restore, or a collection that was killed.
func (d *Daemon) strangeArtifacts(builds []store.Build, kept map[string]string) (out []controlplane.GCBuild) {
	entries, _ := os.ReadDir(d.home.Artifacts())
	for _, e := range entries {
		digest := e.Name()
		known := slices.ContainsFunc(builds, func(b store.Build) bool { return b.Digest == digest })
		info, err := e.Info()
		if known || err != nil || names.Digest(digest) != nil || !info.Mode().IsRegular() {
			continue
		}
		out = append(out, controlplane.GCBuild{Build: digest, Size: info.Size(), CreatedAt: info.ModTime(), Kept: kept[digest]})
	}
	return out
}

// mayMigrate refuses a schema that a build could not serve under which serves, is warm, pinned or a canary: started again after a
// crash, it would not come back. What is only stored is refused when it is deployed.
func (d *Daemon) mayMigrate(ctx context.Context, schema int) error {
	current, err := d.Store().Schema(ctx)
	if err != nil || current == 0 || current >= schema {
		return err
	}
	needed, err := d.runningBuilds(ctx)
	if err != nil {
		return err
	}
	builds, err := d.Store().Builds(ctx)
	if err != nil {
		return err
	}
	var old []string
	for _, b := range builds {
		if why, ok := needed[b.Digest]; ok && b.SchemaMax < schema {
			old = append(old, fmt.Sprintf("build %s %s (%s): up to schema %d", b.Digest[:12], b.Label, why, b.SchemaMax))
		}
	}
	if len(old) == 0 {
		return nil
	}
	slices.Sort(old)
	return controlplane.Errorf(controlplane.Failed, "cannot migrate the shared database from schema %d to %d, under which these could not serve:\n  %s",
		current, schema, strings.Join(old, "\n  ")).
		WithHint("with the kmsctl of before, deploy builds that know schema %d, and wait until no set of these is left", schema)
}

// runningBuilds are those that this host runs or means to, and those that serve on any host.
func (d *Daemon) runningBuilds(ctx context.Context) (map[string]string, error) {
	needed := map[string]string{}
	sets, err := d.host.Sets()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(sets, func(a, b hostdb.Set) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range sets {
		needed[s.Build] = fmt.Sprintf("%s for %s", s.State, s.Version)
	}
	versions, err := d.Store().Versions(ctx)
	for _, v := range versions {
		if v.State == store.VersionLive {
			needed[v.Build] = "serves " + v.Name
		}
	}
	return needed, err
}
