package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsctl/kms/runtime/testkit"
)

// demoUser is a user of the tenant demo, as the chat page learns of it.
func (r *rig) demoUser(t *testing.T, f *front, version string) user {
	t.Helper()
	text, err := os.ReadFile(r.path("nginx", "web", "demo.json"))
	must(t, err)
	var page struct {
		Tenant, Channel string
		Users           []struct{ User, Token string }
	}
	must(t, json.Unmarshal(text, &page))
	u := page.Users[0]
	return user{f, version, page.Tenant, u.User, page.Channel, u.Token}
}

// TestUp_findsEverythingAsItWasLeft starts, changes something of everything, stops and starts again.
func TestUp_findsEverythingAsItWasLeft(t *testing.T) {
	ctx := testContext(t, time.Minute)
	s := &story{rig: testRig(t, options{}), out: &report{}, progress: testLog{t}}
	must(t, s.start(ctx, "up"))
	other, err := s.anotherBuild("kms-2.0")
	must(t, err)
	_, err = s.must(ctx, nil, "deploy", other, "--message", "not the one beside kmsctl")
	must(t, err)
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	f, err := s.secure()
	must(t, err)
	defer f.close()
	ben := newResuming(s.demoUser(t, f, "2.0"))
	ben.say("おやすみ")
	last, err := ben.acknowledged(ctx, "おやすみ")
	must(t, err)
	ben.close()

	code, err := s.stop(ctx)
	must(t, err)
	if code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
	if err := s.leftovers(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}

	must(t, s.start(ctx, "up"))
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	if want, got := builds(before), builds(after); len(got) != 2 || !maps.Equal(want, got) {
		t.Errorf("serves %v, before %v", got, want)
	}
	back := newResuming(s.demoUser(t, f, "2.0"))
	defer back.close()
	back.say("おはよう")
	first, err := back.acknowledged(ctx, "おはよう")
	must(t, err)
	if first.seq <= last.seq {
		t.Errorf("the message after the restart has seq %d, the one before had %d", first.seq, last.seq)
	}
	aki := newSimple(s.demoUser(t, f, "1.0"))
	defer aki.close()
	must(t, aki.await(ctx, "1.0 with the token of before", func() bool { return aki.open }))
	_, err = s.must(ctx, nil, "rollback", "2.0", "--message", "to the one beside kmsctl")
	must(t, err)
}

