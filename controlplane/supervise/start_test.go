package supervise

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestStart_identifiesAndStops(t *testing.T) {
	spec := testSpec(t, "normal")
	b, err := os.ReadFile(spec.Program)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	spec.Digest = hex.EncodeToString(sum[:])
	began := time.Now()
	p, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %s, the digest of %d bytes checked", time.Since(began), len(b))
	rec := p.Record()
	if rec.InstanceID == "" || rec.Protocol != plugin.Contract || rec.PID == 0 || rec.StartTicks == 0 || rec.BootID == "" {
		t.Errorf("incomplete record %+v", rec)
	}
	if s, err := readStat(rec.PID); err != nil || s.session != rec.PID {
		t.Errorf("the child is in session %d, want its own: %v", s.session, err)
	}
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", rec.PID)); string(comm) != "kms-ua\n" {
		t.Errorf("ps shows it as %q", comm)
	}
	if err := p.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if p.ExitState() != "exit status 0" {
		t.Errorf("ended with %q", p.ExitState())
	}
	expectEmpty(t, spec.Dir)
	if tail, _ := TailLog(spec.Log, 1); len(tail) != 1 || tail[0] != "beginning as normal" {
		t.Errorf("log ends with %q", tail)
	}
}

func TestStart_passesOnNoDescriptorAndNoSecret(t *testing.T) {
	leak, err := unix.Open("/etc/hostname", unix.O_RDONLY, 0) // as a shell or CI runner leaves them
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	if err := CloseInheritedFDs(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KMS_STORE", "mysql://kms:hunter2@127.0.0.1/kms")
	p := testStart(t, "normal")
	proc := fmt.Sprintf("/proc/%d/", p.Record().PID)

	if env, _ := os.ReadFile(proc + "environ"); strings.Contains(string(env), "hunter2") {
		t.Error("the child was given our environment")
	}
	links := map[string]string{}
	entries, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	pipes := map[string]int{}
	for _, e := range entries {
		links[e.Name()], _ = os.Readlink(proc + "fd/" + e.Name())
		if strings.HasPrefix(links[e.Name()], "pipe:") {
			pipes[links[e.Name()]]++
		}
	}
	for fd, to := range links {
		if strings.Contains(to, "hostname") || to == p.Record().Exe || strings.HasSuffix(to, ".test") {
			t.Errorf("descriptor %s leads to %s", fd, to)
		}
	}
	if links["0"] != "/dev/null" || !strings.HasSuffix(links["1"], "/ua.log") || !strings.HasSuffix(links["2"], "/ua.log") {
		t.Errorf("stdin, stdout, stderr are %s, %s, %s", links["0"], links["1"], links["2"])
	}
	for pipe, ends := range pipes {
		if ends != 2 { // both ends in the child: go-plugin's own; one end: ours, or another's
			t.Errorf("the child holds one end of %s", pipe)
		}
	}
}

func TestStart_saysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	plain, text := filepath.Join(dir, "plain"), filepath.Join(dir, "text")
	if err := errors.Join(os.WriteFile(plain, []byte("x"), 0o644), os.WriteFile(text, []byte("no program"), 0o755)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, mode string
		change     func(*Spec)
		reason     BuildReason
		want       string
	}{
		{"dies at once", "dies", nil, DiedAtOnce, "exit status 3"},
		{"dies when asked who it is", "crashes", nil, DiedAtOnce, "exit status 4"},
		{"never becomes ready", "silent", nil, BadHandshake, "no handshake in time"},
		{"prints before the handshake", "chatty", nil, BadHandshake, `it printed "hello, this is my build" before the handshake`},
		{"listens elsewhere", "elsewhere", nil, BadHandshake, "PLUGIN_UNIX_SOCKET_DIR"},
		{"another contract", "contract", nil, "", "contract version 99, this control plane speaks [1]"},
		{"never says who it is", "mute", nil, "", ErrUnresponsive.Error()},
		{"another role", "normal", func(s *Spec) { s.Args = []string{"api"} }, "", `its role is "api"`},
		{"missing", "normal", func(s *Spec) { s.Program = dir + "/none" }, NotExecutable, "no such file"},
		{"no permission", "normal", func(s *Spec) { s.Program = plain }, NotExecutable, "-rw-r--r--"},
		{"a folder", "normal", func(s *Spec) { s.Program = dir }, NotExecutable, "executable file"},
		{"no program", "normal", func(s *Spec) { s.Program = text }, NotExecutable, "exec format error"},
		{"other bytes", "normal", func(s *Spec) { s.Digest = strings.Repeat("0", 64) }, WrongDigest, strings.Repeat("0", 64)},
		{"long directory", "normal", func(s *Spec) { s.Dir += strings.Repeat("x", 70) }, "", "shorter run directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := testSpec(t, tt.mode)
			spec.Within = 5 * time.Second
			if tt.mode == "silent" || tt.mode == "mute" {
				spec.Within = 700 * time.Millisecond
			}
			if tt.change != nil {
				tt.change(&spec)
			}
			began := time.Now()
			_, err := Start(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want %q in it", err, tt.want)
			}
			var be *BuildError
			if tt.reason != "" && (!errors.As(err, &be) || be.Reason != tt.reason) {
				t.Errorf("got error %#v, want reason %q", err, tt.reason)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("took %s", took)
			}
			if b, err := os.ReadFile(filepath.Dir(spec.Dir) + "/pid"); err == nil {
				pid, _ := strconv.Atoi(string(b))
				if alive(pid) {
					t.Errorf("pid %d was left running", pid)
				}
			}
			if left, _ := filepath.Glob(spec.Dir + "/*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestStart_showsTheLastLines(t *testing.T) {
	_, err := Start(t.Context(), testSpec(t, "dies"))
	var se *StartError
	if !errors.As(err, &se) || len(se.Tail) != 1 || se.Tail[0] != `cannot open store "x": no such thing\x1b[2J` {
		t.Fatalf("got error %#v", err)
	}
}

func TestStart_endsWithItsContext(t *testing.T) {
	spec := testSpec(t, "silent")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Start(ctx, spec); err == nil {
		t.Fatal("started")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestProgram_runsTheBytesThatWereChecked(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/build"
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho checked\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := openProgram(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.file.Close()
	if err := os.WriteFile(dir+"/other", []byte("#!/bin/sh\necho swapped\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/other", path); err != nil {
		t.Fatal(err)
	}
	if out, err := p.command(nil).Output(); err != nil || string(out) != "checked\n" {
		t.Errorf("got %q %v", out, err)
	}
}

func TestStop_neverHangs(t *testing.T) {
	for _, freeze := range []bool{true, false} {
		p := testStart(t, map[bool]string{true: "normal", false: "ignoresterm"}[freeze])
		if freeze {
			unix.Kill(p.Record().PID, unix.SIGSTOP)
		}
		began := time.Now()
		if err := p.Stop(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("frozen %v: took %s", freeze, took)
		}
		if !freeze && p.ExitState() != "signal: killed" {
			t.Errorf("ended with %q", p.ExitState())
		}
		expectGone(t, p.Record().PID)
	}
}

func TestStop_killsAtOnceWhenItsContextEnds(t *testing.T) {
	p := testStart(t, "ignoresterm")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := p.Stop(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func TestKill_takesAllDescendants(t *testing.T) {
	p := testStart(t, "children")
	family := Descendants(p.Record().PID)
	if len(family) != 2 {
		t.Fatalf("it has %d descendants, want 2", len(family))
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, r := range family { // one of them in a session of its own
		expectGone(t, r.PID)
	}
}

func TestExited_isSeenAtOnceAndTakesTheSessionAlong(t *testing.T) {
	p := testStart(t, "children")
	rec := p.Record()
	left := Leftovers(rec)
	for _, r := range Descendants(rec.PID) { // one of them left the session: out of reach once its parent is dead
		defer KillRecord(r)
	}
	if len(left) != 1 {
		t.Fatalf("%d others in its session, want 1", len(left))
	}
	began := time.Now()
	unix.Kill(rec.PID, unix.SIGKILL)
	expectExit(t, p.Exited())
	t.Logf("exit of our own child seen after %s", time.Since(began))
	if p.ExitState() != "signal: killed" {
		t.Errorf("ended with %q", p.ExitState())
	}
	expectGone(t, left[0].PID)
	testkit.Eventually(t, time.Second, "its socket is removed", func() bool {
		_, err := os.Stat(rec.Addr)
		return os.IsNotExist(err)
	})
}

// Right after an artifact was stored, a fork elsewhere in the control plane may hold it open for writing for a moment.
func TestStart_waitsOutTextFileBusy(t *testing.T) {
	exe, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/build"
	if err := os.WriteFile(path, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(20*time.Millisecond, func() { f.Close() }).Stop()
	_, err = Describe(t.Context(), path, "") // true prints no JSON, but it ran
	if err == nil || !strings.Contains(err.Error(), "no JSON object") {
		t.Errorf("got error %v", err)
	}
}

func TestProcess_leavesNoDescriptorBehind(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or the collector closes what we forgot
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	cycle := func() {
		p := testStart(t, "normal")
		p.Detach()
		a, err := Adopt(t.Context(), p.Record())
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Stop(t.Context(), 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), testSpec(t, "dies")); err == nil {
			t.Fatal("started")
		}
		if _, err := Start(t.Context(), testSpec(t, "chatty")); err == nil {
			t.Fatal("started")
		}
	}
	cycle()
	before := count()
	for range 3 {
		cycle()
	}
	testkit.Eventually(t, 5*time.Second, fmt.Sprintf("no more than %d descriptors are open", before), func() bool { return count() <= before })
}
