package supervise

import (
	"testing"
	"testing/synctest"
	"time"
)

func middle() float64 { return 0.5 }

func TestBackoff_doublesUpToItsMost(t *testing.T) {
	b := Backoff{First: time.Second, Max: 5 * time.Second, Limit: 9, Rand: middle}
	now := time.Now()
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		if wait, failed := b.Crashed(now); failed || wait != want*time.Second {
			t.Errorf("crash %d: wait %s, failed %v, want %s", i+1, wait, failed, want*time.Second)
		}
	}
	b.Reset()
	if wait, _ := b.Crashed(now); wait != time.Second {
		t.Errorf("after a reset: wait %s", wait)
	}
}

func TestBackoff_jitters(t *testing.T) {
	now := time.Now()
	low, _ := (&Backoff{First: time.Second, Rand: func() float64 { return 0 }}).Crashed(now)
	high, _ := (&Backoff{First: time.Second, Rand: func() float64 { return 1 }}).Crashed(now)
	if low != 800*time.Millisecond || high != 1200*time.Millisecond {
		t.Errorf("waits from %s to %s", low, high)
	}
	seen := map[time.Duration]bool{}
	for range 20 {
		wait, _ := (&Backoff{}).Crashed(now)
		seen[wait] = true
	}
	if len(seen) < 2 {
		t.Error("all wait the same")
	}
}

func TestBackoff_callsALoopALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loop Backoff
		began := time.Now()
		for n := 1; ; n++ {
			wait, failed := loop.Crashed(time.Now())
			if failed {
				if n != 6 {
					t.Errorf("failed at crash %d", n)
				}
				break
			}
			time.Sleep(wait)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("a build that dies at once was tried for %s", took)
		}

		seldom := Backoff{Rand: middle}
		for range 50 {
			if wait, failed := seldom.Crashed(time.Now()); failed || wait != 200*time.Millisecond {
				t.Fatalf("a crash every two minutes: wait %s, failed %v", wait, failed)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

func TestBackoff_clockSetBack(t *testing.T) {
	b := Backoff{Limit: 2, Rand: middle}
	now := time.Unix(1_800_000_000, 0)
	b.Crashed(now)
	b.Crashed(now)
	if _, failed := b.Crashed(now.Add(-time.Hour)); failed {
		t.Error("crashes of the future count")
	}
}
