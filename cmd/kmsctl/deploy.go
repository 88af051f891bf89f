package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newDeploy(c *cli) *cobra.Command {
	var as, canary string
	var dryRun bool
	var gate controlplane.Gate
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "deploy PATH",
		Short: "Deploy a build: a file, or one that is stored",
		Long: `Deploy makes a version serve a build. PATH is a server binary, or the digest (or a prefix of it) of a stored build.
The old build goes on serving until the new one has passed its probes; nobody is cut off.

--warm-up and --check are shell commands that the control plane runs on its host once the new build serves its own sockets, before
anybody is led there. They find these in KMS_UA_SOCKET and KMS_API_SOCKET, with KMS_VERSION and KMS_BUILD; one that fails, or takes
longer than 5 minutes or 1 minute, keeps the old build (exit code 7).

Ctrl-C ends kmsctl, not the release: kmsctl attach follows it again.

With --dry-run a file is stored, so that the plan is about the build itself; nothing else changes.`,
		Example: `  kmsctl deploy ./kms-2.0
  kmsctl deploy ./kms-2.0 --as 2.0-dragon --message 'dragon event'
  kmsctl deploy ./kms-2.0 --canary 10%
  kmsctl deploy ./kms-2.0 --check /usr/local/bin/try-kms
  kmsctl deploy ./kms-2.0 --wait-for-lease=15m
  kmsctl deploy 3f9a01c2 --dry-run`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			share := 0
			if canary != "" {
				var err error
				if share, err = percent(canary); err != nil {
					return err
				}
				if dryRun {
					return controlplane.Errorf(controlplane.Usage, "--canary has no dry run: withdrawing it takes it back").WithHint("kmsctl canary --help")
				}
			}
			b, err := c.findBuild(ctx, k, args[0])
			if err != nil {
				return err
			}
			version := as
			if version == "" {
				version = b.Version
			}
			if share > 0 {
				return c.startCanary(ctx, k, controlplane.CanaryRequest{Version: version, Build: b.Digest, Percent: share, Gate: gate, Wait: wait})
			}
			return c.release(ctx, k, controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: version, Build: b.Digest, DryRun: dryRun,
				Gate: gate, Wait: wait})
		}),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			found, _ := c.names(false, buildNames)(cmd, args, word)
			return found, cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "version to deploy it as (default: the one it was written for)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done; exit code 10 when something would")
	cmd.Flags().StringVar(&canary, "canary", "", "only for a share of the users, as 10%; see kmsctl canary")
	cmd.Flags().StringVar(&gate.WarmUp, "warm-up", "", "shell command that warms the new build up")
	cmd.Flags().StringVar(&gate.Check, "check", "", "shell command that checks it")
	c.waitFlag(cmd, &wait)
	c.completeFlag(cmd, "as", versionNames)
	return c.change(cmd)
}

// findBuild takes a file, uploading it when the host does not have it whole, or else a digest.
func (c *cli) findBuild(ctx context.Context, k *api.Client, path string) (*controlplane.BuildInfo, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && looksLikeDigest(path) {
		return k.Build(ctx, path)
	}
	if err != nil {
		return nil, controlplane.Errorf(openKind(err), "cannot read build %q: %v", path, errors.Unwrap(err)).WithHint("kmsctl build list")
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, controlplane.Errorf(controlplane.Usage, "cannot deploy %q: not a regular file", path)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot read build %q: %v", path, err)
	}
	b, err := k.Build(ctx, hex.EncodeToString(hash.Sum(nil)))
	if err == nil && !b.Missing || err != nil && controlplane.AsError(err).Kind != controlplane.NotFound {
		return b, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot read build %q: %v", path, err)
	}
	p := c.progress("uploading "+info.Name(), info.Size())
	defer p.end()
	return k.AddBuild(ctx, file, info.Size(), p.at)
}

func looksLikeDigest(s string) bool {
	return len(s) >= 4 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func openKind(err error) controlplane.Kind {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return controlplane.NotFound
	case errors.Is(err, os.ErrPermission):
		return controlplane.Denied
	}
	return controlplane.Failed
}
