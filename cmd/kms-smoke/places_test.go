package main

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

// TestKill_pinsAndCanaries kills the control plane while a tenant is pinned and a canary runs: nobody is closed, every process keeps
// its pid, and the next control plane goes on with both, to their end.
func TestKill_pinsAndCanaries(t *testing.T) {
	ctx := testContext(t, 90*time.Second)
	s := testStory(t, ctx, "up", options{})
	held, err := s.serving(ctx, "2.0")
	must(t, err)
	other, err := s.anotherBuild("kms-2.0")
	must(t, err)
	var pin controlplane.Pin
	_, err = s.must(ctx, &pin, "pin", tenant, "2.0", "--build", held[:16], "--until", "1h")
	must(t, err)
	_, err = s.must(ctx, nil, "deploy", other) // the pinned tenant stays
	must(t, err)
	var canary controlplane.Canary
	_, err = s.must(ctx, &canary, "deploy", s.builds+"/kms-2.0", "--as", "2.0", "--canary", "99%")
	must(t, err)
	if canary.Set != pin.Set {
		t.Errorf("the canary runs on %s, the same build on %s", canary.Set, pin.Set)
	}
	before, err := s.awaitHealthy(ctx)
	must(t, err)
	closed := s.closed("")

	must(t, s.up.kill())
	must(t, s.works(ctx, "without a control plane"))
	must(t, s.start(ctx, "up"))
	after, err := s.awaitHealthy(ctx)
	must(t, err)
	if want, got := allPIDs(before), allPIDs(after); !maps.Equal(want, got) || len(got) < 6 {
		t.Errorf("pids %v, before the kill %v", got, want)
	}
	if now := placesOf(after); now != placesOf(before) || now == "" {
		t.Errorf("led elsewhere: %s, before the kill %s", now, placesOf(before))
	}
	must(t, s.works(ctx, "with the next control plane"))
	if now := s.closed(""); now != closed {
		t.Errorf("%d connections were closed", now-closed)
	}

	// Let go of, the clients move and resume; nobody is closed unasked.
	_, err = s.must(ctx, nil, "canary", "withdraw", "2.0")
	must(t, err)
	_, err = s.must(ctx, nil, "unpin", tenant, "2.0")
	must(t, err)
	must(t, s.ben.await(ctx, "that ben is told to move", func() bool { return s.ben.moved > 0 }))
	must(t, s.works(ctx, "after the unpin"))
	unasked, _ := s.ben.counts()
	if unasked > 0 {
		t.Errorf("%d connections of ben were closed unasked", unasked)
	}
}

// placesOf tells of the pins and canaries of a status.
func placesOf(s *controlplane.Status) (text string) {
	for _, v := range s.Versions {
		for _, p := range v.Pins {
			text += fmt.Sprintf("%s on %s to %s; ", p.Tenant, v.Name, p.Set)
		}
		if c := v.Canary; c != nil {
			text += fmt.Sprintf("%d%% of %s to %s; ", c.Percent, v.Name, c.Set)
		}
	}
	return text
}

// allPIDs is pids for versions of several sets.
func allPIDs(s *controlplane.Status) map[string]int {
	out := map[string]int{}
	for _, v := range s.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				out[in.Socket] = in.PID
			}
		}
	}
	return out
}
