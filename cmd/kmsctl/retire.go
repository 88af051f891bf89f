package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newRetire(c *cli) *cobra.Command {
	var force, dryRun bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "retire VERSION",
		Short: "Take a version out of service",
		Long: `Retire refuses (exit code 6) while somebody holds the version, and says who: pinned tenants, open connections, tenants
seen on it lately. --force drains them first and wants a --message. A retired version answers 410 and names those that live.`,
		Example: `  kmsctl retire 1.0 --dry-run
  kmsctl retire 1.0 --yes --message 'end of life'
  kmsctl retire 1.0 --force --yes --message 'last game has moved'`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if force && c.message == "" {
				return controlplane.Errorf(controlplane.Usage, "--force wants a --message that says why").
					WithHint("kmsctl retire %s --force --message 'why'", args[0])
			}
			r := controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: args[0], Force: force, DryRun: dryRun, Wait: wait}
			if !dryRun {
				if _, err := k.Plan(ctx, r); err != nil { // before it asks whether to retire what is not there
					return err
				}
				if err := c.confirm(ctx, "retire version %s", args[0]); err != nil {
					return err
				}
			}
			return c.release(ctx, k, r)
		}),
		ValidArgsFunction: c.names(false, versionNames),
	}
	cmd.Flags().BoolVar(&force, "force", false, "although somebody holds it: drain them first")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done; exit code 10 when something would")
	c.waitFlag(cmd, &wait)
	return c.destructive(cmd)
}
