package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRestore_underClients takes a backup, goes on, and restores it: what came after is gone, clients of 2.0 are told that their
// place is, and chat goes on across versions.
func TestRestore_underClients(t *testing.T) {
	ctx := testContext(t, time.Minute)
	s := testStory(t, ctx, "up", options{})
	s.ben.say("kept")
	kept, err := s.ben.acknowledged(ctx, "kept")
	must(t, err)
	file := filepath.Join(t.TempDir(), "backup.db")
	_, err = s.must(ctx, nil, "backup", file)
	must(t, err)
	s.ben.say("forgotten")
	_, err = s.chie.receive(ctx, "forgotten")
	must(t, err)

	_, err = s.must(ctx, nil, "restore", file, "--yes", "--message", "as it was")
	must(t, err)
	must(t, s.chie.await(ctx, "that the place is gone", func() bool {
		return s.chie.open && len(s.chie.wrong) == 1 && strings.Contains(s.chie.wrong[0], "not resumed")
	}))
	status, err := s.awaitHealthy(ctx)
	must(t, err)
	if got := builds(status); len(got) != 2 {
		t.Errorf("serves %v", got)
	}
	must(t, s.aki.await(ctx, "1.0 back", func() bool { return s.aki.open && s.aki.moved == 1 }))
	s.aki.say("次の話")
	m, err := s.chie.receive(ctx, "次の話")
	must(t, err)
	if m.seq <= kept.seq {
		t.Errorf("the message after the restore has seq %d, one that was kept has %d", m.seq, kept.seq)
	}
	for _, c := range s.everyone() {
		if unasked, _ := c.seen().counts(); unasked > 0 {
			t.Error("the restore closed a connection without a word")
		}
	}
}
