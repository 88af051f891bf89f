package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordAdd(c *cli) *cobra.Command {
	var list string
	var entry api.NGWord
	cmd := &cobra.Command{
		Use:   "add TENANT WORD...",
		Short: "Add words, or change what is done about them",
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
		return c.changeList(ctx, k, args[0], list, change)
	})
	c.listFlag(cmd, &list)
	return c.change(cmd)
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
