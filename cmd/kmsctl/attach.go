package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newAttach(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "attach RELEASE",
		Short: "Follow a release that runs, from any terminal",
		Long: `Attach tells the steps of a release, those that it has behind it first, until it has ended. Its exit code is the release's.
Ctrl-C ends the telling, not the release.`,
		Example: `  kmsctl attach 12`,
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			r, err := k.Release(ctx, id)
			if err != nil {
				return err
			}
			return c.follow(ctx, k, r)
		}),
		ValidArgsFunction: c.names(false, releaseNames),
	}
}
