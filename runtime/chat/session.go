package chat

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// Identity is who a logged-in connection speaks for. A zero Expires means that the token has no end.
type Identity struct {
	Tenant, User, Name string
	TokenHash          string
	Expires            time.Time
}

// Session is one logged-in connection, as runtime/ua keeps it. Its methods must not block: the service calls them from its own
// goroutines. Sessions are compared by identity, so an implementation is a pointer.
type Session interface {
	Identity() Identity
	Conn() *hub.Conn
	// Removed tells the client that it lost a channel: code is CodeNotMember or CodeNoSuchChannel. Nothing more of that channel
	// is delivered unless the session joins again.
	Removed(channel, code string)
	// Deprecated tells the client that its version will go away, or with a zero value that it will not any more.
	Deprecated(d store.Deprecation)
	// End closes the connection with one of the hub's close codes; reason is the error code that says why. Detach follows from
	// the connection's own end.
	End(code int, reason string)
}

// entry is what the service knows of an attached session.
type entry struct {
	sess Session
	id   Identity

	joined  []*store.Channel // guarded by Service.mu
	expires time.Time        // guarded by Service.mu: a token may be put again with another end
	name    string           // guarded by Service.mu: a user may be renamed
	ended   bool             // guarded by Service.mu: End was called, nothing is accepted any more
	moving  bool             // guarded by Service.mu: it was asked to make way for another connection

	// Each change that may concern the session raises needed. It speaks and joins only while verified has caught up.
	needed, verified atomic.Uint64
}

// tenantSessions is one tenant's share; it stays after the last session has gone, for the statistics.
type tenantSessions struct {
	users    map[string][]*entry
	count    int
	moving   int // of count
	messages atomic.Int64
	lastSeen atomic.Int64 // Unix milliseconds
}

// Attach registers a logged-in session: from here on revocations and expiry reach it. Whatever changed since its Login is checked
// before it may join or speak. The caller calls Detach when the connection has ended. The error is CodeTooManyConnections when the
// tenant has as many in this process as it may have, those that move not counted.
func (s *Service) Attach(sess Session) error {
	id := sess.Identity()
	e := &entry{sess: sess, id: id, name: id.Name}
	most := s.knownLimits(id.Tenant).Connections // its Login has just read them
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenantLocked(e.id.Tenant)
	if t.count-t.moving >= most {
		s.counts.limit(id.Tenant, "connections")
		return &Error{Code: CodeTooManyConnections, Message: fmt.Sprintf("the game has %d connections already", t.count), Retry: true, After: connectAgain}
	}
	s.sessions[sess] = e
	t.users[e.id.User] = append(t.users[e.id.User], e)
	t.count++
	t.lastSeen.Store(time.Now().UnixMilli())
	s.expireLocked(e, id.Expires)
	s.flagLocked(e)
	return nil
}

// Moving says that a session was asked to move, so that the connection which takes its place is not one too many; or that it may stay
// after all.
func (s *Service) Moving(sess Session, moving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.sessions[sess]; e != nil {
		s.movingLocked(e, moving)
	}
}

func (s *Service) movingLocked(e *entry, moving bool) {
	if e.moving == moving {
		return
	}
	e.moving = moving
	if moving {
		s.tenants[e.id.Tenant].moving++
	} else {
		s.tenants[e.id.Tenant].moving--
	}
}

// expireLocked notes when a session's token ends.
func (s *Service) expireLocked(e *entry, end time.Time) {
	e.expires = end
	if !end.IsZero() && (s.nextEnd.IsZero() || end.Before(s.nextEnd)) {
		s.nextEnd = end
	}
}

// Detach forgets a session: its subscriptions end and its user leaves the channels that no other connection of theirs is in. It may
// be called for a session that was never attached.
func (s *Service) Detach(sess Session) {
	s.mu.Lock()
	e := s.sessions[sess]
	if e == nil {
		s.mu.Unlock()
		return
	}
	delete(s.sessions, sess)
	delete(s.flagged, e)
	s.movingLocked(e, false)
	t := s.tenants[e.id.Tenant]
	t.count--
	t.lastSeen.Store(time.Now().UnixMilli())
	if left := slices.DeleteFunc(t.users[e.id.User], func(other *entry) bool { return other == e }); len(left) > 0 {
		t.users[e.id.User] = left
	} else {
		delete(t.users, e.id.User)
	}
	joined := e.joined
	e.joined = nil
	s.mu.Unlock()

	if s.hub != nil && sess.Conn() != nil {
		s.hub.Drop(sess.Conn())
	}
	for _, ch := range joined {
		s.presence.left(ch.Tenant, ch.ID, e.id.User)
	}
}

func (s *Service) tenantLocked(tenant string) *tenantSessions {
	t := s.tenants[tenant]
	if t == nil {
		t = &tenantSessions{users: map[string][]*entry{}}
		s.tenants[tenant] = t
	}
	return t
}

// entry returns what is attached, or CodeNotLoggedIn.
func (s *Service) entry(sess Session) (*entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.sessions[sess]
	if e == nil || e.ended {
		return nil, Errorf(CodeNotLoggedIn, "log in first")
	}
	return e, nil
}

// displayName is the user's name as it is now.
func (s *Service) displayName(e *entry) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return e.name
}

// joinedChannel returns the channel if the session is in it, nil otherwise.
func (s *Service) joinedChannel(e *entry, channel string) *store.Channel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, ch := range e.joined {
		if ch.ID == channel {
			return ch
		}
	}
	return nil
}

// isIn reports whether the session is in this very channel, not in one that was made later under the same id.
func (s *Service) isIn(e *entry, ch *store.Channel) bool {
	now := s.joinedChannel(e, ch.ID)
	return now != nil && now.PK == ch.PK
}

// end closes a session for good. Nothing that it sends after this is accepted, however long its close takes.
func (s *Service) end(e *entry, code int, reason string) {
	s.mu.Lock()
	already := e.ended
	e.ended = true
	delete(s.flagged, e)
	s.mu.Unlock()
	if !already {
		e.sess.End(code, reason)
	}
}

// sweepLoop ends the sessions whose token has expired: one look a second for all of them, instead of a timer for each.
func (s *Service) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, e := range s.expired(now) {
				s.end(e, hub.CloseUnauthorized, CodeTokenExpired)
			}
		}
	}
}

func (s *Service) expired(now time.Time) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nextEnd.IsZero() || now.Before(s.nextEnd) {
		return nil
	}
	var over []*entry
	s.nextEnd = time.Time{}
	for _, e := range s.sessions {
		switch end := e.expires; {
		case end.IsZero() || e.ended:
		case !now.Before(end):
			over = append(over, e)
		case s.nextEnd.IsZero() || end.Before(s.nextEnd):
			s.nextEnd = end
		}
	}
	return over
}
