package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordList(c *cli) *cobra.Command {
	var list, kind string
	var revision func() (int64, error)
	cmd := &cobra.Command{
		Use:   "list TENANT",
		Short: "List the words of an NG list",
		Example: `  kmsctl ngword list demo
  kmsctl ngword list demo --list names --kind allow
  kmsctl ngword list _base --list kms-allow-en --quiet`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := checkKind(kind); err != nil {
				return err
			}
			at, err := revision()
			if err != nil {
				return err
			}
			l, err := k.NGList(ctx, args[0], list, at)
			if err != nil {
				return withListHint(err, args[0], list)
			}
			if kind != "" {
				l.Words = slices.DeleteFunc(l.Words, func(w api.NGWord) bool { return w.Kind != kind })
			}
			t := table{data: l, empty: "no NG words: kmsctl ngword add " + args[0] + " WORD" + listArgument(list),
				columns: []column{{title: "WORD", flex: true}, {title: "KIND"}, {title: "ACTION"}, {title: "MODE"}}}
			for _, w := range l.Words {
				t.rows = append(t.rows, entryRow(w))
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	c.listFlag(cmd, &list)
	revision = revisionFlag(cmd, "revision", "as it was at a revision (default: now)")
	cmd.Flags().StringVar(&kind, "kind", "", "only entries of this kind: word or allow")
	complete(cmd, "kind", store.NGWord, store.NGAllow)
	c.completeFlag(cmd, "revision", revisionNames(&list))
	return cmd
}

func checkKind(kind string) error {
	if kind == "" || kind == store.NGWord || kind == store.NGAllow {
		return nil
	}
	return controlplane.Errorf(controlplane.Usage, "bad --kind %q: want word or allow", kind)
}
