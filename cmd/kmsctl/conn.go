package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newConn(c *cli) *cobra.Command {
	return group("conn", "List and close client connections", `  kmsctl conn list --tenant demo
  kmsctl conn kick --tenant demo --user alice`, newConnList(c), newConnKick(c))
}

// connFilter adds the flags that choose connections.
func (c *cli) connFilter(cmd *cobra.Command, f *controlplane.Connection) {
	flags := cmd.Flags()
	flags.StringVar(&f.Version, "version", "", "of one version")
	flags.StringVar(&f.Set, "set", "", "of one set")
	flags.StringVar(&f.Tenant, "tenant", "", "of one tenant")
	flags.StringVar(&f.User, "user", "", "of one user")
	c.completeFlag(cmd, "version", versionNames)
	c.completeFlag(cmd, "set", setNames)
	c.completeFlag(cmd, "tenant", tenantNames)
}

func newConnList(c *cli) *cobra.Command {
	var filter controlplane.Connection
	var channel string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List client connections",
		Example: `  kmsctl conn list
  kmsctl conn list --version 2.0 --tenant demo --channel lobby -o wide`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			if channel != "" {
				filter.Channels = []string{channel}
			}
			list, err := k.Connections(ctx, filter)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no connections", columns: []column{{title: "ID", flex: true}, {title: "VERSION", flex: true}, {title: "SET", wide: true},
				{title: "TENANT", flex: true}, {title: "USER", flex: true}, {title: "NAME", flex: true}, {title: "CHANNELS", flex: true}, {title: "AGE"}, {title: "IDLE"},
				{title: "SENT", wide: true, right: true}, {title: "PENDING", wide: true, right: true}, {title: "REMOTE", wide: true}}}
			for _, n := range list {
				t.rows = append(t.rows, []string{n.ID, n.Version, n.Set, n.Tenant, n.User, n.Name, dash(strings.Join(n.Channels, ",")), c.age(n.ConnectedAt), c.age(n.LastReadAt),
					size(n.SentBytes), size(n.Pending), dash(n.Remote)})
			}
			return c.print(t)
		}),
	}
	c.connFilter(cmd, &filter)
	cmd.Flags().StringVar(&channel, "channel", "", "in one channel")
	return cmd
}

func newConnKick(c *cli) *cobra.Command {
	var filter controlplane.Connection
	var reason string
	cmd := &cobra.Command{
		Use:   "kick [ID]",
		Short: "Close client connections",
		Example: `  kmsctl conn kick c7f3a2
  kmsctl conn kick --tenant demo --user alice --reason 'asked by support'`,
		Args: args(0, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			r := api.KickRequest{Version: filter.Version, Set: filter.Set, Tenant: filter.Tenant, User: filter.User, Reason: reason}
			if len(args) > 0 {
				r.ID = args[0]
			}
			n, err := k.Kick(ctx, r)
			if err != nil {
				return err
			}
			if n == 0 {
				return controlplane.Errorf(controlplane.NotFound, "no such connection").WithHint("kmsctl conn list")
			}
			if c.forPrograms() {
				return c.encode(api.Count{Count: n})
			}
			c.say("closed %s", plural(n, "connection", "connections"))
			return nil
		}),
	}
	c.connFilter(cmd, &filter)
	cmd.Flags().StringVar(&reason, "reason", "", "told to the client in the close frame")
	return c.change(cmd)
}
