package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

// textsAtOnce is how many lines of stdin go into one call.
const textsAtOnce = 500

func newNGWordTest(c *cli) *cobra.Command {
	var scope string
	cmd := &cobra.Command{
		Use:   "test TENANT TEXT...",
		Short: "Tell what a tenant's NG lists do to a text, and why",
		Long: `The text is judged as a message in a channel of the given kind, or as a name. For each hit it is told which word of which
list it is, where it stands (in characters, from 1), and what the filter saw through: the foldings. Words that an allow entry
covers are told too. A single - reads texts from stdin, one a line.`,
		Example: `  kmsctl ngword test demo 'this is a ｂａｄｗｏｒｄ'
  kmsctl ngword test demo --channel-kind name 'BadWord99'
  kmsctl ngword test demo - -o json < chat.txt`,
		Args: args(2, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if len(args) == 2 && args[1] == "-" {
				return c.testLines(ctx, k, args[0], scope)
			}
			verdicts, err := k.TestNGLists(ctx, args[0], api.NGTexts{Scope: scope, Texts: []string{strings.Join(args[1:], " ")}})
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(verdicts[0])
			}
			c.tellVerdict(strings.Join(args[1:], " "), verdicts[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	cmd.Flags().StringVar(&scope, "channel-kind", store.KindWorld, "world, guild, direct, or name: names of users and channels")
	complete(cmd, "channel-kind", store.NGScopes...)
	return cmd
}

func (c *cli) testLines(ctx context.Context, k *api.Client, tenant, scope string) error {
	lines, err := c.words([]string{"-"})
	if err != nil {
		return err
	}
	all := []api.NGVerdict{}
	for texts := range slices.Chunk(lines, textsAtOnce) {
		verdicts, err := k.TestNGLists(ctx, tenant, api.NGTexts{Scope: scope, Texts: texts})
		if err != nil {
			return err
		}
		if c.forPrograms() {
			all = append(all, verdicts...)
			continue
		}
		for i, v := range verdicts {
			c.tellVerdict(texts[i], v)
		}
	}
	if c.forPrograms() {
		return c.encode(all)
	}
	return nil
}

func (c *cli) tellVerdict(text string, v api.NGVerdict) {
	if c.quiet {
		fmt.Fprintln(c.out, dash(v.Action))
		return
	}
	switch v.Action {
	case "":
		c.say("passes: %s", text)
	case store.NGMask:
		c.say("mask: %s", v.Text)
	case store.NGFlag:
		c.say("flag: %s (delivered, and reported)", v.Text)
	case store.NGShadow:
		c.say("shadow: %s (only the sender sees it)", v.Text)
	default:
		c.say("reject: %s (not delivered)", text)
	}
	for _, hit := range v.Hits {
		c.say("  %s", hitText(text, hit))
	}
	for _, hit := range v.Allowed {
		c.say("  %s; does not count: the allow entry %s of list %s covers it", hitText(text, hit), hit.By, hit.ByList)
	}
}

// hitText tells a hit: which word, where, and what hid it.
func hitText(text string, h api.NGHit) string {
	first := utf8.RuneCountInString(text[:h.Start]) + 1
	last := first + utf8.RuneCountInString(text[h.Start:h.End]) - 1
	place := fmt.Sprintf("characters %d to %d", first, last)
	if first == last {
		place = fmt.Sprintf("character %d", first)
	}
	out := fmt.Sprintf("%s (%s, list %s) at %s", h.Word, h.Action, h.List, place)
	if h.Found != h.Word {
		out += fmt.Sprintf(": %q", h.Found)
	}
	if len(h.Foldings) > 0 {
		out += ", through " + strings.Join(h.Foldings, ", ")
	}
	return out
}
