package instance

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	staleStore   = 2 * time.Second  // four polls of the changes feed: the database does not answer
	staleChanges = 10 * time.Second // from here on logins and sends are refused
)

// Health answers from what is known: it waits for neither database nor bus. A dead bus leaves an instance ready, since the log
// carries the chat then.
func (s *server) Health(context.Context, *pb.HealthRequest) (*pb.HealthReply, error) {
	r := s.current()
	if r == nil {
		return &pb.HealthReply{Checks: []*pb.Check{{Name: "configured", Detail: "not configured"}}}, nil
	}
	stale := r.chat.Stale()
	read := fmt.Sprintf("read %v ago", stale.Round(time.Millisecond))
	reply := &pb.HealthReply{Ready: true, Checks: []*pb.Check{
		{Name: "store", Ok: stale < staleStore, Detail: read},
		{Name: "changes", Ok: stale < staleChanges, Detail: read},
		r.listenCheck(),
		filesCheck(),
		r.busCheck(),
	}}
	for _, c := range reply.Checks {
		if c.Name != "bus" && !c.Ok {
			reply.Ready = false
		}
	}
	reply.Draining = r.ua != nil && r.ua.Draining()
	return reply, nil
}

func (r *running) listenCheck() *pb.Check {
	c := &pb.Check{Name: "listen", Ok: true, Detail: r.socket.path}
	if err := r.socket.check(); err != nil {
		c.Ok, c.Detail = false, err.Error()
	}
	if !r.serving.Load() {
		c.Ok, c.Detail = false, "the socket takes no connections any more"
	}
	return c
}

// filesCheck fails near the limit, where a process takes no client any more, and at it.
func filesCheck() *pb.Check {
	if err := roomForClients(); err != nil {
		return &pb.Check{Name: "files", Detail: err.Error()}
	}
	return &pb.Check{Name: "files", Ok: true}
}

func (r *running) busCheck() *pb.Check {
	st := r.bus.Stats()
	switch {
	case st.Up:
		return &pb.Check{Name: "bus", Ok: true, Detail: fmt.Sprintf("link %s, %s, lag %v", st.Link, st.Server, st.Lag.Round(time.Microsecond))}
	case st.Link == "":
		return &pb.Check{Name: "bus", Detail: "no active link"}
	default:
		return &pb.Check{Name: "bus", Detail: fmt.Sprintf("link %s is down: %s", st.Link, st.Detail)}
	}
}

func (s *server) Stats(context.Context, *pb.StatsRequest) (*pb.StatsReply, error) {
	reply := &pb.StatsReply{AtMs: time.Now().UnixMilli(), Values: map[string]float64{}}
	processStats(reply.Values, s.started)
	r := s.current()
	if r == nil {
		return reply, nil
	}
	r.stats(reply.Values)
	for _, t := range r.chat.Stats().Tenants {
		reply.Tenants = append(reply.Tenants, &pb.TenantStats{
			Tenant: t.Tenant, Connections: int64(t.Sessions), MessagesTotal: t.Messages, LastSeenMs: t.LastSeen.UnixMilli(), LimitedTotal: t.Limited,
		})
	}
	return reply, nil
}

// stats fills in numbers named as metrics are: what ends in _total only grows, the rest is of this moment.
func (r *running) stats(v map[string]float64) {
	v["connections"] = 0
	if r.ua != nil {
		for name, n := range r.ua.Stats() {
			v[name] = n
		}
	}
	c := r.chat.Stats()
	v["sessions"] = float64(c.Sessions)
	v["messages_in_total"] = float64(c.Received)
	v["messages_total"] = float64(c.Accepted)
	v["messages_pending"] = float64(c.Pending)
	running, waiting := r.chat.Parked()
	v["parked_running"], v["parked_waiting"] = float64(running), float64(waiting)
	for code, n := range c.Refused {
		v["refused_"+code+"_total"] = float64(n)
	}
	for action, n := range c.NGWords {
		v["ngword_"+action+"_total"] = float64(n)
	}
	v["ngword_stale_lists"] = float64(c.NGStale)
	v["changes_stale_seconds"] = r.chat.Stale().Seconds()
	r.hubStats(v)
	r.busStats(v)
}

func (r *running) hubStats(v map[string]float64) {
	h := r.chat.Hub()
	if h == nil {
		return
	}
	st := h.Stats()
	v["deliveries_total"] = float64(st.Deliveries)
	v["writes_total"] = float64(st.Writes)
	v["log_reads_total"] = float64(st.LogReads)
	v["healed_total"] = float64(st.Healed)
	v["resyncs_total"] = float64(st.Resyncs)
	v["slow_closed_total"] = float64(st.Cut)
}

func (r *running) busStats(v map[string]float64) {
	st := r.bus.Stats()
	v["bus_up"] = 0
	if st.Up {
		v["bus_up"] = 1
	}
	v["bus_lag_seconds"] = st.Lag.Seconds()
	v["bus_in_total"] = float64(st.EnvelopesIn)
	v["bus_out_total"] = float64(st.EnvelopesOut)
	v["bus_refs_total"] = float64(st.Refs)
	v["bus_refused_total"] = float64(st.Refused)
	v["bus_dropped_total"] = float64(st.Dropped)
	v["bus_reconnects_total"] = float64(st.Reconnects)
}

func processStats(v map[string]float64, started time.Time) {
	v["uptime_seconds"] = time.Since(started).Seconds()
	v["goroutines"] = float64(runtime.NumGoroutine())
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		v["cpu_seconds_total"] = float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
	}
	if rss, ok := residentBytes(); ok {
		v["resident_bytes"] = rss
	}
}

func residentBytes() (float64, bool) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, false
	}
	return float64(resident * int64(os.Getpagesize())), true
}
