package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the versions",
		Example: `  kmsctl list
  kmsctl list -o wide
  kmsctl list --quiet`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Versions(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no versions yet: kmsctl deploy PATH", columns: []column{{title: "VERSION", flex: true}, {title: "STATE"}, {title: "HEALTHY"},
				{title: "BUILD"}, {title: "LABEL", flex: true}, {title: "CONNS", right: true}, {title: "MSG/S", right: true}, {title: "AGE"},
				{title: "SETS", wide: true}, {title: "RELEASE", wide: true}, {title: "MESSAGE", wide: true}}}
			for _, v := range list {
				running := "-"
				if v.Running != nil {
					running = itoa(v.Running.ID) + " " + string(v.Running.Kind) + " runs"
				}
				t.rows = append(t.rows, []string{v.Name, string(v.State), healthy(v.Healthy, v.State), dash(short(v.Build)), dash(v.Label), strconv.Itoa(v.Connections),
					rate(v.MessagesPS), c.age(v.UpdatedAt), strconv.Itoa(len(v.Sets)), running, dash(v.Message)})
			}
			return c.print(t)
		}),
	}
}
