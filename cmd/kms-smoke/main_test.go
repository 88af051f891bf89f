package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// testBuilds is the directory of kmsctl and the versions, built once and without the race detector: a fake build's parent is
// the real thing.
var testBuilds string

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeEnv); mode != "" {
		fakeBuild(mode)
		return
	}
	if text := os.Getenv(witnessEnv); text != "" {
		os.Exit(testify(text, os.Stdin, os.Stdout))
	}
	if os.Getenv(phonesEnv) != "" {
		os.Exit(bePhones())
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kmsbuilds")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for name, pkg := range map[string]string{"kmsctl": "cmd/kmsctl", "kms-1.0": "versions/v1_0", "kms-2.0": "versions/v2_0"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/kmsctl/kms/"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	testBuilds = dir
	return m.Run()
}

// testRig makes a rig that is torn down, and held against leaving anything behind, when the test ends.
func testRig(t *testing.T, o options) *rig {
	t.Helper()
	testkit.Need(t, "nginx")
	if o.ircd == "" {
		o.ircd = "inspircd"
	}
	testkit.Need(t, o.ircd)
	if o.builds == "" {
		o.builds = testBuilds
	}
	r, err := newRig(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && r.up != nil {
			t.Logf("the control plane's last words:\n%s", r.up.stderr.tail())
		}
		if err := r.close(); err != nil {
			t.Errorf("tearing down: %v", err)
		}
	})
	return r
}

// testContext ends the test's waiting, so that what it waits for is told instead of a timeout of the whole package.
func testContext(t *testing.T, within time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testStory brings a rig up as far as users in an open chat.
func testStory(t *testing.T, ctx context.Context, verb string, o options) *story {
	t.Helper()
	s := &story{rig: testRig(t, o), out: &report{}, progress: testLog{t}}
	must(t, s.start(ctx, verb))
	var err error
	if verb == "server" {
		for _, name := range []string{"kms-1.0", "kms-2.0"} {
			_, err = s.must(ctx, nil, "deploy", filepath.Join(testBuilds, name))
			must(t, err)
		}
	}
	_, err = s.awaitHealthy(ctx)
	must(t, err)
	s.bare = s.plain()
	s.front, err = s.secure()
	must(t, err)
	t.Cleanup(s.leave)
	must(t, s.settle(ctx))
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// builds are what each live version serves.
func builds(s *controlplane.Status) map[string]string {
	out := map[string]string{}
	for _, v := range s.Versions {
		if v.State == controlplane.Live {
			out[v.Name] = v.Build
		}
	}
	return out
}

func TestSmoke_allCombinations(t *testing.T) {
	testkit.Need(t, "nginx")
	for _, store := range []string{"sqlite", "mysql"} {
		for _, ircd := range []string{"inspircd", "ngircd"} {
			t.Run(store+"/"+ircd, func(t *testing.T) {
				testkit.Need(t, ircd)
				if store == "mysql" {
					testkit.MySQL(t) // is there a server?
				}
				var stdout, stderr bytes.Buffer
				code := run([]string{"--builds", testBuilds, "--store", store, "--ircd", ircd}, &stdout, &stderr)
				var got report
				if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || bytes.Count(stdout.Bytes(), []byte("\n")) != 1 {
					t.Fatalf("stdout is not one JSON line (%v): %s", err, stdout.Bytes())
				}
				if code != 0 || !got.OK || got.Error != "" {
					t.Fatalf("ended with %d: %s\n%s", code, stdout.Bytes(), stderr.Bytes())
				}
				if got.Store != store || got.IRCD != ircd || got.Acknowledged == 0 || got.APICalls == 0 || got.Seconds > within.Seconds() {
					t.Errorf("report %s", stdout.Bytes())
				}
				t.Logf("%s", stdout.Bytes())
			})
		}
	}
}

// TestSmoke_saysWhatFailed holds that a failed run is told as one and leaves nothing.
func TestSmoke_saysWhatFailed(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run([]string{"--builds", t.TempDir()}, &stdout, &stderr)
	var got report
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || code != 1 || got.OK || got.Error == "" {
		t.Errorf("ended with %d (%v): %s", code, err, stdout.Bytes())
	}
	_, home, _ := strings.Cut(stderr.String(), "bringing up KMS in ")
	home, _, _ = strings.Cut(home, "\n")
	if _, err := os.Stat(home); home == "" || !os.IsNotExist(err) {
		t.Errorf("left %q: %v", home, err)
	}
}
