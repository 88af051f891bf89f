package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWordSet(c *cli) *cobra.Command {
	var list string
	var given api.NGSettings
	cmd := &cobra.Command{
		Use:   "set TENANT",
		Short: "Change an NG list's settings; makes the list when it is not there",
		Long: `A list judges what its scopes name: messages in channels of the kinds world, guild and direct, and name: display names of
users and names of channels. The base lists that it includes judge along with it, where their own scopes allow.

Spacing is about Latin words with something between their letters. With word, such a one counts where the whole begins and
ends as words do: s h i t does, push it does not. With any it counts anywhere, with off never. Look-alikes are digits,
symbols and letters of other scripts that are written for Latin letters.`,
		Example: `  kmsctl ngword set demo --list names --scopes name
  kmsctl ngword set demo --include kms-allow-en,kms-allow-ja,swears
  kmsctl ngword set demo --spacing any --look-alikes off`,
		Args:              args(1, 1),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	flags := cmd.Flags()
	c.listFlag(cmd, &list)
	flags.StringSliceVar(&given.Scopes, "scopes", nil, "what it judges: world,guild,direct,name or all")
	flags.StringSliceVar(&given.Include, "include", nil, "base lists that judge along with it, or none")
	flags.StringVar(&given.Spacing, "spacing", "", "word, any or off")
	flags.StringVar(&given.LookAlikes, "look-alikes", "", "on or off")
	complete(cmd, "scopes", append([]string{"all"}, store.NGScopes...)...)
	complete(cmd, "spacing", store.NGSpacingWord, store.NGSpacingAny, store.NGSpacingOff)
	complete(cmd, "look-alikes", store.NGOn, store.NGOff)
	c.completeFlag(cmd, "include", baseListNames)
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		return c.setList(ctx, k, args[0], list, given)
	})
	return c.change(cmd)
}

// setList changes what is given of a list's settings, seeing to it that nobody else changes the rest meanwhile.
func (c *cli) setList(ctx context.Context, k *api.Client, tenant, list string, given api.NGSettings) error {
	lists, err := k.NGLists(ctx, tenant)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(lists, func(l api.NGListInfo) bool { return l.List == list })
	now := api.NGListInfo{Tenant: tenant, List: list}
	if i >= 0 {
		now = lists[i]
		if given.Scopes == nil && given.Include == nil && given.Spacing == "" && given.LookAlikes == "" {
			return controlplane.Errorf(controlplane.Usage, "want a setting to change").WithHint("kmsctl ngword set --help")
		}
	}
	settings := mergeSettings(now.Settings, given)
	if tenant == store.NGBase {
		settings.Include = append([]string{}, given.Include...) // the API says that a base list includes nothing
	}
	done, err := k.ChangeNGList(ctx, tenant, list, api.NGChange{Base: &now.Revision, Settings: &settings})
	if err != nil {
		return err
	}
	switch {
	case c.forPrograms():
		return c.encode(done)
	case i < 0 && !c.quiet:
		c.say("list %s of %s made", list, tenant)
	default:
		c.tellChanged(done)
	}
	return nil
}

// mergeSettings puts what is given over what there is. The words `all` and `none` stand for themselves.
func mergeSettings(now, given api.NGSettings) api.NGSettings {
	if given.Scopes != nil {
		now.Scopes = given.Scopes
		if slices.Equal(given.Scopes, []string{"all"}) {
			now.Scopes = slices.Clone(store.NGScopes)
		}
		slices.SortFunc(now.Scopes, func(a, b string) int { return slices.Index(store.NGScopes, a) - slices.Index(store.NGScopes, b) })
		now.Scopes = slices.Compact(now.Scopes)
	}
	if given.Include != nil {
		now.Include = nil
		for _, list := range given.Include {
			now.Include = append(now.Include, strings.TrimPrefix(list, store.NGBase+"/")) // as `ngword test` writes it
		}
		if slices.Equal(given.Include, []string{"none"}) {
			now.Include = []string{}
		}
	}
	if given.Spacing != "" {
		now.Spacing = given.Spacing
	}
	if given.LookAlikes != "" {
		now.LookAlikes = given.LookAlikes
	}
	return now
}

func newNGWordDelete(c *cli) *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use:   "delete TENANT --list NAME",
		Short: "Delete an NG list with its history",
		Long: `There is no way back: export it first. The list default stays, and so does a base list that others include
(exit code 6).`,
		Example: `  kmsctl ngword export demo --list event > event.json
  kmsctl ngword delete demo --list event --yes --message 'the event is over'`,
		Args:              args(1, 1),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	base := revisionFlag(cmd, "base-revision", "refuse unless the list is still at this revision")
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		if list == "" {
			return controlplane.Errorf(controlplane.Usage, "want --list: which one to delete").WithHint("kmsctl ngword lists %s", args[0])
		}
		n, err := base()
		if err != nil {
			return err
		}
		if err := c.confirm(ctx, "delete list %s of %s with its history", list, args[0]); err != nil {
			return err
		}
		if err := k.DeleteNGList(ctx, args[0], list, n); err != nil {
			return err
		}
		c.say("list %s of %s deleted", list, args[0])
		return nil
	})
	cmd.Flags().StringVar(&list, "list", "", "which of the tenant's lists")
	c.completeFlag(cmd, "list", ngListNames)
	return c.destructive(cmd)
}
