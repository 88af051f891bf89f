package daemon

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestTrouble_onOneHost runs what leaves the host as it should be, one after the other on the same one.
func TestTrouble_onOneHost(t *testing.T) {
	h := newHost(t)
	h.up()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *host)
	}{
		{"a missing file is uploaded again", testMissingFile},
		{"a set that no slot leads to is drained", testTend},
		{"a warm set stops when its time is over or another takes its place", testWarmEnds},
		{"a restore keeps releases away", testRestoreAlone},
		{"a clock set back holds up no set", testClockSetBack},
		{"a build out of descriptors says so", testNoDescriptors},
		{"routing goes back to what it was", testRouteBack},
	} {
		t.Run(test.name, func(t *testing.T) {
			here := *h
			here.t = t
			test.run(t, &here)
		})
	}
}

// testMissingFile: the database knew the build, so nobody ever sent its file again.
func testMissingFile(t *testing.T, h *host) {
	b := h.otherBuild("lost")
	if err := os.Remove(h.config.Paths().Artifact(b.Digest)); err != nil {
		t.Fatal(err)
	}
	deploy := controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: b.Digest}
	_, err := h.client.Start(t.Context(), deploy)
	if e := controlplane.AsError(err); err == nil || e.Kind != controlplane.NotFound || !strings.Contains(e.Hint, "deploy PATH") {
		t.Errorf("deploy without the file: %v", err)
	}
	if known, err := h.client.Build(t.Context(), b.Digest); err != nil || !known.Missing {
		t.Errorf("the build is not told as missing: %+v, %v", known, err)
	}
	h.otherBuild("lost")
	if r := h.release(deploy); r.State != controlplane.ReleaseDone {
		t.Errorf("deploy after the upload: %+v", r.Error)
	}
}

// TestRollback_startsAnotherSetWhenTheWarmOneIsFrozen: it was chosen by what the last poll said.
func TestRollback_startsAnotherSetWhenTheWarmOneIsFrozen(t *testing.T) {
	h := newHost(t)
	h.up()
	before := h.version("2.0").Sets[0]
	h.release(controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: h.otherBuild("r").Digest})
	if err := unix.Kill(before.Instances[0].PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0"})
	unix.Kill(before.Instances[0].PID, unix.SIGCONT)
	v := h.version("2.0")
	if r.State != controlplane.ReleaseDone || v.Build != before.Build || v.Sets[0].ID == before.ID {
		t.Errorf("rollback: %+v, serves set %s", r.Error, v.Sets[0].ID)
	}
}

// TestSettle_retireIsFinishedAtOnce: one that was interrupted held up the start for half a minute, since nobody polled.
func TestSettle_retireIsFinishedAtOnce(t *testing.T) {
	h := newHost(t)
	h.up()
	before := h.version("1.0")
	h.stop()
	live := hostdb.Route{Version: "1.0", State: controlplane.Live, Stable: before.Sets[0].ID}
	h.plant(hostdb.Set{ID: live.Stable, Version: "1.0", Build: before.Build, State: controlplane.SetDraining},
		hostdb.Flight{Swapped: true, Before: live, Release: controlplane.Release{
			Kind: controlplane.KindRetire, Version: "1.0", Build: before.Build, State: controlplane.ReleaseRunning, Message: "moved",
			StartedAt: time.Now(), Steps: []controlplane.Step{}}},
		hostdb.Route{Version: "1.0", State: controlplane.Retired, Message: "moved"})
	began := time.Now()
	h.up()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the start took %s", took)
	}
	ledger, err := h.client.Releases(t.Context(), "1.0", 1)
	if err != nil || len(ledger) != 1 || ledger[0].State != controlplane.ReleaseDone || ledger[0].Kind != controlplane.KindRetire {
		t.Errorf("ledger: %+v, %v", ledger, err)
	}
	if v := h.version("1.0"); v.State != controlplane.Retired || len(v.Sets) != 0 || h.httpStatus("/ua/1.0/demo") != http.StatusGone {
		t.Errorf("after the restart: %+v", v)
	}
}

