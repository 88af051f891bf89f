package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/store"
)

// uploadPattern names artifacts that are not whole yet.
const uploadPattern = ".upload-*"

// AddBuild stores an artifact under the digest of its bytes, lets it describe itself and notes it in the shared database. A
// file that is no build is not kept.
func (d *Daemon) AddBuild(ctx context.Context, artifact io.Reader, who string) (*controlplane.BuildInfo, error) {
	d.storing.RLock() // or the collection would find a file that nobody knows yet
	defer d.storing.RUnlock()
	digest, size, err := d.storeArtifact(artifact)
	if err != nil {
		return nil, err
	}
	path := d.home.Artifact(digest)
	desc, err := supervise.Describe(ctx, path, digest)
	if err != nil {
		d.dropUnknown(ctx, digest)
		return nil, unfit(err)
	}
	ctx, cancel := asking(ctx)
	defer cancel()
	b := store.Build{
		Digest: digest, Label: desc.Label, Version: desc.Version, Contract: desc.Contract,
		SchemaMin: desc.SchemaMin, SchemaMax: desc.SchemaMax, Size: size, By: who,
	}
	if err := d.Store().PutBuild(ctx, b); err != nil {
		return nil, err
	}
	if b, err = d.Store().Build(ctx, digest); err != nil {
		return nil, err
	}
	info := d.buildInfo(b)
	return &info, nil
}

// dropUnknown removes an artifact that is no build. One that was recorded once may be running.
func (d *Daemon) dropUnknown(ctx context.Context, digest string) {
	ctx, cancel := asking(ctx)
	defer cancel()
	if _, err := d.Store().Build(ctx, digest); errors.Is(err, store.ErrNotFound) {
		os.Remove(d.home.Artifact(digest))
	}
}

// stored reports whether this host has the build's file whole, as far as is known; its bytes are held against the digest when they
// are executed.
func (d *Daemon) stored(b store.Build) bool {
	if _, bad := d.damaged.Load(b.Digest); bad {
		return false
	}
	info, err := os.Stat(d.home.Artifact(b.Digest))
	return err == nil && info.Mode().IsRegular() && info.Size() == b.Size
}

// unfit explains why a file cannot be deployed.
func unfit(err error) error {
	var build *supervise.BuildError
	if !errors.As(err, &build) {
		return controlplane.Errorf(controlplane.Unhealthy, "the file is not a build that can serve: %v", err)
	}
	// Without its path: the uploaded copy is gone by now, and the caller knows what he sent.
	e := controlplane.Errorf(controlplane.Unhealthy, "the file is not a build that can serve: %s: %s", build.Reason, build.Detail)
	if build.Reason == supervise.NotExecutable {
		return e.WithHint("is it built for this machine? file PATH tells")
	}
	return e.WithHint("a build answers `BUILD describe`; docs/writing-a-version.md says how")
}

// storeArtifact writes the bytes beside their final name, hashes them on the way and renames when all of it is on disk.
func (d *Daemon) storeArtifact(artifact io.Reader) (digest string, size int64, err error) {
	temp, err := os.CreateTemp(d.home.Artifacts(), uploadPattern)
	if err != nil {
		return "", 0, fmt.Errorf("cannot store the build: %v", err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	hash := sha256.New()
	if size, err = io.Copy(io.MultiWriter(temp, hash), artifact); errors.Is(err, unix.ENOSPC) {
		return "", 0, controlplane.Errorf(controlplane.Failed, "cannot store the build: the disk of %s is full", d.home.Artifacts()).
			WithHint("kmsctl build gc makes room; df -h %s", d.home.Artifacts())
	} else if err != nil {
		return "", 0, fmt.Errorf("cannot store the build: %v", err)
	}
	digest = hex.EncodeToString(hash.Sum(nil))
	if err := errors.Join(temp.Chmod(0o550), temp.Sync(), temp.Close()); err != nil {
		return "", 0, fmt.Errorf("cannot store the build: %v", err)
	}
	if err := os.Rename(temp.Name(), d.home.Artifact(digest)); err != nil {
		return "", 0, fmt.Errorf("cannot store the build: %v", err)
	}
	d.damaged.Delete(digest)
	return digest, size, syncDir(d.home.Artifacts())
}

// syncDir makes renames in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("cannot sync %q: %v", path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("cannot sync %q: %v", path, err)
	}
	return nil
}

// Builds lists what is known, with who holds it.
func (d *Daemon) Builds(ctx context.Context) ([]controlplane.BuildInfo, error) {
	asked, cancel := context.WithTimeout(ctx, rollbackPatience) // rollback --to asks here first
	defer cancel()
	builds, err := d.Store().Builds(asked)
	if errors.Is(err, store.ErrUnavailable) {
		builds, err = d.buildsHere(), nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]controlplane.BuildInfo, 0, len(builds))
	for _, b := range builds {
		out = append(out, d.buildInfo(b))
	}
	return out, nil
}

// buildsHere are the builds of this host's sets, all that is known while the shared database is away.
func (d *Daemon) buildsHere() []store.Build {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := map[string]store.Build{}
	for _, s := range d.sets {
		known[s.Build] = store.Build{Digest: s.Build, Label: s.Label, Version: s.Version}
	}
	return slices.Collect(maps.Values(known))
}

func (d *Daemon) buildInfo(b store.Build) controlplane.BuildInfo {
	info := controlplane.BuildInfo{
		Digest: b.Digest, Label: b.Label, Version: b.Version, Contract: b.Contract,
		SchemaMin: b.SchemaMin, SchemaMax: b.SchemaMax, Size: b.Size, By: b.By, CreatedAt: b.CreatedAt,
	}
	info.Missing = !d.stored(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sets {
		if s.Build == b.Digest {
			info.UsedBy = append(info.UsedBy, fmt.Sprintf("%s/%s (%s)", s.Version, s.ID, s.State))
		}
	}
	return info
}
