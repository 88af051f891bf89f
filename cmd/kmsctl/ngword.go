package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newNGWord(c *cli) *cobra.Command {
	return group("ngword", "Manage tenants' NG (forbidden) words", `  kmsctl ngword add demo badword --action mask
  kmsctl ngword test demo 'what happens to this badword'`, newNGWordAdd(c), newNGWordRemove(c), newNGWordList(c), newNGWordTest(c))
}

// words takes words from the command line, or one a line from stdin when that is a single "-".
func (c *cli) words(args []string) ([]string, error) {
	if len(args) != 1 || args[0] != "-" {
		return args, nil
	}
	var words []string
	lines := bufio.NewScanner(c.in)
	for lines.Scan() {
		if word := strings.TrimSpace(lines.Text()); word != "" {
			words = append(words, word)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot read words from stdin: %v", err)
	}
	if len(words) == 0 {
		return nil, controlplane.Errorf(controlplane.Usage, "cannot read words from stdin: it is empty")
	}
	return words, nil
}

func (c *cli) changeWords(ctx context.Context, k *api.Client, tenant string, change api.NGChange) error {
	list, err := k.ChangeNGWords(ctx, tenant, change)
	if err != nil {
		return err
	}
	if c.forPrograms() {
		return c.encode(list)
	}
	c.say("NG list of %s is at revision %d: %d added, %d removed", tenant, list.Revision, len(change.Add), len(change.Remove))
	return nil
}

func newNGWordAdd(c *cli) *cobra.Command {
	var action, mode string
	var allow bool
	cmd := &cobra.Command{
		Use:   "add TENANT WORD...",
		Short: "Add words, or change what is done about them",
		Example: `  kmsctl ngword add demo badword 悪い言葉 --action reject
  kmsctl ngword add demo scunthorpe --allow
  kmsctl ngword add demo - --action mask < words.txt`,
		Args: args(2, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			words, err := c.words(args[1:])
			if err != nil {
				return err
			}
			kind := "word"
			if allow {
				kind = "allow"
			}
			var change api.NGChange
			for _, word := range words {
				change.Add = append(change.Add, api.NGWord{Word: word, Kind: kind, Action: action, Mode: mode})
			}
			return c.changeWords(ctx, k, args[0], change)
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&action, "action", "reject", "reject, mask, flag (deliver and report) or shadow (only the sender sees it)")
	cmd.Flags().StringVar(&mode, "mode", "auto", "auto, word or substring")
	cmd.Flags().BoolVar(&allow, "allow", false, "never treat these as NG words")
	complete(cmd, "action", "reject", "mask", "flag", "shadow")
	complete(cmd, "mode", "auto", "word", "substring")
	return c.change(cmd)
}

func newNGWordRemove(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     "remove TENANT WORD...",
		Short:   "Remove words",
		Example: "  kmsctl ngword remove demo badword --message 'a dish, it turns out'",
		Args:    args(2, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			words, err := c.words(args[1:])
			if err != nil {
				return err
			}
			return c.changeWords(ctx, k, args[0], api.NGChange{Remove: words})
		}),
		ValidArgsFunction: c.names(true, tenantNames, wordNames),
	})
}

func newNGWordList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list TENANT",
		Short:   "List a tenant's NG words",
		Example: "  kmsctl ngword list demo",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			list, err := k.NGWords(ctx, args[0])
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no NG words yet: kmsctl ngword add " + args[0] + " WORD", columns: []column{{title: "WORD", flex: true}, {title: "KIND"}, {title: "ACTION"}, {title: "MODE"}}}
			for _, w := range list.Words {
				action := w.Action
				if w.Kind == "allow" {
					action = "-"
				}
				t.rows = append(t.rows, []string{w.Word, w.Kind, action, w.Mode})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
}

func newNGWordTest(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "test TENANT TEXT...",
		Short:   "Tell what a tenant's NG list does to a text",
		Example: "  kmsctl ngword test demo 'this is a ｂａｄｗｏｒｄ'",
		Args:    args(2, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			v, err := k.TestNGWords(ctx, args[0], strings.Join(args[1:], " "))
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(v)
			}
			if c.quiet {
				fmt.Fprintln(c.out, dash(v.Action))
				return nil
			}
			if v.Action == "" {
				c.say("passes: %s", v.Text)
				return nil
			}
			c.say("%s: %s", v.Action, v.Text)
			for _, hit := range v.Hits {
				c.say("  %s (%s) at bytes %d to %d", hit.Word, hit.Action, hit.Start, hit.End)
			}
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
}
