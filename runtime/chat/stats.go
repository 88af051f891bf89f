package chat

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// counts are this process's since its start.
type counts struct {
	received, accepted atomic.Int64
	mu                 sync.Mutex
	refused, ngwords   map[string]int64
	limited            map[string]map[string]int64 // by tenant and limit
}

// limit counts what a tenant's limit refused.
func (c *counts) limit(tenant, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited == nil {
		c.limited = map[string]map[string]int64{}
	}
	if c.limited[tenant] == nil {
		c.limited[tenant] = map[string]int64{}
	}
	c.limited[tenant][name]++
}

func (c *counts) limitedOf(tenant string) map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.limited[tenant])
}

func (c *counts) refuse(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]int64{}
	}
	c.refused[code]++
}

func (c *counts) ngword(action string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ngwords == nil {
		c.ngwords = map[string]int64{}
	}
	c.ngwords[action]++
}

// Stats is a snapshot of a service.
type Stats struct {
	Sessions int
	Received int64            // messages clients sent
	Accepted int64            // messages committed, or taken in channels without history
	Refused  map[string]int64 // by error code
	NGWords  map[string]int64 // by action
	NGStale  int              // NG lists of which an old revision serves, since the newest cannot be read or compiled
	Pending  int64            // waiting for their commit
	Tenants  []TenantStats
}

// TenantStats is one tenant's share; tenants stay listed after their last session has gone.
type TenantStats struct {
	Tenant   string
	Sessions int
	Messages int64
	LastSeen time.Time
	Limited  map[string]int64 // what was refused, by the limit's name
}

// Stats returns the counts. It blocks on nothing but the service's own lock.
func (s *Service) Stats() Stats {
	st := Stats{
		Received: s.counts.received.Load(), Accepted: s.counts.accepted.Load(), Pending: s.pending.Load(),
		NGStale: s.words.stale(), Refused: map[string]int64{}, NGWords: map[string]int64{},
	}
	s.counts.mu.Lock()
	for code, n := range s.counts.refused {
		st.Refused[code] = n
	}
	for action, n := range s.counts.ngwords {
		st.NGWords[action] = n
	}
	s.counts.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Sessions = len(s.sessions)
	for name, t := range s.tenants {
		seen := time.UnixMilli(t.lastSeen.Load())
		if t.count > 0 {
			seen = time.Now()
		}
		st.Tenants = append(st.Tenants, TenantStats{name, t.count, t.messages.Load(), seen, s.counts.limitedOf(name)})
	}
	return st
}

// tenant returns a tenant's share, made at its first use.
func (s *Service) tenant(tenant string) *tenantSessions {
	s.mu.RLock()
	t := s.tenants[tenant]
	s.mu.RUnlock()
	if t == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t = s.tenantLocked(tenant)
	}
	return t
}
