package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newTenantLimits(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "limits TENANT",
		Short: "Show or set how much a tenant may do",
		Long: `Limits shows each limit of a tenant, whether it is the default, and what it has refused in the processes of this host since they
started. With flags it sets the limits that are named; 0 is the default again. They are in force everywhere within a second.

Rates and connections are counted by each process for itself: they keep one tenant from slowing the others there. A tenant whose clients
are on two versions has them twice. Channels and members are counted in the database. What is refused gets an error that says when to
come again; connections, channels and members that are there already stay when a limit is lowered.`,
		Example: `  kmsctl tenant limits dragon
  kmsctl tenant limits dragon --messages-per-second 5000 --message 'launch day'
  kmsctl tenant limits dragon --messages-per-second 0`,
		Args:              args(1, 1),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	values := map[string]*int{}
	for _, l := range store.AllLimits {
		values[l.Name] = cmd.Flags().Int(dashed(l.Name), 0, fmt.Sprintf("%s, 1 to %d; 0 for the default, %d", l.About, l.Max, l.Default))
	}
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		change := map[string]int{}
		for _, l := range store.AllLimits {
			if cmd.Flags().Changed(dashed(l.Name)) {
				change[l.Name] = *values[l.Name]
			}
		}
		if len(change) == 0 {
			list, err := k.TenantLimits(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(limitTable(list))
		}
		list, err := k.SetTenantLimits(ctx, args[0], change)
		if err != nil {
			return err
		}
		if c.forPrograms() {
			return c.encode(list)
		}
		for _, l := range list {
			if _, changed := change[l.Limit]; changed {
				c.say("tenant %s: %s %d%s", args[0], dashed(l.Limit), l.Value, defaultMark(l))
			}
		}
		return nil
	})
	return c.change(cmd)
}

// dashed is a limit's name as a flag and in tables.
func dashed(name string) string { return strings.ReplaceAll(name, "_", "-") }

func defaultMark(l api.TenantLimit) string {
	if l.Set {
		return ""
	}
	return " (default)"
}

func limitTable(list []api.TenantLimit) table {
	t := table{data: list, columns: []column{{title: "LIMIT"}, {title: "VALUE", right: true}, {title: "SET"}, {title: "REFUSED", right: true},
		{title: "DEFAULT", wide: true, right: true}, {title: "MAX", wide: true, right: true}, {title: "BOUNDS", flex: true}}}
	for _, l := range list {
		set := "default"
		if l.Set {
			set = "set"
		}
		t.rows = append(t.rows, []string{dashed(l.Limit), strconv.Itoa(l.Value), set, strconv.FormatInt(l.Refused, 10),
			strconv.Itoa(l.Default), strconv.Itoa(l.Max), l.About})
	}
	return t
}
