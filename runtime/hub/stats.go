package hub

import "sync/atomic"

// Stats counts what the hub did since it started.
type Stats struct {
	Connections int    // open now
	Deliveries  uint64 // messages times receivers
	Writes      uint64 // batches times receivers
	Batches     uint64
	LogReads    uint64
	Healed      uint64 // messages that only the log had
	Resyncs     uint64 // slow readers set back to the ring
	Cut         uint64 // slow readers closed
	Dropped     uint64 // messages refused as impossible or over a bound
}

type counters struct {
	deliveries, writes, batches, logReads, healed, resyncs, cut, dropped atomic.Uint64
}

// Stats returns the counters.
func (h *Hub) Stats() Stats {
	h.connsMu.Lock()
	open := len(h.conns)
	h.connsMu.Unlock()
	return Stats{
		Connections: open,
		Deliveries:  h.stats.deliveries.Load(),
		Writes:      h.stats.writes.Load(),
		Batches:     h.stats.batches.Load(),
		LogReads:    h.stats.logReads.Load(),
		Healed:      h.stats.healed.Load(),
		Resyncs:     h.stats.resyncs.Load(),
		Cut:         h.stats.cut.Load(),
		Dropped:     h.stats.dropped.Load(),
	}
}
