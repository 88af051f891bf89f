package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// badBuild is a file that must never serve.
type badBuild struct {
	name, path string
	says       []string // each stands in what kmsctl prints
}

func badBuilds(t *testing.T) []badBuild {
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "build")
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	real := filepath.Join(testBuilds, "kms-2.0")
	return []badBuild{
		{"not executable", file("this is no program\n", 0o755), []string{"not executable", "file PATH"}},
		{"for another machine", file("\x7fELF\x02\x01\x01\x00 and no more", 0o755), []string{"not executable"}},
		{"describes nothing", testScript(t, "echo hello"), []string{"not a build", "docs/writing-a-version.md"}},
		{"describe fails", testScript(t, "echo 'no licence' >&2; exit 3"), []string{"not a build", "exit status 3"}},
		{"bad version", testScript(t, `echo '{"version":"2.0;","label":"x","contract":1,"schema_min":1,"schema_max":1}'`), []string{"version"}},
		{"another contract", testScript(t, `echo '{"version":"2.0","label":"x","contract":99,"schema_min":1,"schema_max":1}'`),
			[]string{"contract version 99"}},
		{"another schema", testScript(t, `echo '{"version":"2.0","label":"x","contract":1,"schema_min":998,"schema_max":999}'`),
			[]string{"schema"}},
		{"not a plugin", testScript(t, describing+"echo 'hello, world'; exec sleep 60"), []string{"handshake", "hello, world"}},
		{"dies at once", testScript(t, describing+"echo 'cannot open the gate' >&2; exit 3"), []string{"exit status 3", "cannot open the gate"}},
		{"silent", testScript(t, describing+"exec sleep 60"), []string{"no handshake in time"}},
		{"refuses its configuration", testFake(t, "refuses"), []string{"refused its configuration", "the moon is in the wrong phase"}},
		{"never ready", testFake(t, "unready"), []string{"did not become ready", "moon is in the wrong phase"}},
		{"dies when asked to serve", testScript(t, describing+fmt.Sprintf(`[ "$1" = ua ] && exec %s ua; exit 4`, real)), []string{"exit status 4"}},
		{"fails its probe", testScript(t, fmt.Sprintf(`[ "$1" != probe ] && exec %s "$@"; echo 'nobody listens to me' >&2; exit 1`, real)),
			[]string{"probe", "nobody listens to me"}},
	}
}

// TestBadBuilds_keepTheOldOne deploys what cannot serve. Each ends with exit code 7 and a reason, and the build before goes on as
// if nothing had been: same processes, no connection closed, nothing left of the bad one.
func TestBadBuilds_keepTheOldOne(t *testing.T) {
	ctx := testContext(t, 100*time.Second)
	s := testStory(t, ctx, "up", options{})
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	closed := s.closed("")

	// The slow ones wait for time to run out, so both versions take theirs side by side; one version takes one at a time.
	slow := map[string]string{"silent": "1.0", "never ready": "2.0"}
	var side sync.WaitGroup
	for _, b := range badBuilds(t) {
		as, isSlow := slow[b.name]
		if isSlow {
			side.Go(func() { t.Run(b.name, func(t *testing.T) { deployBad(t, ctx, s, b, as) }) })
		}
	}
	side.Wait()
	for _, b := range badBuilds(t) {
		if _, isSlow := slow[b.name]; !isSlow {
			t.Run(b.name, func(t *testing.T) { deployBad(t, ctx, s, b, "2.0") })
		}
	}

	for _, flag := range []string{"--warm-up", "--check"} { // the operator's own commands
		b := badBuild{"fails its " + flag, another(t, filepath.Join(testBuilds, "kms-2.0")), []string{"exit status 3", "wrong phase", "2.0 still serves its old build"}}
		t.Run(b.name, func(t *testing.T) {
			deployBad(t, ctx, s, b, "2.0", flag, "echo 'the moon is in the wrong phase' >&2; exit 3")
		})
	}

	after, err := s.awaitHealthy(ctx)
	must(t, err)
	if want, got := pids(before), pids(after); !maps.Equal(want, got) {
		t.Errorf("pids %v, before %v", got, want)
	}
	if want, got := builds(before), builds(after); !maps.Equal(want, got) {
		t.Errorf("builds %v, before %v", got, want)
	}
	if now := s.closed(""); now != closed {
		t.Errorf("%d connections were closed", now-closed)
	}
	must(t, s.works(ctx, "after all of it"))
}

// another copies a build with a few bytes more: another digest, the same program.
func another(t *testing.T, build string) string {
	t.Helper()
	text, err := os.ReadFile(build)
	must(t, err)
	path := filepath.Join(t.TempDir(), "build")
	must(t, os.WriteFile(path, append(text, t.Name()...), 0o755))
	return path
}

func deployBad(t *testing.T, ctx context.Context, s *story, b badBuild, as string, args ...string) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	said, err := s.refused(ctx, 7, append([]string{"deploy", b.path, "--as", as, "--message", b.name}, args...)...)
	must(t, err)
	for _, want := range append(b.says, "kmsctl: hint:") {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	if n := strings.Count(said, "kmsctl: error:"); n != 1 {
		t.Errorf("it says %d errors: %s", n, said)
	}
}
