package uatest

import (
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ua"
)

// Replay plays a golden transcript: a line for each frame, `aki> frame` sent by client aki and `aki< frame` received by it, in this
// order. `aki< close 1012` is a close frame, `# …` a comment, and `! name arg…` calls one of Actions. In a frame or an argument $name stands for a
// word that differs from run to run: the first one received is kept, later ones must be the same; one that is first sent is a new
// ULID. "*" stands for any text. Several operations in one frame are compared one by one, since nobody promises how they are batched.
func (w *World) Replay(t *testing.T, path string) {
	t.Helper()
	Replay(t, path, func(string) *Client { return w.Dial(t) }, w.Actions(t), nil)
}

// Replay plays a transcript between clients that dial connects, with these words known before it begins.
func Replay(t *testing.T, path string, dial func(client string) *Client, actions map[string]func(args []string), words map[string]string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	r := replay{dial: dial, t: t, clients: map[string]*stage{}, words: map[string]string{}}
	maps.Copy(r.words, words)
	for n, line := range strings.Split(string(data), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r.where = n + 1
		if args, ok := strings.CutPrefix(line, "! "); ok {
			words := strings.Fields(r.fill(args))
			actions[words[0]](words[1:])
			continue
		}
		r.line(line)
	}
	for name, s := range r.clients {
		if len(s.waiting) > 0 {
			t.Errorf("%s: client %s got more than the transcript tells: %q", path, name, s.waiting)
		}
	}
}

type replay struct {
	dial    func(client string) *Client
	t       *testing.T
	clients map[string]*stage
	words   map[string]string
	where   int
}

// stage is a client with what it has received and not compared yet.
type stage struct {
	*Client
	waiting []string
}

var lineRE = regexp.MustCompile(`^([a-z0-9]+)([<>]) (.*)$`)

func (r *replay) line(line string) {
	r.t.Helper()
	m := lineRE.FindStringSubmatch(line)
	if m == nil {
		r.t.Fatalf("line %d: not a transcript line: %q", r.where, line)
	}
	s := r.clients[m[1]]
	if s == nil {
		s = &stage{Client: r.dial(m[1])}
		r.clients[m[1]] = s
	}
	if m[2] == ">" {
		if m[3] == "close" {
			s.Close()
			return
		}
		s.Send(r.fill(m[3]))
		return
	}
	for _, want := range operations(quoteWords(m[3])) {
		r.compare(unquoteWords(want), s.next())
	}
}

func (s *stage) next() string {
	s.t.Helper()
	if len(s.waiting) == 0 {
		s.waiting = operations(s.Next())
	}
	first := s.waiting[0]
	s.waiting = s.waiting[1:]
	return first
}

// operations takes a frame that is an array apart.
func operations(frame string) []string {
	value, ok := ua.ParseJSON([]byte(frame))
	var ops []string
	if !ok || !value.Array(func(v ua.Value) bool { ops = append(ops, string(v)); return true }) {
		return []string{frame}
	}
	return ops
}

// A word that stands where a number will be is no JSON: it is quoted while the frame is taken apart.
var (
	bareRE   = regexp.MustCompile(`:(\$[a-z]+[0-9]*)`)
	quotedRE = regexp.MustCompile(`:"bare(\$[a-z]+[0-9]*)"`)
)

func quoteWords(frame string) string   { return bareRE.ReplaceAllString(frame, `:"bare$1"`) }
func unquoteWords(frame string) string { return quotedRE.ReplaceAllString(frame, `:$1`) }

var wordRE = regexp.MustCompile(`\$[a-z]+[0-9]*`)

// fill puts the words into a frame to be sent.
func (r *replay) fill(frame string) string {
	return wordRE.ReplaceAllStringFunc(frame, func(name string) string {
		if r.words[name] == "" {
			r.words[name] = envelope.NewID(time.Now())
		}
		return r.words[name]
	})
}

func (r *replay) compare(want, got string) {
	r.t.Helper()
	var names []string
	pattern, last := "", 0
	for _, at := range wordRE.FindAllStringIndex(want, -1) {
		name := want[at[0]:at[1]]
		pattern += regexp.QuoteMeta(want[last:at[0]])
		if word, known := r.words[name]; known {
			pattern += regexp.QuoteMeta(word)
		} else {
			pattern += `([A-Za-z0-9]+)`
			names = append(names, name)
		}
		last = at[1]
	}
	pattern += regexp.QuoteMeta(want[last:])
	pattern = strings.ReplaceAll(pattern, `"\*"`, `"(?:[^"\\]|\\.)*"`)
	m := regexp.MustCompile(`^` + pattern + `$`).FindStringSubmatch(got)
	if m == nil {
		r.t.Fatalf("line %d:\nwant %s\ngot  %s\nwords %v", r.where, want, got, r.words)
	}
	for i, name := range names {
		r.words[name] = m[i+1]
	}
}