// TestSettle_ledgerTellsTheTruth: of a release that ended while the database was away, and of one killed before it began.
func TestSettle_ledgerTellsTheTruth(t *testing.T) {
	h := newHost(t)
	h.up()
	began, err := h.d.Store().PutRelease(t.Context(), store.Release{
		Version: "1.0", Build: h.version("1.0").Build, Kind: store.ReleaseDeploy, State: store.ReleaseRunning, Node: h.config.Node(), StartedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	build := h.version("2.0").Build
	h.stop()
	h.plant(hostdb.Set{ID: "sdeadbeef", Version: "2.0", Build: build, State: controlplane.SetStarting},
		hostdb.Flight{Release: controlplane.Release{Kind: controlplane.KindRollback, Version: "2.0", Build: build, State: controlplane.ReleaseDone,
			Message: "owed", StartedAt: time.Now(), FinishedAt: time.Now(), Steps: []controlplane.Step{}}})
	h.up()
	testkit.Eventually(t, 10*time.Second, "both entries are right", func() bool {
		killed, err := h.client.Release(t.Context(), began)
		owed, err2 := h.client.Releases(t.Context(), "2.0", 1)
		return err == nil && err2 == nil && killed.State == controlplane.ReleaseFailed && killed.Error != nil && owed[0].Message == "owed"
	})
	if left, err := h.d.host.Flights(); err != nil || len(left) != 0 {
		t.Errorf("flights are left: %+v, %v", left, err)
	}
}

// testRouteBack covers the names that a release had made live: one that was retired, and one never heard of.
func testRouteBack(t *testing.T, h *host) {
	h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRetire, Version: "1.0", Force: true, Message: "moved"})
	set := h.version("2.0").Sets[0].ID
	for version, want := range map[string]int{"1.0": http.StatusGone, "9.0": http.StatusNotFound} {
		h.d.mu.Lock()
		f := hostdb.Flight{Before: h.d.routes[version], Release: controlplane.Release{Version: version}}
		h.d.mu.Unlock()
		if err := h.d.route(hostdb.Route{Version: version, State: controlplane.Live, Stable: set}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.d.applyNginx(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.d.routeBack(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if got := h.httpStatus("/ua/" + version + "/demo"); got != want {
			t.Errorf("version %s answers %d, want %d", version, got, want)
		}
	}
	testkit.Eventually(t, 10*time.Second, "nginx has all of it, and is left alone", func() bool {
		r, err := h.client.NginxApply(t.Context())
		return err == nil && !r.Reloaded && r.Workers > 0
	})
	if v := h.version("1.0"); v.State != controlplane.Retired || v.Message != "moved" {
		t.Errorf("1.0 is %+v", v)
	}
	if v := h.version("9.0"); v.Name != "" {
		t.Errorf("9.0 is %+v", v)
	}
}

// testTend: such a set ran for ever.
func testTend(t *testing.T, h *host) {
	build := h.version("2.0").Build
	s, err := h.d.startSet(t.Context(), hostdb.Set{ID: "sabcdefgh", Version: "2.0", Build: build, State: controlplane.SetServing, StartedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "it is drained", func() bool { return h.d.stateOf(s) == controlplane.SetWarm })
	if v := h.version("2.0"); v.Sets[0].ID == s.ID || !v.Healthy {
		t.Errorf("the version suffered: %+v", v)
	}
}

// testWarmEnds: as long as a setting says, and one set a version.
func testWarmEnds(t *testing.T, h *host) {
	first := h.version("2.0").Sets[0].ID
	h.deploy(h.otherBuild("warm").Digest)
	second := h.d.setByID(h.version("2.0").Sets[0].ID)
	began := time.Now()
	h.deploy(h.otherBuild("warmer").Digest)
	testkit.Eventually(t, 20*time.Second, "the second set is warm in the place of the first", func() bool {
		return h.d.stateOf(second) == controlplane.SetWarm && h.setNamed(first).ID == ""
	})
	warm := h.config.Duration("warm")
	if until := h.setNamed(second.ID).WarmUntil; until.Before(began.Add(warm)) || until.After(time.Now().Add(warm)) {
		t.Errorf("it is warm until %s, want %s after %s", until, warm, began)
	}
	if err := h.d.updateSet(second, func(h *hostdb.Set) { h.WarmUntil = time.Now() }); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, "it has stopped", func() bool { return h.setNamed(second.ID).ID == "" })
}

// testClockSetBack: what was written before lies in the future then.
func testClockSetBack(t *testing.T, h *host) {
	before := h.version("2.0").Sets[0]
	h.deploy(h.otherBuild("clock").Digest)
	s := h.d.setByID(before.ID)
	day := time.Now().Add(24 * time.Hour)
	if err := h.d.updateSet(s, func(h *hostdb.Set) {
		h.State, h.DrainingSince, h.WarmUntil = controlplane.SetDraining, day, day.Add(time.Minute)
		h.Leaving = &hostdb.Leaving{Since: day, Deadline: day.Add(time.Minute)}
	}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "its drain ends", func() bool { return h.d.stateOf(s) == controlplane.SetWarm })
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if most := time.Now().Add(h.config.Duration("warm")); s.WarmUntil.After(most) || s.Leaving.Deadline.After(most) {
		t.Errorf("it is warm until %s, its deadline was %s", s.WarmUntil, s.Leaving.Deadline)
	}
}

// testNoDescriptors: a build that leaks them, or has more clients than it may open files, is told, serves whom it has, is not started
// again, and is well when it has some again.
func testNoDescriptors(t *testing.T, h *host) {
	script := "#!/bin/sh\nulimit -n 80\nexec " + filepath.Join(builds, "kms-2.0") + ` "$@"` + "\n"
	b, err := h.client.AddBuild(t.Context(), strings.NewReader(script), int64(len(script)), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := h.version("2.0").Build
	h.deploy(b.Digest)
	ua := h.version("2.0").Sets[0].Instances[0]
	early := h.visit("crowd", h.game("crowd"), "")
	if _, err := h.d.Store().CreateChannel(t.Context(), store.Channel{Tenant: "crowd", ID: "lobby", Kind: "world", History: "log"}); err != nil {
		t.Fatal(err)
	}
	early.says(t, "before")
	var crowd []net.Conn
	for range 100 { // the backlog holds those for which there is no descriptor
		c, err := net.Dial("unix", ua.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		crowd = append(crowd, c)
	}
	testkit.Eventually(t, 10*time.Second, "status and doctor tell of it", func() bool {
		v := h.version("2.0")
		found, err := h.client.Doctor(t.Context())
		told := false
		for _, f := range found {
			told = told || f.Check == "version 2.0" && f.Level == "error" && strings.Contains(f.Message, "80 is the limit") && strings.Contains(f.Fix, "kmsctl rollback 2.0")
		}
		return err == nil && told && !v.Healthy && strings.Contains(v.Sets[0].Instances[0].Problem, "80 is the limit")
	})
	early.says(t, "while nobody else can come")
	record, _, err := h.d.host.Process(h.version("2.0").Sets[0].ID + "/ua")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), adoptWithin)
	defer cancel()
	next, err := supervise.Adopt(ctx, record) // as a control plane does that comes back
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Client().Identify(ctx, &pb.IdentifyRequest{}); err != nil {
		t.Errorf("it cannot be adopted: %v", err)
	}
	next.Detach()
	for _, c := range crowd {
		c.Close()
	}
	testkit.Eventually(t, 10*time.Second, "it is well again", func() bool { return h.version("2.0").Healthy })
	if now := h.version("2.0").Sets[0].Instances[0]; now.PID != ua.PID || now.Restarts != 0 {
		t.Errorf("it was started again: %+v, was %+v", now, ua)
	}
	early.says(t, "afterwards")
	if r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0"}); r.State != controlplane.ReleaseDone {
		t.Errorf("rollback: %+v", r.Error)
	}
	if v := h.version("2.0"); v.Build != before || !v.Healthy {
		t.Errorf("after the rollback: %+v", v)
	}
}

// testRestoreAlone until it has ended, whatever its end.
func testRestoreAlone(t *testing.T, h *host) {
	file := filepath.Join(h.dir, "no-backup")
	if err := os.WriteFile(file, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.d.beginRestore(file); err != nil {
		t.Fatal(err)
	}
	_, err := h.client.Start(t.Context(), controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: h.otherBuild("m").Digest})
	if controlplane.AsError(err).Kind != controlplane.LeaseHeld {
		t.Errorf("a deploy during a restore: %v", err)
	}
	if err := h.client.Restore(t.Context(), file); controlplane.AsError(err).Kind != controlplane.LeaseHeld {
		t.Errorf("a second restore: %v", err)
	}
	h.d.endRestore()
	if err := h.client.Restore(t.Context(), file); err == nil {
		t.Error("a file that is no backup was restored")
	}
	testkit.Eventually(t, 10*time.Second, "both versions serve on the old store", func() bool {
		return h.version("1.0").Healthy && h.version("2.0").Healthy && h.epoch() != ""
	})
}

// TestInstance_noCrashLoopWhileTheStoreIsAway: nothing can start then, and nobody would start it when the store is back.
func TestInstance_noCrashLoopWhileTheStoreIsAway(t *testing.T) {
	in := &instance{}
	for range 20 {
		if wait, loop := in.crashed(true); loop || wait <= 0 {
			t.Fatalf("given up: wait %s, loop %t", wait, loop)
		}
	}
}

// TestListenPrivate_isOursFromTheFirstMoment replaces what a killed control plane left, too.
func TestListenPrivate_isOursFromTheFirstMoment(t *testing.T) {
	dir := testkit.ShortDir(t)
	path := filepath.Join(dir, "kms.sock")
	for range 2 {
		l, err := listenPrivate(filepath.Join(dir, "made"), path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}
