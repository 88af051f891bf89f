package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newKey(c *cli) *cobra.Command {
	return group("key", "Manage the API keys of game servers", `  kmsctl key add demo --label 'game server 1'
  kmsctl key list demo`, newKeyAdd(c), newKeyList(c), newKeyRevoke(c))
}

func newKeyAdd(c *cli) *cobra.Command {
	var label string
	cmd := &cobra.Command{
		Use:   "add TENANT",
		Short: "Make an API key; it is shown once",
		Example: `  kmsctl key add demo --label 'game server 1'
  kmsctl key add demo --quiet > api.key`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			key, err := k.AddKey(ctx, args[0], label)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(key)
			}
			c.note("key %s of %s; this is the only time it is shown:", key.ID, key.Tenant)
			fmt.Fprintln(c.out, key.Secret)
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&label, "label", "", "what it is for")
	return c.change(cmd)
}

func newKeyList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list TENANT",
		Short:   "List a tenant's API keys, without their secrets",
		Example: "  kmsctl key list demo",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			list, err := k.Keys(ctx, args[0])
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no keys yet: kmsctl key add " + args[0], columns: []column{{title: "KEY"}, {title: "LABEL", flex: true}, {title: "STATE"}, {title: "AGE"}, {title: "LAST USED"}}}
			for _, key := range list {
				state := "active"
				if !key.RevokedAt.IsZero() {
					state = "revoked"
				}
				t.rows = append(t.rows, []string{key.ID, dash(key.Label), state, c.age(key.CreatedAt), c.age(key.LastUsed)})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
}

func newKeyRevoke(c *cli) *cobra.Command {
	return c.destructive(&cobra.Command{
		Use:     "revoke TENANT KEY",
		Short:   "End an API key at once",
		Example: "  kmsctl key revoke demo k1a2b3c4 --yes --message 'leaked'",
		Args:    args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := c.confirm(ctx, "revoke key %s of %s", args[1], args[0]); err != nil {
				return err
			}
			if err := k.RevokeKey(ctx, args[0], args[1]); err != nil {
				return err
			}
			c.say("key %s revoked", args[1])
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames, keyNames),
	})
}
