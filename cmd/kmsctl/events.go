package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newEvents(c *cli) *cobra.Command {
	q := controlplane.EventQuery{}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened lately on this host, and what happens",
		Long: `Events tells of releases and their steps, of processes that end and start again, of nginx and the IRC server, and of every change
that somebody makes. The control plane keeps the last thousand since its start; what must last is in history and audit.`,
		Example: `  kmsctl events
  kmsctl events -f
  kmsctl events -f -n 0 -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			if q.Last < 0 {
				return controlplane.Errorf(controlplane.Usage, "bad --last %d: want 0 or more", q.Last)
			}
			err := k.Events(ctx, q, c.event)
			if q.Follow && ctx.Err() != nil && c.timeout == 0 { // Ctrl-C is how one stops following
				return nil
			}
			return err
		}),
	}
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVarP(&q.Last, "last", "n", 50, "how many of the last events")
	return cmd
}

func (c *cli) event(e controlplane.Event) error {
	if c.forPrograms() {
		return c.encodeLine(e)
	}
	about := e.Version
	if e.Release != 0 {
		about = fmt.Sprintf("%s release %d", e.Version, e.Release)
	}
	_, err := fmt.Fprintf(c.out, "%s  %-8s  %s  %s\n", stamp(e.At), clean(e.Kind), dash(clean(about)), clean(e.Message))
	return err
}
