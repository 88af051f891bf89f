package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// typedPages are those whose blocks are typed.
var typedPages = []string{"README.md", "docs/operations.md", "docs/irc.md", "docs/ci.md", "docs/ngwords.md", "docs/ngwords.ja.md"}

// TestDocs_sayWhatHappens types what README and the operator's page tell one to type, page by page, each on a fresh KMS, and
// holds what is printed against the page.
func TestDocs_sayWhatHappens(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a whole KMS")
	}
	for _, path := range typedPages {
		t.Run(filepath.Base(path), func(t *testing.T) {
			told := readCommands(t, filepath.Join("../..", path))
			if len(told) < 5 {
				t.Fatalf("only %d commands found", len(told))
			}
			testkit.Need(t, "curl")
			testkit.Need(t, "inspircd")
			k := startKMS(t)
			outputs := play(t, k, told)
			for i, c := range told {
				c.check(t, outputs[i])
			}
		})
	}
}

// command is one line after a `$ ` in a block that is marked `console run`, with what the page shows below it. A comment
// `# exit N` at its end tells the exit code when it is not 0.
type command struct {
	where string
	text  string
	exit  int
	want  []string
}

// silent marks what a reader need not type, since people are slower than tests.
var silent = regexp.MustCompile(`^<!-- test: (.+) -->$`)

var exitComment = regexp.MustCompile(`\s+# exit (\d+)$`)

func readCommands(t *testing.T, path string) []*command {
	t.Helper()
	var out []*command
	fence, n := "", 0
	for line := range strings.Lines(readPage(t, path)) {
		line = strings.TrimRight(line, "\n")
		n++
		if info, isFence := strings.CutPrefix(line, "```"); isFence {
			fence = info
			continue
		}
		if m := silent.FindStringSubmatch(line); m != nil && fence == "" {
			out = append(out, &command{where: fmt.Sprintf("%s:%d", filepath.Base(path), n), text: m[1]})
		}
		if fence != "console run" {
			continue
		}
		text, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			c := &command{where: fmt.Sprintf("%s:%d", filepath.Base(path), n), text: text}
			if m := exitComment.FindStringSubmatch(text); m != nil {
				c.exit, _ = strconv.Atoi(m[1])
			}
			out = append(out, c)
		case len(out) == 0:
			t.Fatalf("%s:%d: a block begins without a command", path, n)
		default:
			out[len(out)-1].want = append(out[len(out)-1].want, line)
		}
	}
	return out
}

// output is what a command printed, stdout and stderr together, and how it ended.
type output struct {
	text string
	exit int
}

// play runs all commands in one shell, whose variables therefore last. The pages' addresses, file names and home become those
// of this test.
func play(t *testing.T, k *kms, told []*command) []output {
	t.Helper()
	var status controlplane.Status
	k.read(t, &status, "status")
	here := strings.NewReplacer("10.0.0.1:6667", testkit.FreeAddr(t, 1000), "10.0.0.2:6667", testkit.FreeAddr(t, 1000), "127.0.0.1:8080", k.addr, "127.0.0.1:8443", strings.TrimPrefix(status.HTTPS, "https://"),
		" bin/", " "+k.bin+"/", "/backup/", t.TempDir()+"/", "/srv/kms", filepath.Join(testkit.ShortDir(t), "h"),
		"127.0.0.1:9080", testkit.FreeAddr(t), "127.0.0.1:9443", testkit.FreeAddr(t), "127.0.0.1:17000", testkit.FreeAddr(t))
	dir := t.TempDir()
	var script strings.Builder
	for i, c := range told {
		c.text = here.Replace(c.text)
		for j := range c.want {
			c.want[j] = here.Replace(c.want[j])
		}
		fmt.Fprintf(&script, "{ %s\n} >%s/%d 2>&1; echo $? >%[2]s/%[3]d.exit\n", c.text, dir, i)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	shell.Dir = "../.."
	shell.Env = append(os.Environ(), "PATH="+k.bin+":"+os.Getenv("PATH"), "KMS_HOME="+k.home)
	if said, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("the shell ended with %v: %s", err, said)
	}
	out := make([]output, len(told))
	for i := range told {
		text, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		code, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)+".exit"))
		if err != nil {
			t.Fatal(err)
		}
		out[i].text = string(text)
		out[i].exit, _ = strconv.Atoi(strings.TrimSpace(string(code)))
	}
	return out
}

// check wants the page's lines in the output, in their order; others may stand between them.
func (c *command) check(t *testing.T, got output) {
	t.Helper()
	if got.exit != c.exit {
		t.Errorf("%s: %s\nexit code %d, want %d:\n%s", c.where, c.text, got.exit, c.exit, got.text)
		return
	}
	rest := strings.Split(got.text, "\n")
	for _, want := range c.want {
		found := false
		for len(rest) > 0 && !found {
			found = says(rest[0], want)
			rest = rest[1:]
		}
		if !found {
			t.Errorf("%s: %s\nno line like %q in\n%s", c.where, c.text, want, got.text)
			return
		}
	}
}

var (
	ids     = regexp.MustCompile(`\b(s[a-z2-7]{8}|[0-9a-f]{12,64})\b`)
	numbers = regexp.MustCompile(`^[0-9]+((\.[0-9]+)?(ms|us|s|m|h|d|M))?$`)
)

