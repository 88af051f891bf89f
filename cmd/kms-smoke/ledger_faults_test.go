//go:build ledgerfaults

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/ledgerfault"
)

// found is how a deliberate fault is found: with which store, after what, and what the ledger then says, in part.
type found struct {
	store string
	steps []step
	says  string // a regular expression
}

var findings = map[ledgerfault.Fault]found{
	ledgerfault.AckBeforeCommit: {"sqlite", []step{twoUA(time.Second), twoUA(2 * time.Second), twoUA(2 * time.Second), twoUA(2 * time.Second), twoUA(2 * time.Second)}, "acknowledged and not in the log|in the place of"},
	ledgerfault.AckRolledBack: {"mysql", []step{
		{time.Second, "kill", "store", time.Second}, {2 * time.Second, "kill", "store", time.Second},
	}, "acknowledged and not in the log"},
	ledgerfault.AckFailedRetry: {"sqlite", []step{{time.Second, "hold", "store", 3 * time.Second}}, "acknowledged "},
	ledgerfault.NoDedup: {"sqlite", []step{ // acknowledgements stay in nginx, and end there
		{time.Second, "freeze", "worker", 3 * time.Second}, {1500 * time.Millisecond, "kill", "worker", 0}, {time.Second, "reload", "nginx", 0},
	}, "twice"},
	ledgerfault.NoOrder:         {"sqlite", []step{{5 * time.Second, "kill", "irc", 0}, {2 * time.Second, "freeze", "irc", time.Second}}, " came after "},
	ledgerfault.NoGapCheck:      {"sqlite", []step{{time.Second, "kill", "irc", 0}, {3 * time.Second, "reload", "nginx", 0}}, " came after "},
	ledgerfault.NoHeal:          {"sqlite", []step{{time.Second, "kill", "irc", 0}}, "never received"},
	ledgerfault.LateLineTwice:   {"sqlite", []step{{time.Second, "freeze", "irc", 3 * time.Second}, {4 * time.Second, "reload", "nginx", 0}}, " came after "},
	ledgerfault.NoHeadCheck:     {"sqlite", []step{{time.Second, "reload", "nginx", 0}}, "never received"},
	ledgerfault.ResumeOffByOne:  {"sqlite", []step{twoUA(time.Second), twoUA(2 * time.Second)}, " came after "},
	ledgerfault.RingNotRebuilt:  {"sqlite", []step{twoUA(time.Second), twoUA(2 * time.Second)}, " came after "},
	ledgerfault.ChangeNotStored: {"sqlite", []step{{2 * time.Second, "reload", "nginx", 0}, {3 * time.Second, "reload", "nginx", 0}}, "after a change to"},
	ledgerfault.GameChangeLost:  {"sqlite", []step{{2 * time.Second, "reload", "nginx", 0}, {3 * time.Second, "reload", "nginx", 0}}, "after a change to"},
	ledgerfault.PurgeUnsaid:     {"sqlite", []step{{time.Second, "purge", "plaza", 0}}, " came after "},
	ledgerfault.PurgeTooMuch:    {"mysql", []step{{time.Second, "purge", "plaza", 0}}, "the log has .* in place"},
	ledgerfault.EpochsKept:      {"sqlite", restoreSteps, "the epoch is that of before|is not resumed|still in epoch"},
	ledgerfault.UnloggedTwice:   {"sqlite", []step{{2 * time.Second, "reload", "nginx", 0}}, "twice on connection"},
	ledgerfault.UnloggedOrder:   {"sqlite", []step{{8 * time.Second, "reload", "nginx", 0}}, "after what was said later"},
	ledgerfault.LiveTooLate:     {"sqlite", []step{twoUA(time.Second), {3 * time.Second, "reload", "nginx", 0}}, " came after "},
}

func twoUA(after time.Duration) step { return step{after, "kill", "2.0 ua", 0} }

// tries is in how many runs a fault has to be found: most show only on a message that is under way at the right moment.
const tries = 3

// TestLedgerFaults_eachIsFound runs every deliberate fault for a few seconds and wants the ledger test to find it.
func TestLedgerFaults_eachIsFound(t *testing.T) {
	builds := t.TempDir()
	for name, pkg := range map[string]string{"kmsctl": "cmd/kmsctl", "kms-1.0": "versions/v1_0", "kms-2.0": "versions/v2_0"} {
		build := exec.Command("go", "build", "-tags", "ledgerfaults", "-o", filepath.Join(builds, name), "github.com/kmsctl/kms/"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("cannot build %s: %v\n%s", name, err, out)
		}
	}
	if want, got := ledgerfault.All(), slices.Collect(maps.Keys(findings)); len(want) != len(got) {
		t.Errorf("%d faults, %d ways to find one", len(want), len(got))
	}
	for _, fault := range ledgerfault.All() {
		f := findings[fault]
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			says := regexp.MustCompile(f.says)
			faulty := faultyBuilds(t, builds, fault)
			seen := false
			for try := uint64(1); try <= tries && !seen; try++ {
				t.Run(fmt.Sprint("try ", try), func(t *testing.T) {
					wrong := runLedger(t, ledgerOptions{store: f.store, seed: try, steps: f.steps, builds: faulty, faulty: true, calm: !froze(f.steps)})
					seen = slices.ContainsFunc(wrong, func(v violation) bool { return says.MatchString(v.what) })
					t.Logf("found: %v; %d violations, the first: %q", seen, len(wrong), whats(wrong))
				})
			}
			if !seen {
				t.Errorf("in %d tries nothing said %q", tries, f.says)
			}
		})
	}
}

func froze(steps []step) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return s.what == "freeze" || s.what == "hold" })
}

// whats is what some violations say.
func whats(wrong []violation) (list []string) {
	for _, v := range wrong[:min(len(wrong), 5)] {
		list = append(list, v.what)
	}
	return list
}

// faultyBuilds is a directory of builds that have the fault.
func faultyBuilds(t *testing.T, builds string, fault ledgerfault.Fault) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"kmsctl", "kms-1.0", "kms-2.0"} {
		text, err := os.ReadFile(filepath.Join(builds, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), append(text, ledgerfault.Mark(fault)...), 0o755))
	}
	return dir
}
