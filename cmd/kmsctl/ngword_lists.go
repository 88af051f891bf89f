package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordLists(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "lists TENANT",
		Short: "List a tenant's NG lists, or with _base the base lists",
		Example: `  kmsctl ngword lists demo
  kmsctl ngword lists _base -o wide`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			lists, err := k.NGLists(ctx, args[0])
			if err != nil {
				return err
			}
			t := table{data: lists, empty: "no lists yet: kmsctl ngword set " + args[0] + " --list NAME", columns: []column{{title: "LIST", flex: true}, {title: "WORDS", right: true},
				{title: "REV", right: true}, {title: "SCOPES", flex: true}, {title: "INCLUDES", flex: true}, {title: "SPACING", wide: true}, {title: "LOOK-ALIKES", wide: true},
				{title: "CHANGED"}, {title: "BY", flex: true}, {title: "MESSAGE", wide: true}}}
			for _, l := range lists {
				by := dash(l.ChangedBy)
				if l.Shipped {
					by = "comes with KMS"
				}
				t.rows = append(t.rows, []string{l.List, itoa(int64(l.Count)), itoa(l.Revision), scopesText(l.Settings), includeText(l), l.Settings.Spacing, l.Settings.LookAlikes,
					c.age(l.ChangedAt), by, dash(l.Message)})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
}

func scopesText(g api.NGSettings) string {
	for _, scope := range store.NGScopes {
		if !slices.Contains(g.Scopes, scope) {
			return strings.Join(g.Scopes, ",")
		}
	}
	return "all"
}

func includeText(l api.NGListInfo) string {
	if l.Tenant == store.NGBase {
		return "-"
	}
	return dash(strings.Join(l.Settings.Include, ","))
}
