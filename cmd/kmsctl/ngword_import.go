package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxImport = 64 << 20 // bytes of a file
	maxTold   = 20       // bad lines, and findings of a kind, that are told one by one
)

// ngImport is one import: what the command line says, and what came of it.
type ngImport struct {
	list, format, encoding             string
	replace, settings, dryRun, skipBad bool
	defaults                           api.NGWord

	name string // of the file, in messages
	file *ngFile
}

// imported is the outcome of an import for programs.
type imported struct {
	api.NGChanged
	Findings []api.NGFinding `json:"findings"`
	LeftOut  int             `json:"left_out,omitempty"`
	Sampled  int             `json:"sampled"`
	Repeated int             `json:"repeated"`
	Skipped  []string        `json:"skipped"` // bad lines
}

func newNGWordImport(c *cli) *cobra.Command {
	i := &ngImport{}
	cmd := &cobra.Command{
		Use:   "import TENANT FILE",
		Short: "Add the words of a file to an NG list, or replace the list by it",
		Long: `txt has one word a line; a line that begins with # is a comment, and \# and \\ begin a word with # or \. csv begins with a
header: word,kind,action,mode in any order, all but word optional. json is an array of words or of objects with these
fields, or what export writes. FILE may be - for stdin. What a file leaves out, --action, --mode and --allow say.

Bad lines are named, and nothing is imported unless they are to be skipped. Words are warned about that hit lines which people
wrote lately, that ordinary words contain, or that never come to count. An import is one revision; when somebody else changed
the list meanwhile, nothing is changed and the exit code is 1.

In csv an apostrophe before = + - @ at the beginning of a word is taken away: export writes it, so that a spreadsheet does not
take a word for a formula.`,
		Example: `  kmsctl ngword import demo words.txt --action mask --dry-run
  kmsctl ngword import demo words.csv --encoding sjis -m 'publisher'
  kmsctl ngword import demo export.json --list names --replace`,
		Args: args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			return c.importWords(ctx, k, args[0], args[1], i)
		}),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return ngFormats, cobra.ShellCompDirectiveFilterFileExt
			}
			return c.names(false, ngTenantNames)(cmd, args, begun)
		},
	}
	allow := entryFlags(cmd, &i.defaults)
	cmd.PreRun = func(*cobra.Command, []string) {
		if *allow {
			i.defaults.Kind = store.NGAllow
		}
	}
	c.listFlag(cmd, &i.list)
	flags := cmd.Flags()
	flags.StringVar(&i.format, "format", "", "txt, csv or json (default: by the file's extension)")
	flags.StringVar(&i.encoding, "encoding", "utf-8", "utf-8, sjis or euc-jp")
	flags.BoolVar(&i.replace, "replace", false, "the list becomes exactly the file's words")
	flags.BoolVar(&i.settings, "settings", false, "take the settings of an export too; makes the list")
	flags.BoolVar(&i.dryRun, "dry-run", false, "show what would change; exit code 10 when something would")
	flags.BoolVar(&i.skipBad, "skip-bad", false, "import the good lines although others are bad")
	complete(cmd, "format", ngFormats...)
	complete(cmd, "encoding", "utf-8", "sjis", "euc-jp")
	return c.change(cmd)
}

func (c *cli) importWords(ctx context.Context, k *api.Client, tenant, path string, i *ngImport) error {
	if err := c.readWords(path, i); err != nil {
		return err
	}
	change, err := i.change()
	if err != nil {
		return err
	}
	done := c.slowly("trying %s on the lists and the log of %s", plural(len(i.file.words), "word", "words"), tenant)
	plan, err := k.PlanNGList(ctx, tenant, i.list, change)
	done()
	if err != nil {
		return withListHint(err, tenant, i.list)
	}
	c.tellFindings(plan)
	if i.dryRun {
		return c.showPlan(plan)
	}
	change.Base = &plan.From // so that nobody's change is lost
	done = c.slowly("writing %s", plural(len(plan.Added)+len(plan.Removed), "change", "changes"))
	changed, err := k.ChangeNGList(ctx, tenant, i.list, change)
	done()
	if err != nil {
		return err
	}
	if c.forPrograms() {
		return c.encode(imported{*changed, plan.Findings, plan.LeftOut, plan.Sampled, i.file.repeated, i.badLines()})
	}
	c.tellChanged(changed)
	c.tellUndo(changed)
	return nil
}

