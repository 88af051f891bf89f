package main

import (
	"math/bits"
	"time"
)

// latencies counts durations in buckets that are exact to 1.6 %, from a microsecond to more than an hour.
type latencies struct {
	counts [34 * latencySteps]int64
	total  int64
	worst  time.Duration
}

// latencySteps is how many buckets each doubling has.
const latencySteps = 64

func (l *latencies) add(d time.Duration) {
	us := max(uint64(max(d, 0))/1000, 1)
	top := bits.Len64(us) - 1
	step := (us << (63 - top) >> 57) & (latencySteps - 1) // the six bits below the leading one
	l.counts[min(top*latencySteps+int(step), len(l.counts)-1)]++
	l.total++
	l.worst = max(l.worst, d)
}

func (l *latencies) merge(other *latencies) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.total += other.total
	l.worst = max(l.worst, other.worst)
}

// at returns the duration that a share (0.99: the 99th percentile) does not exceed, rounded up to its bucket.
func (l *latencies) at(share float64) time.Duration {
	rank, seen := int64(share*float64(l.total)), int64(0)
	for i, n := range l.counts {
		if seen += n; seen > rank {
			return min(bucketEnd(i), l.worst)
		}
	}
	return l.worst
}

func bucketEnd(i int) time.Duration {
	top, step := i/latencySteps, uint64(i%latencySteps)
	us := (latencySteps + step + 1) << top / latencySteps
	return time.Duration(us) * time.Microsecond
}
