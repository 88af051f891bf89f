package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"kmsctl": main}) }

// TestScripts runs testdata/script. `kmsctl` is the real command in a process of its own; the control plane is a real API
// server over a real store with a fake daemon behind it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			home, stop, err := startFake()
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Setenv("KMS_HOME", home)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitCode, "width": maxWidth},
	})
}

// exitCode is `code N args...`: runs kmsctl and wants exit code N. Scripts that only want success use `exec kmsctl`.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: code N command args...")
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("cannot run %v: %v", args[1:], err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// maxWidth is `width N`: no line of the last stdout takes more than N cells.
func maxWidth(ts *testscript.TestScript, neg bool, args []string) {
	limit, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: width N")
	}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if w := cells.StringWidth(strings.TrimRight(line, "\n")); w > limit {
			ts.Fatalf("%d cells: %s", w, line)
		}
	}
}

// walk visits every command.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

func TestCommands_haveHelpAndExamples(t *testing.T) {
	n := 0
	walk(newRoot(newCLI(nil, io.Discard, io.Discard)), func(cmd *cobra.Command) {
		n++
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no help or no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Long) {
			if cells.StringWidth(strings.TrimRight(line, "\n")) > tableWidth {
				t.Errorf("the help of %s is too wide: %s", cmd.CommandPath(), line)
			}
		}
		if !strings.Contains(cmd.Example, "kmsctl") {
			t.Errorf("the example of %s does not name kmsctl", cmd.CommandPath())
		}
	})
	if n < 50 {
		t.Errorf("only %d commands", n)
	}
}

// TestCommands_examplesParse guards examples against flags and commands that are gone.
func TestCommands_examplesParse(t *testing.T) {
	walk(newRoot(newCLI(nil, io.Discard, io.Discard)), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			_, rest, found := strings.Cut(line, "kmsctl ")
			if !found {
				continue
			}
			words := strings.Fields(strings.Split(strings.Split(rest, "   ")[0], ")")[0])
			root := newRoot(newCLI(nil, io.Discard, io.Discard))
			target, left, err := root.Find(words)
			if err != nil || target == root {
				t.Errorf("example %q of %s names no command: %v", rest, cmd.CommandPath(), err)
				continue
			}
			for _, word := range left {
				name, isFlag := strings.CutPrefix(strings.Split(word, "=")[0], "--")
				if isFlag && target.Flags().Lookup(name) == nil && target.InheritedFlags().Lookup(name) == nil {
					t.Errorf("example %q of %s: no flag --%s", rest, cmd.CommandPath(), name)
				}
			}
		}
	})
}

// TestTable_fitsAndAligns draws names of every width and checks that columns begin below their titles.
func TestTable_fitsAndAligns(t *testing.T) {
	var out bytes.Buffer
	c := newCLI(nil, &out, io.Discard)
	c.output = "table"
	tb := table{columns: []column{{title: "NAME", flex: true}, {title: "KIND"}, {title: "N", right: true}, {title: "TEXT", flex: true}}}
	for i, name := range []string{"a", "日本語のとても長い名前がここに入ります・そして続く", "ｶﾅ", "e\u0301accent", "🎉ok", strings.Repeat("x", 64), "esc\x1b[2J\u202e"} {
		tb.rows = append(tb.rows, []string{name, "kind", fmt.Sprint(i * 1000), strings.Repeat("長", 40)})
	}
	if err := c.print(tb); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	at := cells.StringWidth(lines[0][:strings.Index(lines[0], "KIND")])
	for _, line := range lines {
		if w := cells.StringWidth(line); w > tableWidth {
			t.Errorf("%d cells: %s", w, line)
		}
		if strings.ContainsAny(line, "\x1b\u202e") {
			t.Errorf("a control character reaches the terminal: %q", line)
		}
		if i := strings.Index(line, "kind"); i >= 0 && cells.StringWidth(line[:i]) != at {
			t.Errorf("column begins at %d, want %d: %s", cells.StringWidth(line[:i]), at, line)
		}
	}
}

func TestColor_onlyOnATerminalAndNotUnwanted(t *testing.T) {
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	if !wantsColor(true, get) || wantsColor(false, get) {
		t.Error("colour must follow the terminal")
	}
	for _, name := range []string{"NO_COLOR", "TERM"} {
		env = map[string]string{name: map[string]string{"NO_COLOR": "1", "TERM": "dumb"}[name]}
		if wantsColor(true, get) {
			t.Errorf("colour although %s=%s", name, env[name])
		}
	}
	c := newCLI(nil, io.Discard, io.Discard)
	c.color = true
	if got, want := c.paint("2.0  live  no     lively"), "2.0  \x1b[32mlive\x1b[0m  \x1b[31mno\x1b[0m     lively"; got != want {
		t.Errorf("painted %q, want %q", got, want)
	}
}

