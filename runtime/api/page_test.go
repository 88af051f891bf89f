package api_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/api"
)

const page = "../../docs/api.md"

// example is a request of the page with its answer.
type example struct {
	line               int
	method, path, body string
	status             int
	answer             string
}

var statusRE = regexp.MustCompile(`^< ([0-9]{3})(?: (.*))?$`)

// examples takes the http blocks of the page apart.
func examples(t *testing.T) (list []example) {
	t.Helper()
	inside := false
	var now example
	for n, line := range strings.Split(readPage(t), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```http"
		case inside && strings.HasPrefix(line, "> "):
			if now.method == "" {
				now.line = n + 1
				now.method, now.path, _ = strings.Cut(line[2:], " ")
			} else {
				now.body = line[2:]
			}
		case inside:
			m := statusRE.FindStringSubmatch(line)
			if m == nil || now.method == "" {
				t.Fatalf("%s:%d: neither a request nor its answer: %q", page, n+1, line)
			}
			now.status, _ = strconv.Atoi(m[1])
			now.answer = m[2]
			list = append(list, now)
			now = example{}
		}
	}
	return list
}

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	check(t, err)
	return string(text)
}

// made and times are the fields whose values differ from run to run, or, count of shipped words, from build to build. Of the
// former, what is equal on the page must be equal here.
var (
	made  = []string{"key", "token", "epoch", "id", "author"}
	times = []string{"at", "created_at", "expires_at", "count"}
)

type comparison struct{ words map[string]string }

// same compares an answer with the page's, field by field.
func (c *comparison) same(name string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok || len(got) != len(want) {
			return fmt.Errorf("%s has other fields", name)
		}
		for field := range want {
			if err := c.same(field, want[field], got[field]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return fmt.Errorf("%s has another length", name)
		}
		for i := range want {
			if err := c.same(name, want[i], got[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if want == got {
		return nil
	}
	_, wantTime := want.(float64)
	_, gotTime := got.(float64)
	if wantTime && gotTime && slices.Contains(times, name) {
		return nil
	}
	w, g := fmt.Sprint(want), fmt.Sprint(got)
	if !slices.Contains(made, name) || wantTime != gotTime || len(w) != len(g) {
		return fmt.Errorf("%s is %s, not %s", name, g, w)
	}
	if known, ok := c.words[w]; ok && known != g {
		return fmt.Errorf("%s was %s before, now %s", name, known, g)
	}
	c.words[w] = g
	return nil
}

func TestPage_examplesAreWhatTheServerAnswers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := comparison{map[string]string{}}
		for _, e := range examples(t) {
			a := w.call(t, e.method, e.path, e.body)
			if a.Status != e.status {
				t.Fatalf("%s:%d: %d %s", page, e.line, a.Status, a.Body)
			}
			if e.answer == "" && a.Body == "" {
				continue
			}
			var want, got any
			check(t, json.Unmarshal([]byte(e.answer), &want))
			check(t, json.Unmarshal([]byte(a.Body), &got))
			if err := c.same("the answer", want, got); err != nil {
				t.Fatalf("%s:%d: %v\nwant %s\ngot  %s", page, e.line, err, e.answer, a.Body)
			}
		}
	})
}

func TestPage_tellsEveryRouteAndCode(t *testing.T) {
	text := readPage(t)
	var shown []string
	for _, e := range examples(t) {
		shown = append(shown, e.method+" "+e.path)
	}
	for _, route := range api.Routes() {
		method, path, _ := strings.Cut(route, " ")
		names := regexp.MustCompile(`\{[a-z]+\}`)
		pattern := regexp.MustCompile(`^` + method + ` /api/2\.0/demo/` + names.ReplaceAllString(path, `[^/?]+`) + `(\?.*)?$`)
		if !slices.ContainsFunc(shown, pattern.MatchString) {
			t.Errorf("the page has no example of %s", route)
		}
		if path != "" && !strings.Contains(text, method+" "+path) {
			t.Errorf("the page has no section of %s", route)
		}
	}
	for code, status := range api.Statuses() {
		if row := fmt.Sprintf("| %d | `%s` |", status, code); !strings.Contains(text, row) {
			t.Errorf("the page's table lacks %s", row)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| `([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if status := strconv.Itoa(api.Statuses()[m[2]]); status != m[1] && m[2] != "version_retired" { // which nginx answers
			t.Errorf("the page tells %s as %s, the code as %s", m[2], m[1], status)
		}
	}
}
