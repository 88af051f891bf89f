package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newToken(c *cli) *cobra.Command {
	return group("token", "Manage users' tokens, as game servers do through the API", `  kmsctl token put demo alice --name 'アリス'
  kmsctl token revoke demo alice`, newTokenPut(c), newTokenRevoke(c))
}

func newTokenPut(c *cli) *cobra.Command {
	var n api.NewToken
	var expires time.Duration
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "put TENANT USER",
		Short: "Give a user a token: a new one, shown once, or one from stdin",
		Example: `  kmsctl token put demo alice --name 'アリス' --expires 24h
  kmsctl token put demo alice --token-stdin < token`,
		Args: args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if expires < 0 || expires > 0 && expires < time.Second {
				return controlplane.Errorf(controlplane.Usage, "bad --expires %s: want at least 1s", expires)
			}
			n.Seconds = int64(expires / time.Second)
			if fromStdin {
				token, err := c.readSecret(ctx, "token")
				if err != nil {
					return err
				}
				n.Token = token
			}
			made, err := k.PutToken(ctx, args[0], args[1], n)
			if err != nil {
				return err
			}
			return c.printToken(made)
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&n.Name, "name", "", "the user's display name (default: as it is, at first USER)")
	cmd.Flags().DurationVar(&expires, "expires", 0, "how long it is good for, as 24h (default: for ever)")
	cmd.Flags().BoolVar(&fromStdin, "token-stdin", false, "read the token from stdin")
	return c.change(cmd)
}

func (c *cli) printToken(made *api.MadeToken) error {
	if c.forPrograms() {
		return c.encode(made)
	}
	until := "for ever"
	if !made.ExpiresAt.IsZero() {
		until = "until " + stamp(made.ExpiresAt)
	}
	if made.Secret == "" {
		c.say("token of %s/%s (%s) is good %s", made.Tenant, made.User, made.Name, until)
		return nil
	}
	c.note("token of %s/%s (%s), good %s; this is the only time it is shown:", made.Tenant, made.User, made.Name, until)
	fmt.Fprintln(c.out, made.Secret)
	return nil
}

func newTokenRevoke(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     "revoke TENANT USER",
		Short:   "End all tokens of a user and close the connections made with them",
		Example: "  kmsctl token revoke demo alice --message 'account sold'",
		Args:    args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			n, err := k.RevokeTokens(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(api.Count{Count: n})
			}
			c.say("revoked %s of %s/%s", plural(n, "token", "tokens"), args[0], args[1])
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	})
}
