package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func (h *host) collect(r controlplane.GCRequest) (gone, kept map[string]string) {
	h.t.Helper()
	list, err := h.client.CollectBuilds(h.t.Context(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	gone, kept = map[string]string{}, map[string]string{}
	for _, b := range list {
		if b.Kept == "" {
			gone[b.Build] = b.Version
		} else {
			kept[b.Build] = b.Kept
		}
	}
	return gone, kept
}

func TestCollectBuilds_leavesWhatAnybodyNeeds(t *testing.T) {
	h := newHost(t)
	h.up()
	ctx := t.Context()
	h.game("dragon")
	first := h.version("2.0").Build
	warm, pinned, canary, unused, last := h.otherBuild("1"), h.otherBuild("2"), h.otherBuild("3"), h.otherBuild("4"), h.otherBuild("5")
	h.deploy(warm.Digest)
	h.deploy(first)
	if _, err := h.client.Pin(ctx, controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: pinned.Digest}); err != nil {
		t.Fatal(err)
	}
	h.canary(canary.Digest, 10)
	strange := filepath.Join(h.config.Paths().Artifacts(), strings.Repeat("0", 64))
	if err := os.WriteFile(strange, []byte("of no build"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{unused.Digest: "2.0", filepath.Base(strange): ""}
	for _, dry := range []bool{true, false} {
		gone, kept := h.collect(controlplane.GCRequest{Keep: 1, DryRun: dry})
		if len(gone) != len(want) || gone[unused.Digest] != "2.0" {
			t.Errorf("dry %v: gone %v", dry, gone)
		}
		for build, why := range map[string]string{first: "serving", warm.Digest: "for 2.0", pinned.Digest: "pinned", canary.Digest: "canary", last.Digest: "among the last 1 of 2.0"} {
			if !strings.Contains(kept[build], why) {
				t.Errorf("build %s is kept because %q, want %q", build[:12], kept[build], why)
			}
		}
		for build := range want {
			if _, err := os.Stat(h.config.Paths().Artifact(build)); dry != (err == nil) {
				t.Errorf("dry %v: the file of %s: %v", dry, build[:12], err)
			}
		}
	}
	if _, err := h.client.Build(ctx, unused.Digest); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("the collected build is still known: %v", err)
	}
	trail, err := h.client.Audit(ctx, "2 of 8 builds", 5)
	if err != nil || len(trail) != 1 || trail[0].Action != "build gc" {
		t.Errorf("the audit trail says %+v, %v", trail, err)
	}
	if _, err := h.client.CollectBuilds(ctx, controlplane.GCRequest{Keep: -1}); controlplane.AsError(err).Kind != controlplane.Usage {
		t.Errorf("keeping less than nothing: %v", err)
	}
}

// TestCollectBuilds_leavesWhatWaits for its version's lease, or takes it over from what runs.
func TestCollectBuilds_leavesWhatWaits(t *testing.T) {
	d := newLedger(t)
	d.home = &home{Paths: d.cfg.Paths()}
	if err := os.MkdirAll(d.home.Artifacts(), 0o700); err != nil {
		t.Fatal(err)
	}
	stored := func(digit string) string {
		t.Helper()
		b := store.Build{Digest: strings.Repeat(digit, 64), Version: "2.0", Size: 1}
		if err := errors.Join(os.WriteFile(d.home.Artifact(b.Digest), []byte("x"), 0o500), d.Store().PutBuild(t.Context(), b)); err != nil {
			t.Fatal(err)
		}
		return b.Digest
	}
	deployed, pinned, canary, back, unused, last := stored("1"), stored("2"), stored("3"), stored("4"), stored("5"), stored("0")
	if _, err := d.Store().CreateTenant(t.Context(), store.Tenant{ID: "dragon"}); err != nil {
		t.Fatal(err)
	}
	takeOffNow(t, d, "2.0")
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	waiting.Go(func() {
		d.Start(ctx, controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: deployed, Wait: time.Hour})
	})
	waiting.Go(func() {
		d.Pin(ctx, controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: pinned, Wait: time.Hour})
	})
	waiting.Go(func() {
		d.Canary(ctx, controlplane.CanaryRequest{Version: "2.0", Build: canary, Percent: 10, Wait: time.Hour})
	})
	waiting.Go(func() {
		f := d.newFlight(hostdb.Flight{ID: "back", Release: controlplane.Release{Kind: controlplane.KindRollback, Version: "2.0", Build: back}})
		defer f.cancel(nil)
		d.claim(ctx, f, 0)
	})
	testkit.Eventually(t, 10*time.Second, "all four wait", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.queues["2.0"]) == 3 && d.flights["2.0"].successor != nil
	})
	list, err := d.CollectBuilds(t.Context(), controlplane.GCRequest{Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for _, b := range list {
		kept[b.Build] = b.Kept
	}
	want := map[string]string{
		deployed: "deploy of 2.0 waits for the lease", pinned: "pin of 2.0 waits for the lease", canary: "canary of 2.0 waits for the lease",
		back: "rollback of 2.0 waits for the lease", unused: "", last: "among the last 1 of 2.0",
	}
	if !maps.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if _, err := os.Stat(d.home.Artifact(deployed)); err != nil {
		t.Errorf("the file that a deploy waits to start: %v", err)
	}
}

func TestBuilds_onOneHost(t *testing.T) {
	h := newHost(t)
	h.up()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *host)
	}{
		{"a damaged file is found and put back", testDamagedBuild},
		{"an upload that is cut off leaves nothing", testCutUpload},
		{"a migration waits for builds that could not serve", testMigrationRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			here := *h
			here.t = t
			test.run(t, &here)
		})
	}
}

