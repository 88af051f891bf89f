package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// nodeModules is where Debian puts node-ws.
const nodeModules = "/usr/share/nodejs"

// testScripts is a directory with kms.js as a program would have it, and the scripts of testdata/kmsjs beside it.
func testScripts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"../../templates/web/kms.js", "../../templates/web/kms.d.ts", "testdata/kmsjs"} {
		info, err := os.Stat(from)
		must(t, err)
		if info.IsDir() {
			must(t, os.CopyFS(dir, os.DirFS(from)))
			continue
		}
		text, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`), 0o644))
	return dir
}

// withWS gives the scripts in dir the module ws, which stands in for the WebSocket that Node lacks.
func withWS(t *testing.T, dir string) {
	t.Helper()
	testkit.Need(t, "node")
	ws := filepath.Join(nodeModules, "ws")
	if _, err := os.Stat(ws); err != nil {
		if os.Getenv("KMS_TEST_REQUIRE") == "1" {
			t.Fatal("node-ws is not installed and KMS_TEST_REQUIRE=1")
		}
		t.Skip("node-ws is not installed")
	}
	must(t, os.Mkdir(filepath.Join(dir, "node_modules"), 0o755))
	must(t, os.Symlink(ws, filepath.Join(dir, "node_modules", "ws")))
}

// node is a command that trusts the rig's certificate, and ends with the test.
func (s *story) node(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+s.path("nginx", "tls", "cert.pem"))
	cmd.WaitDelay = time.Second
	return cmd
}

// TestClientJS_byItself plays kms.js every part of the protocol that a server may play.
func TestClientJS_byItself(t *testing.T) {
	node := testkit.Need(t, "node")
	cmd := exec.CommandContext(testContext(t, time.Minute), node, "--test", "unit.test.mjs")
	cmd.Dir = testScripts(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestClientJS_types holds kms.d.ts against what kms.js is and says of itself, and against a program that uses it.
func TestClientJS_types(t *testing.T) {
	tsc := testkit.Need(t, "tsc")
	dir := testScripts(t)
	compile := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(testContext(t, time.Minute), tsc, append([]string{"--target", "es2022", "--module", "es2022", "--lib", "es2022,dom", "--skipDefaultLibCheck"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tsc %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	compile("--allowJs", "--checkJs", "--declaration", "--emitDeclarationOnly", "--outDir", "made", "kms.js")
	made, err := os.ReadFile(filepath.Join(dir, "made", "kms.d.ts"))
	must(t, err)
	// A class with private parts is like no other class.
	made = regexp.MustCompile(`(?m)^\s*#private;$`).ReplaceAll(made, nil)
	must(t, os.WriteFile(filepath.Join(dir, "made.d.ts"), made, 0o644))
	compile("--noEmit", "--strict", "types.ts")
}

// talk is a running talk.mjs.
type talk struct {
	t     *testing.T
	in    io.Writer
	lines chan talkLine
	done  func() error
}

// talkLine is a line that it prints: a change of state, that it is ready, or what came of it all.
type talkLine struct {
	User                 int
	State, Code, Version string
	Ready                bool
	Receipts             []talkMessage
	Unasked              []string
	Sockets              int
	Heard                []struct {
		Got       []talkMessage
		Truncated int
	}
}

type talkMessage struct {
	ID, Channel, Text string
	Seq               int64
	Logged            bool
}

func (s *story) startTalk(t *testing.T, ctx context.Context, args ...string) *talk {
	t.Helper()
	dir := testScripts(t)
	withWS(t, dir)
	cmd := s.node(ctx, dir, append([]string{"talk.mjs"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	k := &talk{t: t, in: in, lines: make(chan talkLine, 1000)}
	read := make(chan error, 1)
	go func() {
		defer close(k.lines)
		lines := json.NewDecoder(bufio.NewReader(out))
		for {
			var l talkLine
			if err := lines.Decode(&l); err != nil {
				read <- err
				return
			}
			k.lines <- l
		}
	}()
	k.done = func() error {
		if err := <-read; !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read what node prints: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%v: %s", err, said.String())
		}
		return nil
	}
	return k
}

// until reads on to the first line that will do.
func (k *talk) until(what string, do func(talkLine) bool) talkLine {
	k.t.Helper()
	for l := range k.lines {
		if l.State != "" {
			k.t.Logf("user %d is %s %s on %s", l.User, l.State, l.Code, l.Version)
		}
		if do(l) {
			return l
		}
	}
	k.t.Fatalf("the clients ended before %s: %v", what, k.done())
	return talkLine{}
}

// bothGo waits until both users went through these states, one after the other.
func (k *talk) bothGo(states ...string) {
	k.t.Helper()
	left := [][]string{slices.Clone(states), slices.Clone(states)}
	k.until("both were "+strings.Join(states, ", then "), func(l talkLine) bool {
		if l.State != "" && len(left[l.User]) > 0 && l.State == left[l.User][0] {
			left[l.User] = left[l.User][1:]
		}
		return len(left[0])+len(left[1]) == 0
	})
}

func (k *talk) tell(word string) {
	k.t.Helper()
	_, err := fmt.Fprintln(k.in, word)
	must(k.t, err)
}

// TestClientJS_losesNothing has two users of kms.js in a chat, over a deploy, a kill -9 of their UA process, and the retirement
// of their version: all that is sent meanwhile, by them and by users of both versions, arrives once and in order.
func TestClientJS_losesNothing(t *testing.T) {
	testkit.Need(t, "node")
	ctx := testContext(t, 2*time.Minute)
	s := testStory(t, ctx, "up", options{})
	const shout = "shout"
	must(t, s.game.call(ctx, "PUT", "channels/"+shout, map[string]any{"kind": "world", "history": "none"}, nil))
	tokens := make([]string, 2)
	for n, user := range []string{"fumi", "goro"} {
		var err error
		tokens[n], err = s.game.token(ctx, user, user)
		must(t, err)
	}
	k := s.startTalk(t, ctx, append([]string{s.front.base, tenant, lobby, shout}, tokens...)...)
	k.until("they were ready", func(l talkLine) bool { return l.Ready })
	chat := startChatter(s.aki, s.ben)
	defer chat.stop()

	other, err := s.anotherBuild("kms-2.0")
	must(t, err)
	_, err = s.must(ctx, nil, "deploy", other, "--message", "under kms.js")
	must(t, err)
	k.bothGo("moving", "connected")
	k.tell("hush") // nothing is promised of it over a crash
	time.Sleep(500 * time.Millisecond)

	status, err := s.awaitHealthy(ctx)
	must(t, err)
	var ua int
	for _, v := range status.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				if v.Name == "2.0" && set.State == "serving" && in.Role == "ua" {
					ua = in.PID
				}
			}
		}
	}
	must(t, killPID(ua))
	k.bothGo("waiting", "connected")
	chat.stop()
	time.Sleep(500 * time.Millisecond)
	receipts := append(s.aki.acks(), s.ben.acks()...)
	s.leave() // those who know no other version

	_, err = s.must(ctx, nil, "deploy", filepath.Join(s.builds, "kms-2.0"), "--as", "2.0-dragon")
	must(t, err)
	_, err = s.must(ctx, nil, "retire", "2.0", "--force", "--yes", "--message", "over to 2.0-dragon")
	must(t, err)
	k.bothGo("moving", "connected") // to the version that is left, before the old one goes
	k.tell("stop")
	end := k.until("they told what they heard", func(l talkLine) bool { return l.Heard != nil })
	must(t, k.done())
	s.holdTalk(t, ctx, end, receipts)
}

