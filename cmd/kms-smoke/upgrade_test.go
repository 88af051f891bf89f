package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

// TestUpgrade_underLoad replaces kmsctl's binary, and the control plane with it, in the middle of a deploy while users chat and a game
// server calls: every process keeps its pid, nothing is lost or refused, and the deploy goes on.
func TestUpgrade_underLoad(t *testing.T) {
	for name, end := range map[string]func(*daemon, context.Context) error{
		"stopped in order": func(d *daemon, ctx context.Context) error {
			_, err := d.terminate(ctx)
			return err
		},
		"killed": func(d *daemon, _ context.Context) error { return d.kill() },
	} {
		t.Run(name, func(t *testing.T) { upgrade(t, end) })
	}
}

func upgrade(t *testing.T, end func(*daemon, context.Context) error) {
	ctx := testContext(t, 90*time.Second)
	programs := t.TempDir()
	for _, program := range []string{"kmsctl", "kms-1.0", "kms-2.0"} {
		must(t, copyProgram(filepath.Join(testBuilds, program), filepath.Join(programs, program), ""))
	}
	s := testStory(t, ctx, "server", options{builds: programs})
	chat, calls := startChatter(s.aki, s.ben), startCalls(s.game, lobby)
	defer chat.stop()
	defer calls.stop()
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	other, err := s.anotherBuild("kms-2.0")
	must(t, err)

	id := s.swapped(t, ctx, other)
	must(t, end(s.up, ctx))
	next := filepath.Join(programs, "kmsctl.next")
	must(t, copyProgram(filepath.Join(testBuilds, "kmsctl"), next, "another build"))
	must(t, os.Rename(next, filepath.Join(programs, "kmsctl")))
	must(t, s.start(ctx, "server"))
	running, err := os.Stat(filepath.Join("/proc", strconv.Itoa(s.up.cmd.Process.Pid), "exe"))
	must(t, err)
	if old, err := os.Stat(filepath.Join(testBuilds, "kmsctl")); err != nil || running.Size() == old.Size() {
		t.Errorf("the same binary runs: %d bytes, %v", running.Size(), err)
	}
	k := api.Dial(filepath.Join(s.runDir(), "kms.sock"))
	defer k.Close()
	r, err := k.Follow(ctx, id, func(controlplane.Event) {})
	must(t, err)
	if r.State != controlplane.ReleaseDone {
		t.Errorf("the deploy is %s: %v", r.State, r.Error)
	}
	must(t, s.awaitMoved(ctx, r.Build))

	chat.stop()
	posted, failed, err := calls.stop()
	if failed > 0 {
		t.Errorf("%d API calls failed, the last: %v", failed, err)
	}
	must(t, s.account(ctx, posted))
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	now := allPIDs(after)
	maps.DeleteFunc(now, func(socket string, _ int) bool { return allPIDs(before)[socket] == 0 }) // the new set's
	if was := allPIDs(before); !maps.Equal(now, was) {
		t.Errorf("pids %v, before %v", now, was)
	}
	s.leave()
	ending, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = s.up.terminate(ending)
	must(t, err)
	must(t, s.start(ctx, "up")) // whose end ends all of it
}

// swapped begins a deploy and returns its number as soon as the slot leads to the new set.
func (s *story) swapped(t *testing.T, ctx context.Context, build string) (id int64) {
	t.Helper()
	k := api.Dial(filepath.Join(s.runDir(), "kms.sock"))
	defer k.Close()
	file, err := os.Open(build)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	b, err := k.AddBuild(ctx, file, info.Size(), nil)
	must(t, err)
	r, err := k.Start(ctx, controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: b.Digest, Message: "test"})
	must(t, err)
	seen := errors.New("seen")
	err = k.Events(ctx, controlplane.EventQuery{Release: r.ID, Follow: true}, func(e controlplane.Event) error {
		if e.Step != nil && e.Step.Name == "swap" && e.Step.State == "done" {
			return seen
		}
		return nil
	})
	if !errors.Is(err, seen) {
		t.Fatalf("release %d ended before it swapped: %v", r.ID, err)
	}
	return r.ID
}

// copyProgram copies a program with something behind its end, which an ELF file does not mind.
func copyProgram(from, to, tail string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		_, err = io.WriteString(out, tail)
	}
	return errors.Join(err, out.Close())
}
