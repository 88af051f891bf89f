package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordAdd(c *cli) *cobra.Command {
	var list string
	var dryRun bool
	var entry api.NGWord
	cmd := &cobra.Command{
		Use:   "add TENANT WORD...",
		Short: "Add words, or change what is done about them",
		Long:  `Words are warned about that hit lines which people wrote lately, that ordinary words contain, or that never come to count.`,
		Example: `  kmsctl ngword add demo badword 悪い言葉 --action reject
  kmsctl ngword add demo scunthorpe --allow
  kmsctl ngword add demo - --action mask < words.txt`,
		Args:              args(2, -1),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	allow, base := entryFlags(cmd, &entry), baseFlag(cmd)
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		words, err := c.words(args[1:])
		if err != nil {
			return err
		}
		if *allow {
			entry.Kind = store.NGAllow
		}
		var change api.NGChange
		if change.Base, err = base(); err != nil {
			return err
		}
		for _, word := range words {
			change.Add = append(change.Add, api.NGWord{Word: word, Kind: entry.Kind, Action: entry.Action, Mode: entry.Mode})
		}
		if dryRun {
			return c.planList(ctx, k, args[0], list, change)
		}
		plan := c.triedWords(ctx, k, args[0], list, change)
		if err := c.changeList(ctx, k, args[0], list, change); err != nil {
			return err
		}
		c.tellFindings(plan)
		return nil
	})
	c.listFlag(cmd, &list)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change; exit code 10 when something would")
	return c.change(cmd)
}

// tryWithin bounds how long words that are added are tried before.
const tryWithin = 5 * time.Second

// triedWords tells what there is to say about words that are to be added, for people; nothing if that takes long or fails.
func (c *cli) triedWords(ctx context.Context, k *api.Client, tenant, list string, change api.NGChange) *api.NGPlan {
	if c.quiet || c.forPrograms() {
		return &api.NGPlan{}
	}
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	plan, err := k.PlanNGList(ctx, tenant, list, change)
	if err != nil {
		return &api.NGPlan{} // what is wrong with the change, the change itself will tell
	}
	return plan
}

func newNGWordRemove(c *cli) *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use:   "remove TENANT WORD...",
		Short: "Remove words",
		Example: `  kmsctl ngword remove demo badword --message 'a dish, it turns out'
  kmsctl ngword remove demo - --list names < words.txt`,
		Args:              args(2, -1),
		ValidArgsFunction: c.tenantAndWords(&list),
	}
	base := baseFlag(cmd)
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		words, err := c.words(args[1:])
		if err != nil {
			return err
		}
		change := api.NGChange{Remove: words}
		if change.Base, err = base(); err != nil {
			return err
		}
		return c.changeList(ctx, k, args[0], list, change)
	})
	c.listFlag(cmd, &list)
	return c.change(cmd)
}
