package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newTenant(c *cli) *cobra.Command {
	return group("tenant", "Manage tenants: the games that share this KMS", `  kmsctl tenant add dragon --name 'ドラゴン物語'
  kmsctl tenant list`, newTenantAdd(c), newTenantList(c), newTenantState(c, "suspend", "Close a tenant's connections and refuse its logins", (*api.Client).SuspendTenant),
		newTenantState(c, "resume", "Take a suspension back", (*api.Client).ResumeTenant), newTenantSet(c), newTenantLimits(c), newTenantRemove(c))
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
			t := table{data: list, empty: "no tenants yet: kmsctl tenant add TENANT", columns: []column{{title: "TENANT", flex: true}, {title: "NAME", flex: true}, {title: "STATE"}, {title: "AGE"}, {title: "MIN VERSION", wide: true}, {title: "KEEP", wide: true}}}
			for _, tenant := range list {
				t.rows = append(t.rows, []string{tenant.ID, tenant.Name, tenant.State, c.age(tenant.CreatedAt), dash(tenant.MinVersion), keepText(tenant.KeepSeconds)})
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
	var oldest, keep string
	cmd := &cobra.Command{
		Use:   "set TENANT [--min-version VERSION] [--keep TIME]",
		Short: "Set a tenant's oldest version, and how long messages are kept",
		Long: `--min-version makes versions older than VERSION refuse the tenant's clients and game servers, with an error that names the versions
that live. Open connections on older versions are closed with 4403 within a second. Names are compared by their numbers: 2.0-dragon is as
old as 2.0. An empty VERSION lets all versions serve the tenant again.

--keep has messages removed once they are older than TIME, an hour at least; what is older already goes within minutes and cannot be had
back. Clients that come back later than that are told that some of the past is gone. Without it messages are kept for ever.`,
		Example: `  kmsctl tenant set dragon --min-version 2.0 --message 'no more 1.0'
  kmsctl tenant set dragon --min-version ''
  kmsctl tenant set dragon --keep 30d
  kmsctl tenant set dragon --keep forever`,
		Args:              args(1, 1),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&oldest, "min-version", "", "the oldest version that serves the tenant; '' for all")
	cmd.Flags().StringVar(&keep, "keep", "", "how long messages are kept, as 12h or 30d; 'forever'")
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		var change api.TenantChange
		if cmd.Flags().Changed("min-version") {
			change.MinVersion = &oldest
		}
		if cmd.Flags().Changed("keep") {
			seconds, err := keepSeconds(keep)
			if err != nil {
				return err
			}
			change.KeepSeconds = &seconds
		}
		if change == (api.TenantChange{}) {
			return controlplane.Errorf(controlplane.Usage, "want --min-version VERSION or --keep TIME").WithHint("kmsctl tenant set --help")
		}
		t, err := k.SetTenant(ctx, args[0], change)
		if err != nil {
			return err
		}
		if c.forPrograms() {
			return c.encode(t)
		}
		c.sayTenant(t, change)
		return nil
	})
	c.completeFlag(cmd, "min-version", versionNames)
	return c.change(cmd)
}

// sayTenant tells what was set.
func (c *cli) sayTenant(t *api.Tenant, change api.TenantChange) {
	switch {
	case change.MinVersion == nil:
	case t.MinVersion == "":
		c.say("tenant %s is served by all versions", t.ID)
	default:
		c.say("tenant %s is served by version %s and newer ones", t.ID, t.MinVersion)
	}
	switch {
	case change.KeepSeconds == nil:
	case t.KeepSeconds == 0:
		c.say("messages of tenant %s are kept for ever", t.ID)
	default:
		c.say("messages of tenant %s are kept for %s", t.ID, span(time.Duration(t.KeepSeconds)*time.Second))
	}
}

func keepText(seconds int64) string {
	if seconds == 0 {
		return "forever"
	}
	return span(time.Duration(seconds) * time.Second)
}

// keepSeconds reads how long something is kept: what time.ParseDuration knows, whole days, or for ever, which is 0.
func keepSeconds(text string) (int64, error) {
	if text == "forever" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil && n > 0 {
			return n * 86400, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= time.Second {
		return int64(d / time.Second), nil
	}
	return 0, controlplane.Errorf(controlplane.Usage, "bad keep %q: want a time, as 12h or 30d, or forever", text)
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