// readWords reads the file. Bad lines end the import unless they are to be skipped.
func (c *cli) readWords(path string, i *ngImport) error {
	if err := i.check(path); err != nil {
		return err
	}
	in, err := c.openInput(path)
	if err != nil {
		return err
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot read %q: %v", path, pathless(err))
	}
	if len(raw) > maxImport {
		return controlplane.Errorf(controlplane.Usage, "cannot import %q: it is larger than %s", path, size(maxImport))
	}
	if i.file, err = parseNG(raw, i.format, i.encoding, i.defaults); err != nil {
		e := controlplane.AsError(err)
		return (&controlplane.Error{Kind: e.Kind, Message: fmt.Sprintf("cannot import %q: %s", i.name, e.Message)}).WithHint("%s", e.Hint)
	}
	bad := i.badLines()
	switch {
	case len(bad) > 0 && !i.skipBad:
		return controlplane.Errorf(controlplane.Usage, "cannot import %q: %s, nothing was changed\n%s", i.name, plural(len(bad), "bad line", "bad lines"),
			strings.Join(firstOf(bad), "\n")).WithHint("%s", i.hint())
	case len(bad) > 0:
		c.note("skipping %s:", plural(len(bad), "bad line", "bad lines"))
		for _, line := range firstOf(bad) {
			c.note("%s", line)
		}
	}
	if i.file.repeated > 0 {
		c.note("%s in %s more than once", plural(i.file.repeated, "word is", "words are"), i.name)
	}
	if len(i.file.words) == 0 {
		return controlplane.Errorf(controlplane.Usage, "cannot import %q: it has no words", i.name)
	}
	return nil
}

func (i *ngImport) check(path string) error {
	i.name = path
	if path == "-" {
		i.name = "stdin"
	}
	if i.format == "" {
		i.format = strings.ToLower(strings.TrimPrefix(filepath.Ext(path), "."))
		if !slices.Contains(ngFormats, i.format) {
			return controlplane.Errorf(controlplane.Usage, "cannot tell the format of %q by its name: want --format txt, csv or json", i.name)
		}
	}
	if !slices.Contains(ngFormats, i.format) {
		return controlplane.Errorf(controlplane.Usage, "bad --format %q: want txt, csv or json", i.format)
	}
	if _, known := ngEncodings[i.encoding]; !known {
		return controlplane.Errorf(controlplane.Usage, "bad --encoding %q: want utf-8, sjis or euc-jp", i.encoding)
	}
	return nil
}

// change is what the import asks for.
func (i *ngImport) change() (api.NGChange, error) {
	change := api.NGChange{Add: i.file.words}
	if i.replace {
		change = api.NGChange{Replace: &i.file.words}
	}
	if i.settings {
		if i.file.settings == nil {
			return change, controlplane.Errorf(controlplane.Usage, "cannot take settings from %q: it has none", i.name).WithHint("json that `kmsctl ngword export` wrote has them")
		}
		change.Settings = i.file.settings
	}
	return change, nil
}

func (i *ngImport) badLines() []string {
	out := make([]string, 0, len(i.file.bad))
	for _, b := range i.file.bad {
		out = append(out, fmt.Sprintf("%s:%d: %s", i.name, b.line, b.what))
	}
	return out
}

// hint tells a file in another encoding from one with mistakes.
func (i *ngImport) hint() string {
	foreign := slices.ContainsFunc(i.file.bad, func(b badLine) bool { return b.what == "not UTF-8" })
	if foreign {
		return "is it Shift_JIS, as spreadsheets in Japan write? then --encoding sjis (or euc-jp)"
	}
	return "--skip-bad imports the other lines"
}

// firstOf cuts a long list of lines and says how many there are beyond.
func firstOf(lines []string) []string {
	if len(lines) <= maxTold {
		return lines
	}
	return append(slices.Clone(lines[:maxTold]), fmt.Sprintf("… and %d more", len(lines)-maxTold))
}