func testDamagedBuild(t *testing.T, h *host) {
	ctx := t.Context()
	b := h.otherBuild("whole")
	path := h.config.Paths().Artifact(b.Digest)
	if check, err := h.client.VerifyBuild(ctx, b.Digest[:12]); err != nil || !check.OK {
		t.Fatalf("a whole file: %+v, %v", check, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o750), os.WriteFile(path, text, 0o750)); err != nil {
		t.Fatal(err)
	}
	if check, err := h.client.VerifyBuild(ctx, b.Digest); err != nil || check.OK || !strings.Contains(check.Problem, "sha256") {
		t.Errorf("one bit is another: %+v, %v", check, err)
	}
	if known, err := h.client.Build(ctx, b.Digest); err != nil || !known.Missing {
		t.Errorf("the damaged build is not told as missing: %+v, %v", known, err)
	}
	h.otherBuild("whole")
	if check, err := h.client.VerifyBuild(ctx, b.Digest); err != nil || !check.OK {
		t.Errorf("after another upload: %+v, %v", check, err)
	}
	if _, err := h.client.VerifyBuild(ctx, strings.Repeat("0", 64)); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("an unknown build: %v", err)
	}
}

func testCutUpload(t *testing.T, h *host) {
	before, err := os.ReadDir(h.config.Paths().Artifacts())
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("half of it"), 100_000)
	cut := io.MultiReader(bytes.NewReader(text), errReader{})
	var progress int64
	if _, err := h.client.AddBuild(t.Context(), cut, int64(2*len(text)), func(n int64) { progress = n }); err == nil {
		t.Error("half an upload is a build")
	}
	if progress == 0 {
		t.Error("no progress was told")
	}
	testkit.Eventually(t, 5*time.Second, "nothing is left of it", func() bool {
		after, err := os.ReadDir(h.config.Paths().Artifacts())
		return err == nil && len(after) == len(before)
	})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

func testMigrationRefused(t *testing.T, h *host) {
	if err := h.d.mayMigrate(t.Context(), store.Schema); err != nil {
		t.Errorf("the schema there is: %v", err)
	}
	stored := h.otherBuild("only stored")
	err := h.d.mayMigrate(t.Context(), store.Schema+1)
	for _, version := range []string{"1.0", "2.0"} {
		if err == nil || !strings.Contains(err.Error(), h.version(version).Build[:12]) || !strings.Contains(err.Error(), version) {
			t.Errorf("a schema that no running build knows: %v", err)
		}
	}
	if err != nil && strings.Contains(err.Error(), stored.Digest[:12]) {
		t.Errorf("a build that is only stored holds it up: %v", err)
	}
}