// says reports whether a line holds the words of another, in order. An … stands for anything. Ids, numbers, ages and times
// differ from one run to the next: any other will do.
func says(line, want string) bool {
	words := strings.Fields(want)
	for i, w := range words {
		words[i] = ids.ReplaceAllString(strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*"), `[0-9a-z]+`)
		if numbers.MatchString(w) && !ids.MatchString(w) {
			words[i] = `[0-9]\S*`
		}
	}
	return regexp.MustCompile(`(^|\s)` + strings.Join(words, `\s(.*\s)?`) + `(\s|$)`).MatchString(line)
}

func TestSays_tellsLinesApart(t *testing.T) {
	const line = "2.0      live     yes      ffad5f523813  2.0.0+f160131  12  3s"
	for _, want := range []string{"2.0 live yes", "2.0 live yes 000000000000 2.0.0… 7 1m", "yes 3s", "2… 2.0.0+f160131"} {
		if !says(line, want) {
			t.Errorf("%q does not say %q", line, want)
		}
	}
	for _, want := range []string{"1.0.0… live", "2.0 retired", "live 2.0", "2.0 live yes ffad 2.0.0…", "live yes …0001 12", "2.0 liv"} {
		if says(line, want) {
			t.Errorf("%q says %q", line, want)
		}
	}
}

// pages lists every Markdown page of this repository.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"../../README.md"}
	err := filepath.WalkDir("../../docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestDocs_linksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !hasAnchor(readPage(t, path), anchor) {
				t.Errorf("%s links to %s: no such heading", page, m[1])
			}
		}
	}
}

var noAnchor = regexp.MustCompile(`[^\pL\pN _-]`)

// hasAnchor looks for the heading that becomes the anchor, as GitHub makes it: lower case, blanks to hyphens, the rest dropped.
func hasAnchor(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
			if strings.ReplaceAll(noAnchor.ReplaceAllString(heading, ""), " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

// TestDocs_indexIsWhole wants every page to be reachable from docs/README.md.
func TestDocs_indexIsWhole(t *testing.T) {
	index := readPage(t, "../../docs/README.md")
	for _, page := range pages(t) {
		name, err := filepath.Rel("../../docs", page)
		if err != nil {
			t.Fatal(err)
		}
		if name != "README.md" && !strings.HasPrefix(name, "..") && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

var (
	aTest    = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
)

// TestDocs_testsExist guards what the pages promise against tests that were renamed or removed.
func TestDocs_testsExist(t *testing.T) {
	exist := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range testFunc.FindAllStringSubmatch(readPage(t, path), -1) {
				exist[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, m := range aTest.FindAllStringSubmatch(readPage(t, page), -1) {
			if !exist[m[1]] {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
}

// named finds kmsctl calls: in backquotes in a text, or in a line of a block.
var named = regexp.MustCompile("(?m)`kmsctl ([^`]+)`|^(?:\\$ |    )?(?:[A-Z_]+=\\S+ )*(?:bin/)?kmsctl ([^|<>#\n]+)")

// TestDocs_commandsExist guards the pages against commands and flags that are gone.
func TestDocs_commandsExist(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, m := range named.FindAllStringSubmatch(readPage(t, page), -1) {
			n++
			checkCall(t, page, strings.Fields(m[1]+m[2]))
		}
	}
	if n < 50 {
		t.Errorf("only %d calls of kmsctl found", n)
	}
}

// TestDocs_operatorsCommandsAreTyped: what the operator's page names without showing it is typed somewhere, too: at night nobody
// wants to be the first to try.
func TestDocs_operatorsCommandsAreTyped(t *testing.T) {
	root := newRoot(newCLI(nil, io.Discard, io.Discard))
	path := func(call string) string {
		target, _, err := root.Find(strings.Fields(call))
		if err != nil {
			return ""
		}
		return target.CommandPath()
	}
	typed := map[string]bool{"kmsctl": true, "kmsctl up": true} // startKMS runs that
	for _, page := range typedPages {
		for _, c := range readCommands(t, filepath.Join("../..", page)) {
			for _, m := range call.FindAllStringSubmatch(c.text, -1) {
				typed[path(m[1])] = true
			}
		}
	}
	for _, page := range []string{"docs/operations.md", "docs/ci.md"} {
		for _, m := range named.FindAllStringSubmatch(readPage(t, filepath.Join("../..", page)), -1) {
			if name := path(m[1] + m[2]); !typed[name] {
				t.Errorf("%s names `kmsctl %s%s`, and no page has %q typed", page, m[1], m[2], name)
			}
		}
	}
}

// call finds the calls of kmsctl in what is typed.
var call = regexp.MustCompile(`\bkmsctl ([a-z][^|;)>\n]*)`)

func checkCall(t *testing.T, page string, words []string) {
	t.Helper()
	for i, word := range words {
		if strings.Contains(word, "|") { // `kmsctl nginx render|diff`: the first stands for all
			words[i], _, _ = strings.Cut(word, "|")
		}
	}
	root := newRoot(newCLI(nil, io.Discard, io.Discard))
	target, left, err := root.Find(words)
	if err != nil || target == root && !strings.HasPrefix(words[0], "-") && words[0] != "COMMAND" {
		t.Errorf("%s: kmsctl %s: no such command: %v", page, strings.Join(words, " "), err)
		return
	}
	if target.HasSubCommands() && target != root && len(left) > 0 && !strings.HasPrefix(left[0], "-") {
		t.Errorf("%s: kmsctl %s: no such command", page, strings.Join(words, " "))
	}
	for _, word := range left {
		name, isFlag := strings.CutPrefix(strings.Split(strings.TrimRight(word, ",;:.)"), "=")[0], "--")
		if isFlag && name != "help" && target.Flags().Lookup(name) == nil && target.InheritedFlags().Lookup(name) == nil {
			t.Errorf("%s: kmsctl %s: no flag --%s", page, strings.Join(words, " "), name)
		}
	}
}
