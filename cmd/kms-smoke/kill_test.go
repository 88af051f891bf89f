package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/testkit"
)

// backWithin bounds a restart after a first crash: 200 ms of backoff, the start, and what waits for the next poll or login.
const backWithin = 10 * time.Second

// TestKill_everyPart kills the control plane, then each process of each version, nginx and the IRC server while users of 1.0 and
// 2.0 chat. Each time the service is back by itself, status and list have told so, and in the end nothing acknowledged is lost,
// doubled or out of order.
func TestKill_everyPart(t *testing.T) {
	t.Run("sqlite and inspircd", func(t *testing.T) { killEveryPart(t, options{ircd: "inspircd"}) })
	t.Run("mysql and ngircd", func(t *testing.T) { killEveryPart(t, options{ircd: "ngircd", store: testkit.MySQL(t)}) })
}

func killEveryPart(t *testing.T, o options) {
	ctx := testContext(t, 90*time.Second)
	s := testStory(t, ctx, "up", o)
	chat, posts := startChatter(s.aki, s.ben), startCalls(s.game, lobby)
	defer chat.stop()
	defer posts.stop()

	for _, victim := range []string{"1.0 ua", "2.0 api"} { // children of the control plane that watches them
		t.Run(victim, func(t *testing.T) { killPart(t, ctx, s, victim) })
	}
	t.Run("control plane", func(t *testing.T) { killControlPlane(t, ctx, s) })
	for _, victim := range []string{"2.0 ua", "1.0 api", "nginx", "irc"} { // adopted
		t.Run(victim, func(t *testing.T) { killPart(t, ctx, s, victim) })
	}

	chat.stop()
	posted, _, _ := posts.stop() // those under way when a part died were refused
	receipts := append(append(posted, s.aki.acks()...), s.ben.acks()...)
	await, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.chie.exactlyOnce(await, receipts); err != nil {
		t.Error(err)
	}
	for _, c := range s.everyone() {
		if err := c.seen().violations(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d messages acknowledged", len(receipts))
}

// killControlPlane: nobody notices, and the next one takes over every process.
func killControlPlane(t *testing.T, ctx context.Context, s *story) {
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	closed := s.closed("")
	must(t, s.up.kill())
	if _, err := s.status(ctx); err == nil {
		t.Error("status answers without a control plane")
	}
	must(t, s.works(ctx, "without a control plane"))
	began := time.Now()
	must(t, s.start(ctx, "up"))
	t.Logf("back after %s", time.Since(began).Round(time.Millisecond))
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	if want, got := pids(before), pids(after); !maps.Equal(want, got) {
		t.Errorf("pids %v, before the kill %v", got, want)
	}
	must(t, s.works(ctx, "with the next control plane"))
	if now := s.closed(""); now != closed {
		t.Errorf("%d connections were closed", now-closed)
	}
}

// killPart kills one process and watches what status and list say until all is well again.
func killPart(t *testing.T, ctx context.Context, s *story, victim string) {
	ctx, cancel := context.WithTimeout(ctx, backWithin)
	defer cancel()
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	pid := pids(before)[victim]
	if pid == 0 {
		t.Fatalf("there is no %q in %v", victim, pids(before))
	}
	closed := s.closed(victim)
	began := time.Now()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	complaint, seen, err := s.awaitComplaint(ctx, victim, pid)
	must(t, err)
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	back := time.Since(began)
	must(t, s.works(ctx, "after the death of "+victim))
	t.Logf("status after %s: %s healthy after %s, works after %s", seen.Round(time.Millisecond), complaint,
		back.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))

	want, got := pids(before), pids(after)
	if got[victim] == pid || got[victim] == 0 {
		t.Errorf("%s has pid %d, had %d", victim, got[victim], pid)
	}
	delete(want, victim)
	delete(got, victim)
	if !maps.Equal(want, got) {
		t.Errorf("the pids of the others are %v, were %v", got, want)
	}
	if now := s.closed(victim); now != closed {
		t.Errorf("%d connections were closed that did not end there", now-closed)
	}
}

// lieWithin is how long status may still show a process that is dead.
const lieWithin = 500 * time.Millisecond

// awaitComplaint waits until status calls the victim unwell, and list the version if it belongs to one. An instance may be back
// within 300 ms, so this asks without starting a program each time: the API that kmsctl asks, for the same.
func (s *story) awaitComplaint(ctx context.Context, victim string, pid int) (complaint string, after time.Duration, err error) {
	k := api.Dial(s.path("run", "kms.sock"))
	defer k.Close()
	version, _, isVersion := strings.Cut(victim, " ")
	listed := !isVersion
	killed := time.Now()
	for complaint == "" || !listed {
		asked := time.Now()
		status, err := k.Status(ctx)
		if err != nil {
			return "", 0, fmt.Errorf("%s: status %q, list %v: %w", victim, complaint, listed, err)
		}
		if text := unhealthy(status, nil); complaint == "" && strings.Contains(text, victim+" is ") {
			complaint, after = text, time.Since(killed)
		}
		if pids(status)[victim] == pid && asked.Sub(killed) > lieWithin {
			return "", 0, fmt.Errorf("status shows pid %d of %s %s after its death", pid, victim, asked.Sub(killed))
		}
		list, err := k.Versions(ctx)
		if err != nil {
			return "", 0, err
		}
		for _, v := range list {
			listed = listed || v.Name == version && !v.Healthy
		}
		pause(ctx, 5*time.Millisecond)
	}
	return complaint, after, nil
}

// works has a message of each version reach the other, and one of the game server reach both. A 1.0 message may fall into a
// connection that dies, and a call to an API that is not back yet is refused: those try again.
func (s *story) works(ctx context.Context, when string) error {
	text := "2.0 " + when
	s.ben.say(text)
	if _, err := s.chie.receive(ctx, text); err != nil {
		return err
	}
	for n := 0; ; n++ {
		text := fmt.Sprintf("1.0 %s %d", when, n)
		s.aki.say(text)
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := s.aki.acknowledged(attempt, text)
		cancel()
		if err == nil {
			if _, err = s.chie.receive(ctx, text); err != nil {
				return err
			}
			break
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return s.posts(ctx, "game server "+when)
}

func (s *story) posts(ctx context.Context, text string) error {
	for {
		_, err := s.game.post(ctx, lobby, text)
		if err == nil {
			break
		}
		if !pause(ctx, 50*time.Millisecond) {
			return err
		}
	}
	_, err := s.chie.receive(ctx, text)
	return err
}

// closed counts the connections that have ended so far, but for those to one UA, as "1.0 ua".
func (s *story) closed(but string) int {
	n := 0
	for _, c := range s.everyone() {
		if strings.TrimSuffix(but, " ua") == c.on() {
			continue
		}
		unasked, moved := c.seen().counts()
		n += unasked + moved
	}
	return n
}

// terminate is what systemd does.
func (d *daemon) terminate(ctx context.Context) (int, error) { return d.signal(ctx, syscall.SIGTERM) }

func killPID(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }
