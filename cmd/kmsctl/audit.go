package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newAudit(c *cli) *cobra.Command {
	var subject string
	var limit int
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, when and why",
		Example: `  kmsctl audit
  kmsctl audit --subject demo -n 200 -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Audit(ctx, subject, limit)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "nothing was changed yet", columns: []column{{title: "ID", right: true}, {title: "AGE"}, {title: "WHO", flex: true},
				{title: "ACTION"}, {title: "SUBJECT", flex: true}, {title: "RESULT", flex: true}, {title: "MESSAGE", flex: true}, {title: "WHEN", wide: true}, {title: "NODE", wide: true}}}
			for _, a := range list {
				t.rows = append(t.rows, []string{itoa(a.ID), c.age(a.At), a.Who, a.Action, dash(a.Subject), a.Result, dash(a.Message), stamp(a.At), a.Node})
			}
			return c.print(t)
		}),
	}
	cmd.Flags().StringVar(&subject, "subject", "", "about one thing only")
	cmd.Flags().IntVarP(&limit, "limit", "n", 50, "how many of the newest")
	return cmd
}
