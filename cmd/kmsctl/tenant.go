package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newTenant(c *cli) *cobra.Command {
	return group("tenant", "Manage tenants: the games that share this KMS", `  kmsctl tenant add dragon --name 'ドラゴン物語'
  kmsctl tenant list`, newTenantAdd(c), newTenantList(c), newTenantState(c, "suspend", "Close a tenant's connections and refuse its logins", (*api.Client).SuspendTenant),
		newTenantState(c, "resume", "Take a suspension back", (*api.Client).ResumeTenant), newTenantSet(c), newTenantRemove(c))
}

func newTenantAdd(c *cli) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "add TENANT",
		Short: "Add a tenant",
		Example: `  kmsctl tenant add dragon --name 'ドラゴン物語'
  kmsctl key add dragon --label 'game server'`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			t, err := k.AddTenant(ctx, api.NewTenant{ID: args[0], Name: name})
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(t)
			}
			c.say("tenant %s added; an API key for its game servers: kmsctl key add %s", t.ID, t.ID)
			return nil
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "display name (default: TENANT)")
	return c.change(cmd)
}

func newTenantList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tenants",
		Example: "  kmsctl tenant list",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Tenants(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no tenants yet: kmsctl tenant add TENANT", columns: []column{{title: "TENANT", flex: true}, {title: "NAME", flex: true}, {title: "STATE"}, {title: "AGE"}, {title: "MIN VERSION", wide: true}}}
			for _, tenant := range list {
				t.rows = append(t.rows, []string{tenant.ID, tenant.Name, tenant.State, c.age(tenant.CreatedAt), dash(tenant.MinVersion)})
			}
			return c.print(t)
		}),
	}
}

func newTenantState(c *cli, verb, short string, do func(*api.Client, context.Context, string) error) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     verb + " TENANT",
		Short:   short,
		Example: "  kmsctl tenant " + verb + " dragon --message 'contract'",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := do(k, ctx, args[0]); err != nil {
				return err
			}
			c.say("tenant %s: %s done", args[0], verb)
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	})
}

func newTenantSet(c *cli) *cobra.Command {
	var oldest string
	cmd := &cobra.Command{
		Use:   "set TENANT --min-version VERSION",
		Short: "Set the oldest version that serves a tenant",
		Long: `Set makes versions older than VERSION refuse the tenant's clients and game servers, with an error that names the versions that
live. Open connections on older versions are closed with 4403 within a second. Names are compared by their numbers: 2.0-dragon is as old
as 2.0. An empty VERSION lets all versions serve the tenant again.`,
		Example: `  kmsctl tenant set dragon --min-version 2.0 --message 'no more 1.0'
  kmsctl tenant set dragon --min-version ''`,
		Args:              args(1, 1),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&oldest, "min-version", "", "the oldest version that serves the tenant; '' for all")
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		if !cmd.Flags().Changed("min-version") {
			return controlplane.Errorf(controlplane.Usage, "want --min-version VERSION").WithHint("kmsctl tenant set --help")
		}
		t, err := k.SetTenant(ctx, args[0], api.TenantChange{MinVersion: &oldest})
		if err != nil {
			return err
		}
		if c.forPrograms() {
			return c.encode(t)
		}
		if t.MinVersion == "" {
			c.say("tenant %s is served by all versions", t.ID)
		} else {
			c.say("tenant %s is served by version %s and newer ones", t.ID, t.MinVersion)
		}
		return nil
	})
	c.completeFlag(cmd, "min-version", versionNames)
	return c.change(cmd)
}

func newTenantRemove(c *cli) *cobra.Command {
	return c.destructive(&cobra.Command{
		Use:     "remove TENANT",
		Aliases: []string{"delete"},
		Short:   "Remove a tenant with its keys, tokens, channels and NG words",
		Example: "  kmsctl tenant remove dragon --yes --message 'game closed'",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := c.confirm(ctx, "remove tenant %s with all that is its own", args[0]); err != nil {
				return err
			}
			if err := k.RemoveTenant(ctx, args[0]); err != nil {
				return err
			}
			c.say("tenant %s removed", args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	})
}
