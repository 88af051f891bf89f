package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newChannel(c *cli) *cobra.Command {
	return group("channel", "Manage channels and their members", `  kmsctl channel add demo lobby --kind world --name 'ロビー'
  kmsctl channel join demo guild-7 alice bob`, newChannelAdd(c), newChannelList(c), newChannelRemove(c), newChannelMembers(c),
		newChannelMember(c, "join", "Make users members of a channel", (*api.Client).Join),
		newChannelMember(c, "leave", "End users' membership of a channel", (*api.Client).Leave))
}

func newChannelAdd(c *cli) *cobra.Command {
	var n api.NewChannel
	cmd := &cobra.Command{
		Use:   "add TENANT CHANNEL",
		Short: "Add a channel",
		Example: `  kmsctl channel add demo lobby --kind world --name 'ロビー'
  kmsctl channel add demo guild-7 --kind guild
  kmsctl channel add demo cries --kind world --history none`,
		Args: args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			n.ID = args[1]
			ch, err := k.AddChannel(ctx, args[0], n)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(ch)
			}
			c.say("channel %s of %s added (%s)", ch.ID, ch.Tenant, ch.Kind)
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
	cmd.Flags().StringVar(&n.Kind, "kind", "guild", "world (any user of the tenant), guild or direct (members only)")
	cmd.Flags().StringVar(&n.History, "history", "log", "log, or none: no order across senders, no resume")
	cmd.Flags().StringVar(&n.Name, "name", "", "display name (default: CHANNEL)")
	complete(cmd, "kind", "world", "guild", "direct")
	complete(cmd, "history", "log", "none")
	return c.change(cmd)
}

func newChannelList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list TENANT",
		Short:   "List a tenant's channels",
		Example: "  kmsctl channel list demo",
		Args:    args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			list, err := k.Channels(ctx, args[0])
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no channels yet: kmsctl channel add " + args[0] + " CHANNEL", columns: []column{{title: "CHANNEL", flex: true}, {title: "NAME", flex: true},
				{title: "KIND"}, {title: "HISTORY"}, {title: "MESSAGES", right: true}, {title: "AGE"}, {title: "EPOCH", wide: true}}}
			for _, ch := range list {
				t.rows = append(t.rows, []string{ch.ID, ch.Name, ch.Kind, ch.History, itoa(ch.Head), c.age(ch.CreatedAt), ch.Epoch})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, tenantNames),
	}
}

func newChannelRemove(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     "remove TENANT CHANNEL",
		Short:   "Remove a channel; whoever is in it is told",
		Example: "  kmsctl channel remove demo guild-7 --message 'guild dissolved'",
		Args:    args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := k.RemoveChannel(ctx, args[0], args[1]); err != nil {
				return err
			}
			c.say("channel %s of %s removed", args[1], args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames, channelNames),
	})
}

func newChannelMembers(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "members TENANT CHANNEL",
		Short:   "List a channel's members",
		Example: "  kmsctl channel members demo guild-7",
		Args:    args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			list, err := k.Members(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no members", columns: []column{{title: "USER", flex: true}}}
			for _, user := range list {
				t.rows = append(t.rows, []string{user})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, tenantNames, channelNames),
	}
}

func newChannelMember(c *cli, verb, short string, do func(*api.Client, context.Context, string, string, string) error) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     verb + " TENANT CHANNEL USER...",
		Short:   short,
		Example: "  kmsctl channel " + verb + " demo guild-7 alice bob",
		Args:    args(3, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			for _, user := range args[2:] {
				if err := do(k, ctx, args[0], args[1], user); err != nil {
					return err
				}
			}
			c.say("%s %s channel %s: %s", args[0], verb, args[1], strings.Join(args[2:], " "))
			return nil
		}),
		ValidArgsFunction: c.names(true, tenantNames, channelNames, memberNames),
	})
}
