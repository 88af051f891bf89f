package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kmsctl/kms/"

// TestLayout_imports holds the tree against the rules of docs/architecture.md: who may import whom.
func TestLayout_imports(t *testing.T) {
	for pkg, imports := range moduleImports(t) {
		for _, imported := range imports {
			if rule := forbidden(pkg, imported); rule != "" {
				t.Errorf("%s imports %s: %s", pkg, imported, rule)
			}
		}
	}
}

// shared is what the control plane and the CLI may use of runtime: what describes the shared world, nothing that serves chat.
var shared = []string{"plugin", "plugin/pb", "store", "chatlog", "ngword", "ngword/ngeval", "bus", "names", "auth", "envelope", "testkit", "testkit/freeport"}

func forbidden(pkg, imported string) string {
	from, _, _ := strings.Cut(pkg, "/")
	to, rest, _ := strings.Cut(imported, "/")
	switch {
	case from == "versions" && to == "versions" && strings.Split(pkg, "/")[1] != strings.Split(imported, "/")[1]:
		return "versions share through runtime only"
	case (from == "runtime" || from == "versions") && (to == "controlplane" || to == "cmd"):
		return "what serves chat does not know the control plane"
	case from == "runtime" && to == "versions":
		return "runtime does not know its versions"
	case (from == "controlplane" || from == "cmd") && to == "runtime" && !slices.Contains(shared, rest):
		return "the control plane shares only " + strings.Join(shared, ", ")
	case (from == "controlplane" || from == "templates") && to == "cmd":
		return "only cmd is on top"
	}
	return ""
}

// moduleImports maps each package of this module to those of its own that it imports, tests left out.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "../../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		all[name] = []string{}
		for _, i := range p.Imports {
			if ours, ok := strings.CutPrefix(i, module); ok {
				all[name] = append(all[name], ours)
			}
		}
	}
}

func TestForbidden_knowsEachRule(t *testing.T) {
	for _, c := range []struct{ pkg, imported string }{
		{"versions/v1_0", "versions/v2_0"}, {"runtime/hub", "controlplane"}, {"versions/v1_0", "cmd/kmsctl"},
		{"runtime/ua", "versions/v1_0"}, {"controlplane/daemon", "runtime/hub"}, {"cmd/kmsctl", "runtime/chat"},
		{"controlplane/api", "cmd/kmsctl"},
	} {
		if forbidden(c.pkg, c.imported) == "" {
			t.Errorf("%s may import %s", c.pkg, c.imported)
		}
	}
	if rule := forbidden("cmd/kmsctl", "runtime/store"); rule != "" {
		t.Errorf("cmd/kmsctl may not import runtime/store: %s", rule)
	}
}
