package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

func TestRun_printsOneLineAFigure(t *testing.T) {
	var out, errs bytes.Buffer
	run([]string{"--own", "../../runtime/ngword/testdata/cases.json", "--peers=false", "--time=5ms"}, &out, &errs)
	seen := map[string]figure.Figure{}
	for line := range strings.Lines(out.String()) {
		var f figure.Figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[f.Name] = f
	}
	for _, name := range []string{"ngword_own_core_recall", "ngword_own_core_ja_clean", "ngword_own_core_spans", "ngword_allocations_mixed", "ngword_memory_100k"} {
		if f, ok := seen[name]; !ok || f.Goal == "" || name != "ngword_allocations_mixed" && !f.OK {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for _, name := range []string{"ngword_line_japanese_100k", "ngword_line_mixed_100k", "ngword_compile_10k", "ngword_hostile_line", "ngword_own_extra_recall"} {
		if _, ok := seen[name]; !ok {
			t.Errorf("no figure %s in %s%s", name, out.String(), errs.String())
		}
	}
}

// TestPeers_areNotShipped holds that no program but this one carries the libraries that it is compared with.
func TestPeers_areNotShipped(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../kmsctl", "../../versions/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"go-away", "ahocorasick", "aho-corasick"} {
		if strings.Contains(string(out), p) {
			t.Errorf("%s is part of a program that is shipped", p)
		}
	}
}
