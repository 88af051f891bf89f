// Package figure is how the benches tell what they measured: one JSON line a figure, with its goal and whether it is met.
package figure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Figure is one line. A value that is not OK has missed its goal, or what it was measured on went wrong: Problem says which.
type Figure struct {
	Name    string             `json:"name"`
	Value   float64            `json:"value"`
	Unit    string             `json:"unit"`
	Goal    string             `json:"goal"` // empty: reported only
	OK      bool               `json:"ok"`
	Problem string             `json:"problem,omitempty"`
	Peers   map[string]float64 `json:"peers,omitempty"` // the same of others, in the same unit
	Details map[string]any     `json:"details,omitempty"`
}

// AtMost gives a figure its goal and judges it.
func (f Figure) AtMost(goal float64) Figure {
	f.Goal, f.OK = fmt.Sprintf("<= %g", goal), f.Value <= goal
	return f
}

// AtLeast is AtMost for what should be high.
func (f Figure) AtLeast(goal float64) Figure {
	f.Goal, f.OK = fmt.Sprintf(">= %g", goal), f.Value >= goal
	return f
}

// Sheet takes the figures of one run.
type Sheet struct {
	to     *json.Encoder
	missed int
}

// NewSheet prints to w.
func NewSheet(w io.Writer) *Sheet {
	s := &Sheet{to: json.NewEncoder(w)}
	s.to.SetEscapeHTML(false) // goals hold > and <
	return s
}

// Tell prints a figure. A value that is no number, as of a run without samples, misses every goal.
func (s *Sheet) Tell(f Figure) error {
	if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		f.Value, f.OK, f.Problem = 0, false, "nothing was measured"
	}
	if !f.OK {
		s.missed++
		if f.Problem == "" {
			f.Problem = "the goal is missed"
		}
	}
	f.Value = Round(f.Value)
	for name, v := range f.Peers {
		f.Peers[name] = Round(v)
	}
	if err := s.to.Encode(f); err != nil {
		return fmt.Errorf("cannot print a figure: %v", err)
	}
	return nil
}

// Missed is how many figures were not OK.
func (s *Sheet) Missed() int { return s.missed }

// Round keeps three decimals.
func Round(f float64) float64 { return math.Round(f*1000) / 1000 }

// Millis is a duration in milliseconds.
func Millis(d time.Duration) float64 { return Round(float64(d) / float64(time.Millisecond)) }

// Quantile is the q-th, 0 to 1, of times, which it sorts. Of none it is longer than any goal.
func Quantile(q float64, times []time.Duration) time.Duration {
	if len(times) == 0 {
		return math.MaxInt64
	}
	slices.Sort(times)
	return times[min(int(float64(len(times))*q), len(times)-1)]
}

// OpenFiles lets this process have as many files open as it may, and fails when those are fewer than want.
func OpenFiles(want int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %v", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(want) {
		return errors.Join(fmt.Errorf("too few open files: %d, want %d", limit.Cur, want), err)
	}
	return nil
}
