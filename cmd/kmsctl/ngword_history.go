package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/api"
)

func newNGWordHistory(c *cli) *cobra.Command {
	var list string
	var limit int
	cmd := &cobra.Command{
		Use:   "history TENANT",
		Short: "List the revisions of an NG list, newest first",
		Example: `  kmsctl ngword history demo
  kmsctl ngword history demo --list names -n 5 -o json`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			revisions, err := k.NGHistory(ctx, args[0], list, max(limit, 0))
			if err != nil {
				return withListHint(err, args[0], list)
			}
			t := table{data: revisions, empty: "no revisions yet", columns: []column{{title: "REV", right: true}, {title: "ADDED", right: true}, {title: "REMOVED", right: true},
				{title: "SETTINGS"}, {title: "AGE"}, {title: "AT", wide: true}, {title: "BY", flex: true}, {title: "MESSAGE", flex: true}}}
			for _, r := range revisions {
				settings := "-"
				if r.Settings != nil {
					settings = "changed"
				}
				t.rows = append(t.rows, []string{itoa(r.Revision), itoa(int64(r.Added)), itoa(int64(r.Removed)), settings, c.age(r.At), stamp(r.At), dash(r.Author), dash(r.Message)})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, ngTenantNames),
	}
	c.listFlag(cmd, &list)
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many, at most 1000")
	return cmd
}

func newNGWordDiff(c *cli) *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use:   "diff TENANT REV [REV]",
		Short: "Compare an NG list at a revision with another, or with now",
		Long:  `Exit code 10 says that they differ. A changed word is shown as it was (-) and as it is (+).`,
		Example: `  kmsctl ngword diff demo 3
  kmsctl ngword diff demo 3 5 --list names`,
		Args: args(2, 3),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			revisions := []int64{newestRevision, newestRevision}
			for i, text := range args[1:] {
				n, err := ngRevision(text)
				if err != nil {
					return err
				}
				revisions[i] = n
			}
			d, err := k.DiffNGList(ctx, args[0], list, revisions[0], revisions[1])
			if err != nil {
				return withListHint(err, args[0], list)
			}
			return c.showDiff(d, d, "revisions %d and %d of list %s are the same", d.From, d.To, list)
		}),
	}
	cmd.ValidArgsFunction = c.names(true, ngTenantNames, revisionNames(&list))
	c.listFlag(cmd, &list)
	return cmd
}

func newNGWordRollback(c *cli) *cobra.Command {
	var list string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rollback TENANT REV",
		Short: "Make an NG list what it was at a revision, settings included",
		Long:  `The rollback is a revision of its own and can be taken back in the same way. Revision 0 is the empty list.`,
		Example: `  kmsctl ngword rollback demo 4 --dry-run
  kmsctl ngword rollback demo 4 --message 'the import hit everybody'`,
		Args: args(2, 2),
	}
	base := baseFlag(cmd)
	cmd.RunE = c.with(func(ctx context.Context, k *api.Client, args []string) error {
		to := api.NGRollback{}
		var err error
		if to.Revision, err = ngRevision(args[1]); err != nil {
			return err
		}
		if to.Base, err = base(); err != nil {
			return err
		}
		if dryRun {
			d, err := k.DiffNGList(ctx, args[0], list, newestRevision, to.Revision)
			if err != nil {
				return withListHint(err, args[0], list)
			}
			return c.showDiff(d, d, "nothing would change: list %s is what it was at revision %d", list, to.Revision)
		}
		done, err := k.RollbackNGList(ctx, args[0], list, to)
		if err != nil {
			return withListHint(err, args[0], list)
		}
		if c.forPrograms() {
			return c.encode(done)
		}
		c.tellChanged(done)
		c.tellUndo(done)
		return nil
	})
	cmd.ValidArgsFunction = c.names(false, ngTenantNames, revisionNames(&list))
	c.listFlag(cmd, &list)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change; exit code 10 when something would")
	return c.change(cmd)
}

// showDiff prints a diff, or data for programs. Exit code 10 says that there is a difference, else same is said.
func (c *cli) showDiff(d *api.NGDiff, data any, same string, args ...any) error {
	if c.forPrograms() {
		if err := c.encode(data); err != nil {
			return err
		}
	} else if !c.quiet {
		c.drawDiff(d)
	}
	if len(d.Added)+len(d.Removed) > 0 || d.SettingsAfter != nil {
		return errChanges
	}
	c.say(same, args...)
	return nil
}

// drawDiff prints removed and added words in one order, so that both sides of a changed one stand together.
func (c *cli) drawDiff(d *api.NGDiff) {
	if d.SettingsAfter != nil {
		c.diffLine("-", settingsText(*d.SettingsBefore))
		c.diffLine("+", settingsText(*d.SettingsAfter))
	}
	removed, added := d.Removed, d.Added
	for len(removed)+len(added) > 0 {
		if len(added) == 0 || len(removed) > 0 && removed[0].Word <= added[0].Word {
			c.diffLine("-", entryText(removed[0]))
			removed = removed[1:]
			continue
		}
		c.diffLine("+", entryText(added[0]))
		added = added[1:]
	}
}

func (c *cli) diffLine(sign, text string) {
	line := clean(sign + " " + text)
	if c.color {
		line = map[string]string{"-": "\x1b[31m", "+": "\x1b[32m"}[sign] + line + "\x1b[0m"
	}
	fmt.Fprintln(c.out, line)
}

func entryText(w api.NGWord) string {
	row := entryRow(w)
	return fmt.Sprintf("%s  (%s, %s, %s)", row[0], row[1], row[2], row[3])
}

func settingsText(g api.NGSettings) string {
	return fmt.Sprintf("settings: scopes %s, include %v, spacing %s, look-alikes %s", scopesText(g), g.Include, g.Spacing, g.LookAlikes)
}
