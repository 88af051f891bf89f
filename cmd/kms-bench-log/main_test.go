package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/testkit"
)

// testBuilds is the directory of kms-2.0, built once and without the race detector.
var testBuilds string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(insideEnv) != "" || os.Getenv(noiseEnv) != "" { // a part that wants a network or a process of its own
		return run(os.Args[1:], os.Stdout, os.Stderr)
	}
	dir, err := os.MkdirTemp("/tmp", "kmsblogbuild")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "kms-2.0"), "github.com/kmsctl/kms/versions/v2_0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	testBuilds = dir
	return m.Run()
}

// TestBenchLog_printsEveryFigure holds that all that is measured is printed, whatever the figures are on a machine that tests.
func TestBenchLog_printsEveryFigure(t *testing.T) {
	testkit.Need(t, "inspircd")
	testkit.MySQL(t) // is there a server?
	var stdout, stderr bytes.Buffer
	code := run([]string{"--builds", testBuilds, "--length", "500ms", "--senders", "20", "--crowd", "100"}, &stdout, &stderr)
	missed := 0
	got := map[string]figure.Figure{}
	for line := range bytes.Lines(stdout.Bytes()) {
		var f figure.Figure
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("not a figure: %s", line)
		}
		if got[f.Name] = f; !f.OK {
			missed++
		}
	}
	for _, name := range []string{
		"ack_p99_sqlite", "acknowledged_sqlite", "ack_p99_mariadb", "acknowledged_mariadb", "resume_log_reads", "resume_p99", "linked_p99",
	} {
		if got[name].Value <= 0 || got[name].Goal == "" {
			t.Errorf("%s is %+v: %s", name, got[name], stderr.Bytes())
		}
	}
	for _, name := range []string{"fairness_ack", "fairness_delivery"} { // which may be less than 0
		if got[name].Details["p99_alone_ms"] == nil || got[name].Goal == "" {
			t.Errorf("%s is %+v: %s", name, got[name], stderr.Bytes())
		}
	}
	if wanted := min(missed, 1); code != wanted {
		t.Errorf("ended with %d, %d goals missed: %s", code, missed, stderr.Bytes())
	}
	if f := got["resume_log_reads"]; !f.OK {
		t.Errorf("a crowd that resumes reads the log %v times", f.Value)
	}
}
