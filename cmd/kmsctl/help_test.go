package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// TestHelp_fitsTerminal holds every help text to 80 cells.
func TestHelp_fitsTerminal(t *testing.T) {
	var out bytes.Buffer
	walk(newRoot(newCLI(os.Stdin, &out, io.Discard)), func(cmd *cobra.Command) {
		out.Reset()
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if w := cells.StringWidth(strings.TrimRight(line, "\n")); w > tableWidth {
				t.Errorf("%s: %d cells: %s", cmd.CommandPath(), w, line)
			}
		}
	})
}

// TestToYAML_hostileText keeps every string, and leaves no character in it that a terminal or a YAML reader chokes on.
func TestToYAML_hostileText(t *testing.T) {
	for _, text := range []string{"plain", "ロビー", "", "null", "12", "a: b", "two\nlines", "x\x1b[31my", "\x00", "line\n\x07", "\u0085\u2028\u202e\u200b", `back\slash` + "\x7f"} {
		in, err := yaml.MarshalWithOptions(map[string]string{"a": text}, yaml.JSON())
		if err != nil {
			t.Fatal(err)
		}
		got, err := toYAML(in)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var back struct{ A string }
		if err := yaml.Unmarshal(got, &back); err != nil || back.A != text {
			t.Errorf("%q became %q, read as %q, %v", text, got, back.A, err)
		}
		if strings.ContainsAny(string(got), "\x00\x07\x1b\x7f\u0085\u2028\u202e\u200b") {
			t.Errorf("%q: bare control characters in %q", text, got)
		}
	}
}
