package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// TestJournal_seesWhatMustNotBe holds the judge itself: a check that finds nothing would let everything pass.
func TestJournal_seesWhatMustNotBe(t *testing.T) {
	a, b := message{id: "A", text: "a", seq: 3}, message{id: "B", text: "b", seq: 5}
	receipts := []receipt{{"A", 3, "a"}, {"B", 5, "b"}}
	for name, c := range map[string]struct {
		got   []message
		wrong []string
		want  string
	}{
		"as it should be": {[]message{a, b}, nil, ""},
		"lost":            {[]message{a}, nil, "1 of 2 acknowledged messages never came"},
		"out of order":    {[]message{b, a}, nil, "came after 5"},
		"doubled":         {[]message{a, b, {id: "A", text: "a", seq: 6}}, nil, "came twice"},
		"elsewhere":       {[]message{a, {id: "B", text: "b", seq: 6}}, nil, "acknowledged at 5 and came at 6"},
		"seen by client":  {[]message{a, b}, []string{"not resumed"}, "not resumed"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			j := &journal{got: c.got, wrong: c.wrong}
			err := j.exactlyOnce(ctx, receipts)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("says %v, want %q", err, c.want)
			}
		})
	}
}

// TestLeftovers_seesProcessesAndSockets: by command line, working directory or an open file.
func TestLeftovers_seesProcessesAndSockets(t *testing.T) {
	home := testkit.ShortDir(t)
	r, err := newRig(options{home: home})
	must(t, err)
	if err := r.leftovers(); err != nil {
		t.Fatalf("an empty home: %v", err)
	}
	log, err := os.Create(filepath.Join(home, "log"))
	must(t, err)
	defer log.Close()
	by := map[string]*exec.Cmd{
		"command line":      exec.Command("sh", "-c", "sleep 60; : "+home),
		"working directory": exec.Command("sleep", "60"),
		"open file":         exec.Command("sleep", "60"),
	}
	by["working directory"].Dir = home
	by["open file"].Stderr = log
	for name, cmd := range by {
		must(t, cmd.Start())
		err := r.leftovers()
		if err == nil || !strings.Contains(err.Error(), "is left") {
			t.Errorf("a process with a %s of the home is not seen: %v", name, err)
		}
		must(t, r.sweep())
		_ = cmd.Wait() // killed
		if err := r.leftovers(); err != nil {
			t.Errorf("after the sweep: %v", err)
		}
	}
}
