package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

// completeWithin bounds how long a Tab may hang; without an answer there are no suggestions.
const completeWithin = 700 * time.Millisecond

// complete gives a flag a fixed set of values. A flag that does not exist is a bug.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("internal error: " + err.Error())
	}
}

// live asks the control plane for names as they are now.
type live func(ctx context.Context, k *api.Client, args []string) ([]string, error)

// names completes each argument from its own list; the last one also serves what follows when more is set.
func (c *cli) names(more bool, lists ...live) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		i := len(args)
		if more {
			i = min(i, len(lists)-1)
		}
		if i >= len(lists) || lists[i] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		k, err := c.api()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer k.Close()
		ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
		defer cancel()
		found, err := lists[i](ctx, k, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *cli) completeFlag(cmd *cobra.Command, flag string, list live) {
	if err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		return c.names(true, list)(cmd, args, word)
	}); err != nil {
		panic("internal error: " + err.Error())
	}
}

func each[T any](list []T, err error, name func(T) string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, item := range list {
		out = append(out, name(item))
	}
	return out, err
}

func versionNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Versions(ctx)
	return each(list, err, func(v controlplane.VersionInfo) string { return v.Name })
}

func buildNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Builds(ctx)
	return each(list, err, func(b controlplane.BuildInfo) string {
		return short(b.Digest) + "\t" + b.Version + " " + clean(b.Label)
	})
}

func tenantNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Tenants(ctx)
	list = slices.DeleteFunc(list, func(t api.Tenant) bool { return strings.HasPrefix(t.ID, "_") }) // no command takes ours
	return each(list, err, func(t api.Tenant) string { return t.ID + "\t" + clean(t.Name) })
}

func channelNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	list, err := k.Channels(ctx, args[0])
	return each(list, err, func(ch api.Channel) string { return ch.ID + "\t" + clean(ch.Name) })
}

func memberNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	return k.Members(ctx, args[0], args[1])
}

func keyNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	list, err := k.Keys(ctx, args[0])
	return each(list, err, func(key api.Key) string { return key.ID + "\t" + clean(key.Label) })
}

func linkNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Links(ctx)
	return each(list, err, func(l controlplane.LinkInfo) string { return l.Name })
}

// ngTenantNames has the internal tenant of the base lists too.
func ngTenantNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	list, err := tenantNames(ctx, k, args)
	return append(list, store.NGBase+"\tthe base lists"), err
}

func ngListNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	list, err := k.NGLists(ctx, args[0])
	return each(list, err, func(l api.NGListInfo) string { return l.List })
}

func baseListNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := ngListNames(ctx, k, []string{store.NGBase})
	return append(list, "none"), err
}

func revisionNames(list *string) live {
	return func(ctx context.Context, k *api.Client, args []string) ([]string, error) {
		if len(args) == 0 {
			return nil, nil
		}
		revisions, err := k.NGHistory(ctx, args[0], *list, 50)
		return each(revisions, err, func(r api.NGRevision) string {
			return itoa(r.Revision) + "\t" + clean(r.Author+" "+r.Message)
		})
	}
}

// maxSuggestions bounds what a shell has to show of a list that may have 200,000 words.
const maxSuggestions = 500

// tenantAndWords completes a tenant and then words of one of its lists. What a terminal cannot show is left out.
func (c *cli) tenantAndWords(list *string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return c.names(true, ngTenantNames, func(ctx context.Context, k *api.Client, args []string) ([]string, error) {
			l, err := k.NGList(ctx, args[0], *list, newestRevision)
			if err != nil {
				return nil, err
			}
			var words []string
			for _, w := range l.Words {
				if strings.HasPrefix(w.Word, begun) && clean(w.Word) == w.Word && len(words) < maxSuggestions {
					words = append(words, w.Word)
				}
			}
			return words, nil
		})(cmd, args, begun)
	}
}

func setNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Versions(ctx)
	var out []string
	for _, v := range list {
		for _, s := range v.Sets {
			out = append(out, s.ID+"\t"+v.Name+" "+string(s.State))
		}
	}
	return out, err
}

func releaseNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Releases(ctx, "", 20)
	return each(list, err, func(r controlplane.Release) string { return itoa(r.ID) + "\t" + string(r.Kind) + " " + r.Version })
}
