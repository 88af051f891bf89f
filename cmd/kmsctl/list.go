package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the versions",
		Long: `List shows every version with the build that serves it. With -o wide also its sunset, its sets, its canary, how many tenants are pinned,
and the release that runs; kmsctl pins and kmsctl canary show tell more of those.`,
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
				{title: "SUNSET", wide: true}, {title: "SETS", wide: true}, {title: "CANARY", wide: true}, {title: "PINS", wide: true, right: true}, {title: "RELEASE", wide: true}, {title: "MESSAGE", wide: true}}}
			for _, v := range list {
				running := "-"
				if v.Running != nil {
					running = v.Running.Name() + " runs"
				}
				t.rows = append(t.rows, []string{v.Name, stateCell(v), healthy(v.Healthy, v.State), dash(short(v.Build)), dash(v.Label), strconv.Itoa(v.Connections),
					rate(v.MessagesPS), c.age(v.UpdatedAt), sunsetCell(v.Deprecation), strconv.Itoa(len(v.Sets)), canaryCell(v.Canary), strconv.Itoa(len(v.Pins)), running, dash(v.Message)})
			}
			return c.print(t)
		}),
	}
}

func stateCell(v controlplane.VersionInfo) string {
	if v.Deprecation != nil {
		return "deprecated"
	}
	return string(v.State)
}

func sunsetCell(d *controlplane.Deprecation) string {
	if d == nil || d.Sunset.IsZero() {
		return "-"
	}
	return d.Sunset.Local().Format(time.DateOnly)
}

func canaryCell(c *controlplane.Canary) string {
	if c == nil {
		return "-"
	}
	return fmt.Sprintf("%d%% %s", c.Percent, short(c.Build))
}
