package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newLogs(c *cli) *cobra.Command {
	var q controlplane.LogQuery
	cmd := &cobra.Command{
		Use:   "logs [VERSION]",
		Short: "Show the logs of versions and components",
		Example: `  kmsctl logs 2.0 -f
  kmsctl logs 2.0 --role ua -n 500
  kmsctl logs --role nginx
  kmsctl logs --set s1a2b3c4d`,
		Args: args(0, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if len(args) > 0 {
				q.Version = args[0]
			}
			if q.Lines < 0 {
				return controlplane.Errorf(controlplane.Usage, "bad --lines %d: want 0 or more", q.Lines)
			}
			err := k.Logs(ctx, q, func(l controlplane.LogLine) error {
				if c.forPrograms() {
					return c.encodeLine(l)
				}
				if c.quiet {
					_, err := fmt.Fprintln(c.out, clean(l.Text))
					return err
				}
				_, err := fmt.Fprintf(c.out, "%s  %s\n", clean(l.Source), clean(l.Text))
				return err
			})
			if q.Follow && ctx.Err() != nil && c.timeout == 0 { // Ctrl-C is how one stops following
				return nil
			}
			return err
		}),
		ValidArgsFunction: c.names(false, versionNames),
	}
	f := cmd.Flags()
	f.StringVar(&q.Set, "set", "", "of one set only")
	f.StringVar(&q.Role, "role", "", "ua, api, nginx, access, irc or controlplane")
	f.IntVarP(&q.Lines, "lines", "n", 100, "how many of the last lines")
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes")
	complete(cmd, "role", "ua", "api", "nginx", "access", "irc", "controlplane")
	c.completeFlag(cmd, "set", setNames)
	return cmd
}
