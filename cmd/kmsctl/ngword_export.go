package main

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordExport(c *cli) *cobra.Command {
	var list, format, kind string
	var revision func() (int64, error)
	cmd := &cobra.Command{
		Use:   "export TENANT",
		Short: "Write an NG list to stdout, for import or a spreadsheet",
		Long: `json holds everything, settings included. csv holds the entries; it begins with a byte order mark, which spreadsheets want,
and words that would be formulas there (= + - @) begin with an apostrophe, which import takes away. txt holds the words alone,
without what is done about them, and allow entries only with --kind allow.`,
		Example: `  kmsctl ngword export demo > words.json
  kmsctl ngword export demo --list names --format csv --revision 4 > names.csv`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := checkKind(kind); err != nil {
				return err
			}
			if !slices.Contains(ngFormats, format) {
				return controlplane.Errorf(controlplane.Usage, "bad --format %q: want json, csv or txt", format)
			}
			at, err := revision()
			if err != nil {
				return err
			}
			l, err := k.NGList(ctx, args[0], list, at)
			if err != nil {
				return withListHint(err, args[0], list)
			}
			return c.export(l, format, kind)
		}),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	c.listFlag(cmd, &list)
	cmd.Flags().StringVar(&format, "format", ngJSON, "json, csv or txt")
	cmd.Flags().StringVar(&kind, "kind", "", "only entries of this kind: word or allow (txt: word when not given)")
	revision = revisionFlag(cmd, "revision", "as it was at a revision (default: now)")
	complete(cmd, "format", ngFormats...)
	complete(cmd, "kind", store.NGWord, store.NGAllow)
	c.completeFlag(cmd, "revision", revisionNames(&list))
	return cmd
}

func (c *cli) export(l *api.NGList, format, kind string) error {
	all := len(l.Words)
	if kind == "" && format == ngTXT {
		kind = store.NGWord // an allow entry must not come back as a forbidden word
	}
	if kind != "" {
		l.Words = slices.DeleteFunc(l.Words, func(w api.NGWord) bool { return w.Kind != kind })
	}
	switch format {
	case ngCSV:
		return writeCSV(c.out, l.Words)
	case ngTXT:
		if left := all - len(l.Words); left > 0 {
			c.note("%s of the other kind left out", plural(left, "entry", "entries"))
		}
		return writeTXT(c.out, l.Words)
	}
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "internal error: cannot encode: %v", err)
	}
	_, err = c.out.Write(append(text, '\n'))
	return err
}
