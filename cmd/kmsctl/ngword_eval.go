package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/ngword/ngeval"
)

func newNGWordEval(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "eval CASES.json",
		Short: "Measure the filter with cases that carry their own lists",
		Long: `Recall is the share of the offending lines that were found, clean the share of the others that were let through, spans the
share of the found places that are exactly the offending text. No control plane is needed, and - reads stdin.`,
		Example: `  kmsctl ngword eval cases.json
  kmsctl ngword eval cases.json -o json`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := c.openInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := ngeval.Eval(in)
			if err != nil {
				return controlplane.Errorf(controlplane.Usage, "%q: %v", args[0], err)
			}
			if c.forPrograms() {
				return c.encode(r)
			}
			return c.tellReport(r)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
}

// openInput opens a file, or stdin for "-".
func (c *cli) openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(c.in), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, controlplane.Errorf(openKind(err), "cannot read %q: %v", path, pathless(err))
	}
	return f, nil
}

func (c *cli) tellReport(r ngeval.Report) error {
	if c.quiet {
		for _, id := range r.Wrong {
			fmt.Fprintln(c.out, id)
		}
		return nil
	}
	t := table{columns: []column{{title: "CASES", flex: true}, {title: "RECALL", right: true}, {title: "FOUND", right: true}, {title: "CLEAN", right: true},
		{title: "PASSED", right: true}, {title: "SPANS", right: true}, {title: "EXACT", right: true}}}
	add := func(name string, rate ngeval.Rate) { t.rows = append(t.rows, rateRow(name, rate)) }
	add("core", r.Core)
	add("core ja", r.CoreJA)
	add("all", r.All)
	for _, group := range []struct {
		name  string
		rates map[string]ngeval.Rate
	}{{"class", r.Classes}, {"language", r.Langs}, {"kind", r.Kinds}} {
		for _, name := range slices.Sorted(maps.Keys(group.rates)) {
			add(group.name+" "+name, group.rates[name])
		}
	}
	if err := c.print(t); err != nil {
		return err
	}
	c.tellCases("judged wrong", r.Wrong)
	c.tellCases("found elsewhere than expected", r.Spans)
	return nil
}

func rateRow(name string, r ngeval.Rate) []string {
	share := func(rate float64, part, whole int) []string {
		if whole == 0 {
			return []string{"-", "-"}
		}
		return []string{fmt.Sprintf("%.3f", rate), fmt.Sprintf("%d/%d", part, whole)}
	}
	return slices.Concat([]string{name}, share(r.Recall, r.Found, r.Offending), share(r.Clean, r.Passed, r.Innocent), share(r.Spans, r.Exact, r.Placed))
}

func (c *cli) tellCases(what string, ids []string) {
	if len(ids) == 0 {
		return
	}
	for line := range strings.Lines(fill(fmt.Sprintf("%s: %s", what, strings.Join(ids, " ")), tableWidth)) {
		c.say("%s", strings.TrimSuffix(line, "\n"))
	}
}

// pathless takes the path from an error that is told with it anyway.
func pathless(err error) error {
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		return wrong.Err
	}
	return err
}
