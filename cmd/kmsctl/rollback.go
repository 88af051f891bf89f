package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newRollback(c *cli) *cobra.Command {
	var to string
	var dryRun bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rollback VERSION",
		Short: "Go back to the build before, or to another",
		Long: `Rollback is at once while the set of the build before is still warm; else that build is started and probed first.

It does not wait for a deploy that is under way on this host: it ends that deploy, which undoes what it did, and goes to the build
that served before it. To a warm set it works while the shared database is away.`,
		Example: `  kmsctl rollback 2.0
  kmsctl rollback 2.0 --to 3f9a01c2 --message 'lost emoji'
  kmsctl rollback 2.0 --dry-run`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			r := controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: args[0], DryRun: dryRun, Wait: wait}
			if to != "" {
				b, err := k.Build(ctx, to)
				if err != nil {
					return err
				}
				r.Build = b.Digest
			}
			return c.release(ctx, k, r)
		}),
		ValidArgsFunction: c.names(false, versionNames),
	}
	cmd.Flags().StringVar(&to, "to", "", "build to go to, by digest or a prefix (default: the one before)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done; exit code 10 when something would")
	c.waitFlag(cmd, &wait)
	c.completeFlag(cmd, "to", buildNames)
	return c.change(cmd)
}
