package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newBuild(c *cli) *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the stored builds",
		Example: `  kmsctl build list
  kmsctl build list -o wide`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Builds(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no builds yet: kmsctl deploy PATH", columns: []column{{title: "BUILD"}, {title: "VERSION", flex: true}, {title: "LABEL", flex: true},
				{title: "SIZE", right: true}, {title: "AGE"}, {title: "BY", flex: true}, {title: "USED BY", flex: true}, {title: "CONTRACT", wide: true, right: true}, {title: "SCHEMA", wide: true}, {title: "DIGEST", wide: true}}}
			for _, b := range list {
				t.rows = append(t.rows, []string{short(b.Digest), b.Version, dash(b.Label), size(b.Size), c.age(b.CreatedAt), dash(b.By), dash(strings.Join(b.UsedBy, " ")),
					fmt.Sprint(b.Contract), fmt.Sprintf("%d-%d", b.SchemaMin, b.SchemaMax), b.Digest})
			}
			return c.print(t)
		}),
	}
	return group("build", "Look at stored builds", "  kmsctl build list", list)
}
