package main

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newIRCLink(c *cli) *cobra.Command {
	return group("link", "Manage IRC networks that may be the bus; one is active", `  kmsctl irc link list
  kmsctl irc link add backup --server irc2.example.net:6697 --tls`, newLinkAdd(c), newLinkList(c), newLinkTest(c), newLinkActivate(c), newLinkRemove(c))
}

func newLinkAdd(c *cli) *cobra.Command {
	var r controlplane.LinkRequest
	var caFile string
	var passwordStdin bool
	cmd := &cobra.Command{
		Use:   "add LINK --server HOST:PORT",
		Short: "Add a link; its key is made here and never shown",
		Example: `  kmsctl irc link add backup --server irc1:6697 --server irc2:6697 --tls
  kmsctl irc link add backup --server irc1:6667 --password-stdin < password`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			r.Name = args[0]
			if caFile != "" {
				pem, err := os.ReadFile(caFile)
				if err != nil {
					return controlplane.Errorf(openKind(err), "cannot read certificates: %v", err)
				}
				r.TLSCA = string(pem)
			}
			if passwordStdin {
				password, err := c.readSecret(ctx, "password")
				if err != nil {
					return err
				}
				r.Password = password
			}
			link, err := k.AddLink(ctx, r)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(link)
			}
			c.say("link %s added, %s; next: kmsctl irc link test %s", link.Name, link.State, link.Name)
			return nil
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&r.Kind, "kind", "inspircd", "inspircd or ngircd: decides line length and pacing")
	f.StringArrayVar(&r.Servers, "server", nil, "address to connect to; given several times they are tried in order")
	f.BoolVar(&r.TLS, "tls", false, "connect with TLS")
	f.StringVar(&caFile, "tls-ca", "", "file of certificates to trust (default: the system's)")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the server's password from stdin")
	f.IntVar(&r.Channels, "channels", 0, "IRC channels to spread KMS channels over (default 64)")
	f.IntVar(&r.MaxLine, "max-line", 0, "bytes of a delivered line (default: what the kind allows when tuned)")
	f.BoolVar(&r.Active, "active", false, "make it the bus at once")
	complete(cmd, "kind", "inspircd", "ngircd")
	return c.change(cmd)
}

func newLinkList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the links",
		Example: "  kmsctl irc link list",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Links(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no links: kmsctl irc link add LINK --server HOST:PORT", columns: []column{{title: "LINK", flex: true}, {title: "STATE"}, {title: "KIND"},
				{title: "SERVERS", flex: true}, {title: "TLS"}, {title: "CHANNELS", right: true}, {title: "MAX LINE", right: true, wide: true}, {title: "AGE"}}}
			for _, l := range list {
				tls := "-"
				if l.TLS {
					tls = "tls"
				}
				t.rows = append(t.rows, []string{l.Name, l.State, l.Kind, strings.Join(l.Servers, " "), tls, strconv.Itoa(l.Channels), strconv.Itoa(l.MaxLine), c.age(l.CreatedAt)})
			}
			return c.print(t)
		}),
	}
}

func newLinkTest(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "test LINK",
		Short:   "Connect to a link, send lines through it and measure",
		Example: "  kmsctl irc link test backup",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			report, err := k.TestLink(ctx, args[0])
			if err != nil {
				return err
			}
			return c.linkReport(report)
		}),
		ValidArgsFunction: c.names(false, linkNames),
	}
}

func newLinkActivate(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     "activate LINK",
		Short:   "Make a link the bus; the others stand by",
		Example: "  kmsctl irc link activate backup --message 'irc1 is being upgraded'",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := k.ActivateLink(ctx, args[0]); err != nil {
				return err
			}
			c.say("link %s is the bus now", args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, linkNames),
	})
}

func newLinkRemove(c *cli) *cobra.Command {
	return c.destructive(&cobra.Command{
		Use:     "remove LINK",
		Short:   "Remove a link that is not active",
		Example: "  kmsctl irc link remove backup --yes",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := c.confirm(ctx, "remove link %s", args[0]); err != nil {
				return err
			}
			if err := k.RemoveLink(ctx, args[0]); err != nil {
				return err
			}
			c.say("link %s removed", args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, linkNames),
	})
}
