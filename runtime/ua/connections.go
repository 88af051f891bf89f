package ua

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
)

// Filter chooses connections: all fields that are given must fit. Limit 0 is no limit.
type Filter struct {
	Tenant     string
	User       string
	Channel    string
	Connection string
	Limit      int
}

// Connection is one connection as operators see it. User and Name are empty until it has logged in.
type Connection struct {
	ID          string
	Tenant      string
	User        string
	Name        string
	Channels    []string
	ConnectedAt time.Time
	Remote      string
	Stats       hub.ConnStats
}

// Connections lists the connections that fit, in no order.
func (s *Server) Connections(f Filter) []Connection {
	var list []Connection
	for _, c := range s.all() {
		if !c.fits(f) {
			continue
		}
		list = append(list, c.describe())
		if len(list) == f.Limit {
			break
		}
	}
	return list
}

// Kick closes the connections that fit, tells reason in the close frame, and before it where the protocol has a word for that, and
// returns how many they were. A filter that names nothing fits nothing here.
func (s *Server) Kick(f Filter, reason string) int {
	if f.Tenant == "" && f.User == "" && f.Channel == "" && f.Connection == "" {
		return 0
	}
	n := 0
	for _, c := range s.all() {
		if c.fits(f) && c.finish(Reply{Kind: Closing, Code: "kicked", Text: reason}, hub.CloseForbidden, cmp.Or(reason, "kicked")) {
			n++
		}
	}
	s.counters.kicked.Add(int64(n))
	return n
}

func (c *session) fits(f Filter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	user := ""
	if c.attached {
		user = c.identity.User
	}
	return (f.Tenant == "" || f.Tenant == c.tenant) &&
		(f.User == "" || f.User == user) &&
		(f.Connection == "" || f.Connection == c.name()) &&
		(f.Channel == "" || slices.Contains(c.channels, f.Channel))
}

func (c *session) describe() Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := Connection{ID: c.name(), Tenant: c.tenant, Channels: slices.Clone(c.channels), ConnectedAt: c.since, Remote: c.remote}
	if c.attached {
		d.User, d.Name = c.identity.User, c.identity.Name
	}
	d.Stats = c.conn.Stats()
	return d
}

// maxCloseCodes bounds how many close codes are counted apart.
const maxCloseCodes = 64

// counters only grow; they are read one by one.
type counters struct {
	accepted, logins, loginErrors                            atomic.Int64
	frames, badFrames, refused, says, drained, kicked, paced atomic.Int64

	mu     sync.Mutex
	closed map[int]int64 // close code -> connections
}

// countClose counts a connection's end by the code of whoever closed it; 1006 stands for an end without a close frame.
func (c *counters) countClose(err error) {
	code := 1006
	var end *hub.CloseError
	if errors.As(err, &end) {
		code = end.Code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		c.closed = map[int]int64{}
	}
	if _, known := c.closed[code]; !known && len(c.closed) >= maxCloseCodes {
		code = 0 // a client may send thousands of codes
	}
	c.closed[code]++
}

// Stats are this server's numbers, named as metrics are: totals end in _total and only grow, the others are of this moment.
func (s *Server) Stats() map[string]float64 {
	s.mu.Lock()
	open := len(s.sessions)
	s.mu.Unlock()
	c := &s.counters
	stats := map[string]float64{
		"connections":         float64(open),
		"connections_total":   float64(c.accepted.Load()),
		"logins_total":        float64(c.logins.Load()),
		"login_errors_total":  float64(c.loginErrors.Load()),
		"frames_in_total":     float64(c.frames.Load()),
		"bad_frames_total":    float64(c.badFrames.Load()),
		"errors_total":        float64(c.refused.Load()),
		"says_total":          float64(c.says.Load()),
		"drain_notices_total": float64(c.drained.Load()),
		"kicks_total":         float64(c.kicked.Load()),
		"paced_total":         float64(c.paced.Load()),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, n := range c.closed {
		stats[fmt.Sprintf("closed_%d_total", code)] = float64(n)
	}
	return stats
}
