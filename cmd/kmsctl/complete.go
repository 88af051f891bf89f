package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
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

func wordNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	list, err := k.NGWords(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return each(list.Words, nil, func(w api.NGWord) string { return w.Word })
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