// TestUp_saysWhyItCannot holds each refusal to one sentence, a hint and its exit code, with nothing left running.
func TestUp_saysWhyItCannot(t *testing.T) {
	ctx := testContext(t, time.Minute)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	config := filepath.Join(t.TempDir(), "kms.yaml")
	must(t, os.WriteFile(config, []byte("htttp: 127.0.0.1:80\n"), 0o600))

	for name, c := range map[string]struct {
		args []string
		code int
		says string
		hint string
	}{
		"http port in use":     {[]string{"--http", taken.Addr().String()}, 1, taken.Addr().String(), "--http"},
		"https port in use":    {[]string{"--https", taken.Addr().String()}, 1, taken.Addr().String(), "--https"},
		"irc port in use":      {[]string{"--irc-listen", taken.Addr().String()}, 1, taken.Addr().String(), "--irc-listen"},
		"no nginx":             {[]string{"--nginx-program", "nginks"}, 1, `"nginks"`, "apt-get install nginx"},
		"no builds":            {[]string{"--builds", t.TempDir()}, 8, "no builds", "make build"},
		"unknown key":          {[]string{"--config", config}, 2, `"htttp"`, "config show"},
		"password in the open": {[]string{"--store", "mysql://kms:secret@127.0.0.1:1/kms"}, 2, "password", "KMS_STORE"},
		"home is a file":       {[]string{"--home", config}, 1, config, "--home"},
		"no such store":        {[]string{"--store", "postgres://x"}, 2, "postgres", "config"},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRig(t, options{})
			home := filepath.Join(t.TempDir(), "new")
			if strings.Contains(name, "port") {
				c.args = append(c.args, "--home", home)
			}
			said, err := r.refused(ctx, c.code, append([]string{"up"}, c.args...)...)
			must(t, err)
			if _, err := os.Stat(home); err == nil {
				t.Errorf("it has made %s", home)
			}
			expectRefusal(t, said, c.says, c.hint)
			if left := processesOf(r.home); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// expectRefusal wants one error that names the thing, and one hint.
func expectRefusal(t *testing.T, said, says, hint string) {
	t.Helper()
	var errs, hints []string
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(line, "kmsctl: error: "); ok {
			errs = append(errs, text)
		}
		if text, ok := strings.CutPrefix(line, "kmsctl: hint: "); ok {
			hints = append(hints, text)
		}
	}
	if len(errs) != 1 || !strings.Contains(errs[0], says) {
		t.Errorf("want one error that names %q: %s", says, said)
	}
	if len(hints) != 1 || !strings.Contains(hints[0], hint) {
		t.Errorf("want one hint that names %q: %s", hint, said)
	}
	if strings.Contains(said, "secret") {
		t.Errorf("it tells the password: %s", said)
	}
}

// TestUp_newerStore refuses a database that a later kmsctl has migrated.
func TestUp_newerStore(t *testing.T) {
	ctx := testContext(t, 30*time.Second)
	r := testRig(t, options{})
	must(t, r.start(ctx, "up"))
	if code, err := r.stop(ctx); err != nil || code != 0 {
		t.Fatalf("Ctrl-C ends it with %d: %v", code, err)
	}
	db, err := sql.Open("sqlite", "file:"+r.path("kms.db"))
	must(t, err)
	_, err = db.ExecContext(ctx, "INSERT INTO kms_schema (version_id, is_applied) VALUES (999, 1)")
	must(t, errors.Join(err, db.Close()))
	said, err := r.refused(ctx, 1, "up")
	must(t, err)
	expectRefusal(t, said, "999", "upgrade kmsctl")
	must(t, r.leftovers())
}

// TestUp_homeOfAnother refuses a home that a running control plane has, and leaves that one alone.
func TestUp_homeOfAnother(t *testing.T) {
	ctx := testContext(t, 30*time.Second)
	r := testRig(t, options{})
	must(t, r.start(ctx, "up"))
	before, err := r.awaitHealthy(ctx)
	must(t, err)
	for _, verb := range []string{"up", "server"} {
		said, err := r.refused(ctx, 4, verb)
		must(t, err)
		expectRefusal(t, said, r.home, "status")
	}
	after, err := r.awaitHealthy(ctx)
	must(t, err)
	if want, got := pids(before), pids(after); !maps.Equal(want, got) || before.PID != after.PID {
		t.Errorf("pids %v, before %v", got, want)
	}
}

// TestUp_longHome moves the sockets to a short directory, says so, and takes it away again.
func TestUp_longHome(t *testing.T) {
	ctx := testContext(t, 30*time.Second)
	home := filepath.Join(testkit.ShortDir(t), strings.Repeat("long-", 20))
	r := testRig(t, options{home: home})
	must(t, r.start(ctx, "up"))
	status, err := r.awaitHealthy(ctx)
	must(t, err)
	if strings.HasPrefix(status.Run, home) || len(status.Run) > 60 {
		t.Errorf("the run directory is %q", status.Run)
	}
	if said := r.up.stderr.bytes(); !strings.Contains(string(said), status.Run) {
		t.Errorf("it does not say that the sockets are in %q: %s", status.Run, said)
	}
	f, err := r.secure()
	must(t, err)
	defer f.close()
	ben := newResuming(r.demoUser(t, f, "2.0"))
	ben.say("遠くから")
	_, err = ben.acknowledged(ctx, "遠くから")
	must(t, err)
	ben.close()
	code, err := r.stop(ctx)
	must(t, err)
	if _, err := os.Stat(status.Run); code != 0 || err == nil {
		t.Errorf("after Ctrl-C (%d) %q is still there", code, status.Run)
	}
}

// TestServer_leavesAllRunning stops `kmsctl server` in order: nothing else stops, and the next one takes over, whatever died meanwhile.
func TestServer_leavesAllRunning(t *testing.T) {
	ctx := testContext(t, time.Minute)
	s := testStory(t, ctx, "server", options{})
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	closed := s.closed("")
	terminate := func() {
		t.Helper()
		ending, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if code, err := s.up.terminate(ending); err != nil || code != 0 {
			t.Errorf("SIGTERM ends it with %d: %v", code, err)
		}
	}
	terminate()
	must(t, s.works(ctx, "without a server"))
	must(t, s.start(ctx, "server"))
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	if want, got := pids(before), pids(after); !maps.Equal(want, got) {
		t.Errorf("pids %v, before %v", got, want)
	}
	must(t, s.works(ctx, "with the next server"))
	if now := s.closed(""); now != closed {
		t.Errorf("%d connections were closed", now-closed)
	}

	terminate()
	must(t, killPID(pids(after)["2.0 ua"]))
	must(t, s.start(ctx, "server"))
	again, err := s.awaitHealthy(ctx)
	must(t, err)
	want, got := pids(after), pids(again)
	if got["2.0 ua"] == want["2.0 ua"] {
		t.Error("what died while there was no server was not started again")
	}
	delete(want, "2.0 ua")
	delete(got, "2.0 ua")
	if !maps.Equal(want, got) {
		t.Errorf("the pids of the others are %v, were %v", got, want)
	}
	must(t, s.works(ctx, "after a death without a server"))
	s.leave()
	terminate()
	must(t, s.start(ctx, "up")) // whose end ends all of it
}
