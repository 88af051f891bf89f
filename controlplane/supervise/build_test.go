package supervise

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/plugin"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := t.TempDir() + "/build"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDescribe_readsABuild(t *testing.T) {
	path := script(t, `[ "$1" = describe ] && echo '{"version":"2.0-dragon","label":"竜 2.0.3","contract":1,"schema_min":1,"schema_max":3,"later":true}'`)
	d, err := Describe(t.Context(), path, "")
	if err != nil || d.Version != "2.0-dragon" || d.Label != "竜 2.0.3" || d.SchemaMax != 3 {
		t.Errorf("got %+v %v", d, err)
	}
}

func TestDescribe_refusesWhatIsNoBuild(t *testing.T) {
	answer := func(version, label, rest string) string {
		return `echo '{"version":"` + version + `","label":"` + label + `",` + rest + `}'`
	}
	const fine = `"contract":1,"schema_min":1,"schema_max":1`
	tests := []struct{ name, script, want string }{
		{"another program", "exit 0", "no JSON object of ours"},
		{"usage and an error", "echo 'usage: x' >&2; exit 2", "exit status 2"},
		{"prose", "echo hello", "no JSON object of ours"},
		{"a list", "echo '[]'", "no JSON object of ours"},
		{"another JSON", "echo '{}'", "names no contract version"},
		{"floods", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "more than 65536 bytes"},
		{"later contract", answer("1.0", "x", `"contract":2,"schema_min":1,"schema_max":1`), "contract version 2"},
		{"bad version", answer("1.0;}", "x", fine), "bad version"},
		{"bad label", answer("1.0", `\u001b[2J`, fine), "bad label"},
		{"bad schema range", answer("1.0", "x", `"contract":1,"schema_min":3,"schema_max":1`), "schema range 3 to 1"},
		{"bad role", answer("1.0", "x", fine+`,"roles":["../x"]`), "bad role"},
		{"no role of ours", answer("1.0", "x", fine+`,"roles":["cron"]`), "neither the role ua nor the role api"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Describe(t.Context(), script(t, tt.script), "")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
	var ce *plugin.ContractError
	if _, err := Describe(t.Context(), script(t, tests[6].script), ""); !errors.As(err, &ce) || ce.Got != 2 {
		t.Errorf("got error %#v", err)
	}
	var ne *names.Error
	if _, err := Describe(t.Context(), script(t, tests[7].script), ""); !errors.As(err, &ne) {
		t.Errorf("got error %#v", err)
	}
	var be *BuildError
	if _, err := Describe(t.Context(), script(t, tests[0].script), strings.Repeat("0", 64)); !errors.As(err, &be) || be.Reason != WrongDigest {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := Describe(t.Context(), t.TempDir()+"/none", ""); !errors.As(err, &be) || be.Reason != NotExecutable {
		t.Errorf("got error %#v", err)
	}
}

func TestDescribe_waitsForNoSleeper(t *testing.T) {
	began := time.Now()
	pidfile := t.TempDir() + "/pid"
	// It answers and leaves a child behind that holds the pipe.
	path := script(t, `echo '{"version":"1.0","label":"x","contract":1,"schema_min":1,"schema_max":1}'; sleep 1000 & echo $! >`+pidfile)
	if _, err := Describe(t.Context(), path, ""); err != nil {
		t.Error(err)
	}
	_, err := Describe(t.Context(), script(t, "sleep 1000"), "")
	if err == nil || !strings.Contains(err.Error(), "did not end within 5s") {
		t.Errorf("got error %v", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
	if pid := readPID(t, pidfile); alive(pid) {
		t.Errorf("pid %d was left running", pid)
	}
}

func TestProbe_handsOverTheTargetAndShowsTheLastLines(t *testing.T) {
	target := plugin.ProbeTarget{UA: "unix:/run/i/s1/ua.sock", Tenant: "_probe", Token: "secret"}
	path := script(t, `in=$(cat); echo "$in" | grep -q '"ua":"unix:/run/i/s1/ua.sock"' && echo "$in" | grep -q '"token":"secret"'`)
	if err := Probe(t.Context(), path, "", target); err != nil {
		t.Error(err)
	}
	err := Probe(t.Context(), script(t, `echo "login: 403" >&2; echo "giving up" >&2; exit 1`), "", target)
	var be *BuildError
	if !errors.As(err, &be) || be.Reason != ProbeFailed || strings.Join(be.Tail, "|") != "login: 403|giving up" {
		t.Errorf("got error %#v", err)
	}
}