// holdTalk holds what was heard against what was acknowledged.
func (s *story) holdTalk(t *testing.T, ctx context.Context, end talkLine, receipts []receipt) {
	t.Helper()
	var order []string // of the talker's own
	shouts := 0
	for _, r := range end.Receipts {
		if r.Channel == lobby {
			receipts = append(receipts, receipt{id: r.ID, seq: r.Seq})
			order = append(order, r.ID)
		} else {
			shouts++
		}
	}
	for n, h := range end.Heard {
		j := &journal{}
		var own, heard []string
		for _, m := range h.Got {
			if m.Channel != lobby {
				heard = append(heard, m.ID)
				continue
			}
			j.got = append(j.got, message{id: m.ID, seq: m.Seq, text: m.Text})
			if slices.Contains(order, m.ID) {
				own = append(own, m.ID)
			}
		}
		if err := j.exactlyOnce(ctx, receipts); err != nil {
			t.Errorf("user %d: %v", n, err)
		}
		if !slices.Equal(own, order) {
			t.Errorf("user %d heard the talker's messages in another order than they were said in", n)
		}
		different := map[string]bool{}
		for _, id := range heard {
			different[id] = true
		}
		if len(heard) != shouts || len(different) != shouts {
			t.Errorf("user %d heard %d messages of a channel without history, %d different ones, of %d", n, len(heard), len(different), shouts)
		}
		if h.Truncated != 0 {
			t.Errorf("user %d was told %d times that something is missing", n, h.Truncated)
		}
	}
	t.Logf("%d messages, %d of them the talker's, %d without history; %d connections", len(receipts), len(order), shouts, end.Sockets)
	if want := []string{"1006", "1006"}; !slices.Equal(end.Unasked, want) {
		t.Errorf("connections ended without a replacement with %q, want only those of the kill: %q", end.Unasked, want)
	}
	if end.Version != "2.0-dragon" {
		t.Errorf("they ended on version %q", end.Version)
	}
	if len(order) < 20 || shouts < 2 {
		t.Errorf("only %d and %d messages were said", len(order), shouts)
	}
}

// TestClientJS_page runs the program that docs/client-js.md shows for Node, twice: the second goes on where the first one was.
func TestClientJS_page(t *testing.T) {
	text, err := os.ReadFile("../../docs/client-js.md")
	must(t, err)
	example := regexp.MustCompile("(?s)```js run\n(.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("the page has no program to run")
	}
	testkit.Need(t, "node")
	ctx := testContext(t, time.Minute)
	s := testStory(t, ctx, "up", options{})
	dir := testScripts(t)
	withWS(t, dir)
	program := strings.NewReplacer("https://chat.example.com", s.front.base, `"quest"`, strconv.Quote(tenant)).Replace(string(example[1]))
	must(t, os.WriteFile(filepath.Join(dir, "program.js"), []byte(program), 0o644))
	token, err := s.game.token(ctx, "hina", "ひな")
	must(t, err)
	for run, want := range [][]string{
		{"connecting", "connected", "in the lobby", "said, at its place", "not_joined", "stopped closed by this program"},
		{"connecting", "connected", "Ben: また", "said, at its place", "not_joined", "stopped closed by this program"},
	} {
		cmd := s.node(ctx, dir, "program.js")
		cmd.Env = append(cmd.Env, "TOKEN="+token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		rest := string(out)
		for _, line := range want {
			_, after, found := strings.Cut(rest, line)
			if !found {
				t.Fatalf("run %d does not print %q in its place:\n%s", run, line, out)
			}
			rest = after
		}
		s.ben.say("また")
		_, err = s.ben.acknowledged(ctx, "また")
		must(t, err)
	}
}
