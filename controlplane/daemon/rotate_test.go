package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRemoveOldLogs_leavesWhatMayBeAskedFor: what runs, and the last sets that are gone, unless that is long ago.
func TestRemoveOldLogs_leavesWhatMayBeAskedFor(t *testing.T) {
	d := newLedger(t)
	keep, now := d.cfg.Int("gc.keep"), time.Now()
	d.home = &home{Paths: d.cfg.Paths()}
	d.sets["saaaaaaaa"] = &set{}
	logged := func(version, set string, age time.Duration) string {
		t.Helper()
		path := d.home.Log(version, set, "ua")
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("said"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stays := map[string]bool{
		logged("2.0", "saaaaaaaa", 90*24*time.Hour):      true, // runs
		logged("2.0", "notaset", 90*24*time.Hour):        true,
		logged("strange/2.0", "sb2222222", time.Hour):    true,
		logged("3.0", "sb2222222", keepLogs-time.Hour):   true, // another version's
		logged("3.0", "sc2222222", keepLogs+time.Minute): false,
	}
	for i := range keep + 2 {
		stays[logged("2.0", "sb222222"+string(rune('a'+i)), time.Duration(i)*time.Minute)] = i < keep
	}
	if err := d.removeOldLogs(now); err != nil {
		t.Fatal(err)
	}
	for path, want := range stays {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: stays %v, want %v", path, err == nil, want)
		}
	}
}
