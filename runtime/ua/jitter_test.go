package ua

import (
	"testing"
	"time"
)

// TestJitter_spreads: clients that are told to move one after the other come back in no step with anybody's timers.
func TestJitter_spreads(t *testing.T) {
	const interval = 100 * time.Millisecond
	least, most, sum := time.Hour, time.Duration(0), time.Duration(0)
	for range 1000 {
		d := jitter(interval)
		least, most, sum = min(least, d), max(most, d), sum+d
	}
	if least < 75*time.Millisecond || most > 125*time.Millisecond || most-least < 30*time.Millisecond {
		t.Errorf("from %s to %s", least, most)
	}
	if mean := sum / 1000; mean < 95*time.Millisecond || mean > 105*time.Millisecond {
		t.Errorf("%s on average, want %s", mean, interval)
	}
}
