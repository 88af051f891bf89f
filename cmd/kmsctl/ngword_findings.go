package main

import (
	"fmt"

	"github.com/kmsctl/kms/controlplane/api"
)

// findingKinds are the kinds of findings in the order in which they are told, and how.
var findingKinds = []struct {
	kind string
	text func(f api.NGFinding) string
}{
	{"empty", func(f api.NGFinding) string { return fmt.Sprintf("%q holds nothing to look for", f.Word) }},
	{"same", func(f api.NGFinding) string {
		return fmt.Sprintf("%s and %s are the same to the filter", f.Word, f.Other)
	}},
	{"allowed", func(f api.NGFinding) string {
		if f.Other == "" {
			return f.Word + " never counts: an allow entry covers it"
		}
		return fmt.Sprintf("%s never counts: the allow entry %s of list %s covers it", f.Word, f.Other, f.List)
	}},
	{"hidden", func(f api.NGFinding) string {
		return fmt.Sprintf("%s adds nothing: %s, as strict, is found in it", f.Word, f.Other)
	}},
	{"ordinary", func(f api.NGFinding) string {
		what, who := fmt.Sprintf("%s is found in %s, an ordinary word", f.Word, f.Example), "it passes"
		if f.Lines > 1 {
			what, who = fmt.Sprintf("%s is found in %d ordinary words, such as %s", f.Word, f.Lines, f.Example), "they pass"
		}
		if f.Spared {
			return fmt.Sprintf("%s; %s: %s is included", what, who, f.List)
		}
		return fmt.Sprintf("%s of %s, which is not included", what, f.List)
	}},
}

// tellFindings warns, on stderr, of what is to be said about the words of a plan.
func (c *cli) tellFindings(plan *api.NGPlan) {
	if c.quiet || c.forPrograms() {
		return
	}
	c.tellKinds(plan)
	byKind := map[string][]api.NGFinding{}
	for _, f := range plan.Findings {
		byKind[f.Kind] = append(byKind[f.Kind], f)
	}
	for _, kind := range findingKinds {
		var lines []string
		for _, f := range byKind[kind.kind] {
			level := "warning: "
			if f.Spared {
				level = "note: " // nothing will come of it
			}
			lines = append(lines, level+kind.text(f))
		}
		for _, line := range firstOf(lines) {
			c.note("%s", line)
		}
	}
	c.tellLogHits(byKind["log"], plan.Sampled)
	if plan.LeftOut > 0 {
		c.note("warning: there are %d more such findings", plan.LeftOut)
	}
}

func (c *cli) tellLogHits(hits []api.NGFinding, sampled int) {
	if len(hits) == 0 {
		return
	}
	c.note("warning: %s in what people wrote lately (the last %s):", plural(len(hits), "word is", "words are"), plural(sampled, "message", "messages"))
	t := table{columns: []column{{title: "WORD", flex: true}, {title: "LINES", right: true}, {title: "FOR EXAMPLE", flex: true}}}
	for _, f := range hits[:min(len(hits), maxTold)] {
		t.rows = append(t.rows, []string{f.Word, itoa(int64(f.Lines)), f.Example})
	}
	if err := c.draw(c.err, t); err == nil && len(hits) > maxTold {
		c.note("… and %d more", len(hits)-maxTold)
	}
}

// tellKinds warns of words that were allowed and are now forbidden, or the other way round.
func (c *cli) tellKinds(plan *api.NGPlan) {
	kinds := map[string]string{}
	for _, w := range plan.Removed {
		kinds[w.Word] = w.Kind
	}
	var lines []string
	for _, w := range plan.Added {
		if before := kinds[w.Word]; before != "" && before != w.Kind {
			lines = append(lines, fmt.Sprintf("warning: %s was an entry of kind %s and becomes one of kind %s", w.Word, before, w.Kind))
		}
	}
	for _, line := range firstOf(lines) {
		c.note("%s", line)
	}
}