// TestSteps_onATerminal: the step that runs is told, and its line is gone when it has ended or the telling has.
func TestSteps_onATerminal(t *testing.T) {
	var errs bytes.Buffer
	c := newCLI(nil, io.Discard, &errs)
	told := func() string {
		defer errs.Reset()
		return errs.String()
	}
	p := steps{c: c}
	runs := controlplane.Event{Step: &controlplane.Step{Name: "check", State: "running"}}
	if p.at(runs); told() != "" {
		t.Error("a log file is told what runs")
	}
	c.errTTY = true
	if p.at(runs); told() != "  check …" {
		t.Error("a terminal is not told what runs")
	}
	p.at(controlplane.Event{Step: &controlplane.Step{Name: "check", State: "done", Took: time.Second, Message: "fine"}})
	if text := told(); !strings.HasPrefix(text, "\r\x1b[K  check ") || !strings.HasSuffix(text, "  fine\n") {
		t.Errorf("a step that has ended: %q", text)
	}
	p.at(runs)
	told()
	if p.end(); told() != "\r\x1b[K" {
		t.Error("Ctrl-C leaves half a line")
	}
}

// TestProgress_ofAnUpload: nothing of what is over at once, then one line that is redrawn, or a line now and then in a log file.
func TestProgress_ofAnUpload(t *testing.T) {
	for _, tty := range []bool{true, false} {
		var errs bytes.Buffer
		now := time.Now()
		c := newCLI(nil, io.Discard, &errs)
		c.errTTY, c.now = tty, func() time.Time { return now }
		p := c.progress("uploading kms-2.0", 30<<20)
		for range 100 { // ten seconds
			now = now.Add(100 * time.Millisecond)
			p.at(int64(now.Sub(p.begun).Seconds() * (3 << 20)))
			if text := errs.String(); now.Sub(p.begun) < time.Second && text != "" {
				t.Errorf("too early: %q", text)
			}
		}
		p.end()
		text, lines := errs.String(), map[bool]int{true: 92, false: 2}[tty] // the last one clears the line
		start, end := map[bool]string{true: "\r\x1b[K"}[tty], map[bool]string{false: "\n"}[tty]
		if !strings.Contains(text, start+"uploading kms-2.0: 3.0M of 30M, 10%"+end) || strings.Count(text, start+end) != lines {
			t.Errorf("terminal %v: %d lines: %q", tty, strings.Count(text, start+end), text)
		}
	}
}

func TestText_agesAndSizes(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 5 * time.Second: "5s", 3 * time.Minute: "3m", 47 * time.Hour: "47h", 72 * time.Hour: "3d"} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 812: "812", 1000: "1.0K", 4200: "4.1K", 13 << 20: "13M", 1 << 40: "1.0T"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSettings_passwordsNeverOnTheCommandLine(t *testing.T) {
	for _, url := range []string{"mysql://kms:hush@db:3306/kms", "mysql://kms:hu%zz@db/kms", "mysql://kms:hu#sh@db/kms", "kms:hush@db"} {
		var errs bytes.Buffer
		code := run([]string{"config", "show", "--store", url}, os.Stdin, io.Discard, &errs)
		if code != 2 || strings.Contains(errs.String(), "hu") && strings.Contains(errs.String(), "@db") || !strings.Contains(errs.String(), "KMS_STORE") {
			t.Errorf("%s: code %d, %s", url, code, errs.String())
		}
	}
	if code := run([]string{"config", "show", "--store", "mysql://kms@db:3306/kms"}, os.Stdin, io.Discard, io.Discard); code != 0 {
		t.Errorf("a URL without a password: code %d", code)
	}
}

// TestList_isQuick holds DESIGN 11's 50 ms in part: nothing heavy may happen before a command runs. The whole process is
// measured by the benchmarks; here a generous bound catches a mistake.
func TestList_isQuick(t *testing.T) {
	home, stop, err := startFake()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	best := time.Hour
	for range 5 {
		begun := time.Now()
		if code := run([]string{"list", "--home", home}, os.Stdin, io.Discard, io.Discard); code != 0 {
			t.Fatalf("code %d", code)
		}
		best = min(best, time.Since(begun))
	}
	if best > 50*time.Millisecond {
		t.Errorf("list takes %s at best", best)
	}
}
