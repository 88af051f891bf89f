package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

func newNGWord(c *cli) *cobra.Command {
	g := group("ngword", "Manage tenants' NG (forbidden) words", `  kmsctl ngword add demo badword --action mask
  kmsctl ngword import demo words.csv --dry-run
  kmsctl ngword test demo 'what happens to this badword'
  kmsctl ngword history demo`, newNGWordLists(c), newNGWordSet(c), newNGWordDelete(c), newNGWordList(c), newNGWordAdd(c), newNGWordRemove(c),
		newNGWordImport(c), newNGWordExport(c), newNGWordTest(c), newNGWordHistory(c), newNGWordDiff(c), newNGWordRollback(c), newNGWordEval(c))
	g.Long = `Every tenant has the list default and may have others. All lists of a tenant that apply to a line judge it together,
with the base lists that they include: allow entries win over words, and the strictest action wins. Base lists are those of
the tenant _base; some come with KMS.

Every change is a revision with its author and message, and can be taken back. It is in force everywhere within a second, with a
list of 100,000 words within five.`
	return g
}

// listFlag adds --list, completed with the lists of the tenant that is the first argument.
func (c *cli) listFlag(cmd *cobra.Command, list *string) {
	cmd.Flags().StringVar(list, "list", store.NGDefault, "which of the tenant's lists")
	c.completeFlag(cmd, "list", ngListNames)
}

// entryFlags adds what is said about words that do not say it themselves. The flag --allow is returned apart.
func entryFlags(cmd *cobra.Command, w *api.NGWord) (allow *bool) {
	flags := cmd.Flags()
	flags.StringVar(&w.Action, "action", store.NGReject, "reject, mask, flag (deliver and report) or shadow (only the sender sees it)")
	flags.StringVar(&w.Mode, "mode", store.NGModeAuto, "where it counts: as a word, as a substring, or auto: by its script")
	complete(cmd, "action", store.NGReject, store.NGMask, store.NGFlag, store.NGShadow)
	complete(cmd, "mode", store.NGModeAuto, store.NGModeWord, store.NGModeSubstring)
	return flags.Bool("allow", false, "allow entries: what they cover is never an NG word")
}

// words takes words from the command line, or one a line from stdin when that is a single "-".
func (c *cli) words(args []string) ([]string, error) {
	if len(args) != 1 || args[0] != "-" {
		return args, nil
	}
	var words []string
	lines := bufio.NewScanner(c.in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if word := strings.TrimSpace(lines.Text()); word != "" {
			words = append(words, word)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot read lines from stdin: %v", err)
	}
	if len(words) == 0 {
		return nil, controlplane.Errorf(controlplane.Usage, "cannot read lines from stdin: it is empty")
	}
	return words, nil
}

// changeList makes a revision and tells of it.
func (c *cli) changeList(ctx context.Context, k *api.Client, tenant, list string, change api.NGChange) error {
	done, err := k.ChangeNGList(ctx, tenant, list, change)
	if err != nil {
		return withListHint(err, tenant, list)
	}
	if c.forPrograms() {
		return c.encode(done)
	}
	c.tellChanged(done)
	return nil
}

// planList tells what a change would do.
func (c *cli) planList(ctx context.Context, k *api.Client, tenant, list string, change api.NGChange) error {
	plan, err := k.PlanNGList(ctx, tenant, list, change)
	if err != nil {
		return withListHint(err, tenant, list)
	}
	c.tellFindings(plan)
	return c.showPlan(plan)
}

func (c *cli) showPlan(plan *api.NGPlan) error {
	return c.showDiff(&plan.NGDiff, plan, "nothing would change: list %s of %s is at revision %d", plan.List, plan.Tenant, plan.From)
}

func (c *cli) tellChanged(done *api.NGChanged) {
	switch {
	case c.quiet:
		fmt.Fprintln(c.out, done.Revision)
	case isNothing(done):
		c.say("nothing to change: list %s of %s is at revision %d", done.List, done.Tenant, done.Revision)
	default:
		what := fmt.Sprintf("%d added, %d changed, %d removed", done.Added, done.Changed, done.Removed)
		if done.Settings != nil {
			what += ", settings changed"
		}
		c.say("list %s of %s is at revision %d: %s", done.List, done.Tenant, done.Revision, what)
	}
}

func isNothing(done *api.NGChanged) bool {
	return done.Added+done.Changed+done.Removed == 0 && done.Settings == nil
}

// tellUndo says how to take a revision back.
func (c *cli) tellUndo(done *api.NGChanged) {
	if !isNothing(done) && done.Revision > 0 {
		c.say("undo: kmsctl ngword rollback %s %d%s", done.Tenant, done.Revision-1, listArgument(done.List))
	}
}

func listArgument(list string) string {
	if list == store.NGDefault {
		return ""
	}
	return " --list " + list
}

// withListHint says how to make a list that is not there.
func withListHint(err error, tenant, list string) error {
	e := controlplane.AsError(err)
	if e.Kind == controlplane.NotFound && e.Hint == "" && (list != store.NGDefault || tenant == store.NGBase) {
		return e.WithHint("kmsctl ngword lists %s; to make it: kmsctl ngword set %s --list %s", tenant, tenant, list)
	}
	return err
}

// newestRevision stands for a revision that is not given.
const newestRevision = -1

// revisionFlag adds a flag for a revision.
func revisionFlag(cmd *cobra.Command, name, usage string) (value func() (int64, error)) {
	text := cmd.Flags().String(name, "", usage)
	return func() (int64, error) {
		if *text == "" {
			return newestRevision, nil
		}
		return ngRevision(*text)
	}
}

// baseFlag adds --base-revision; its value is what the API takes.
func baseFlag(cmd *cobra.Command) (value func() (*int64, error)) {
	revision := revisionFlag(cmd, "base-revision", "refuse unless the list is still at this revision")
	return func() (*int64, error) {
		n, err := revision()
		if n == newestRevision {
			return nil, err
		}
		return &n, err
	}
}

func ngRevision(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, controlplane.Errorf(controlplane.Usage, "bad revision %q: want its number, from 0", text).WithHint("kmsctl ngword history TENANT")
	}
	return n, nil
}

// slowly says what is going on once it has taken a while.
func (c *cli) slowly(format string, args ...any) (done func()) {
	t := time.AfterFunc(progressAfter, func() { c.note(format, args...) })
	return func() { t.Stop() }
}

// entryRow is an entry's cells: WORD KIND ACTION MODE.
func entryRow(w api.NGWord) []string {
	if w.Kind == store.NGAllow {
		return []string{w.Word, w.Kind, "-", w.Mode}
	}
	return []string{w.Word, w.Kind, w.Action, w.Mode}
}
