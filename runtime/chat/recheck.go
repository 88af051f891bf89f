package chat

import (
	"context"
	"time"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// recheckPause is how long the rechecking of sessions waits when the database does not answer.
const recheckPause = 250 * time.Millisecond

// changed unlearns what the feed says. It reads nothing itself: what is dropped is read again by whoever needs it, and the sessions
// concerned are rechecked in the background, and before they next join or speak.
func (s *Service) changed(list []store.Change) {
	<-s.ready
	for _, c := range list {
		s.unlearn(c)
	}
}

func (s *Service) unlearn(c store.Change) {
	all := func(*entry) bool { return true }
	switch c.Kind {
	case store.ChangeTenant:
		s.caches.tenants.drop(c.Tenant)
		if c.Detail == "deleted" { // one of the same name would have other lists
			s.words.forget(c.Tenant)
		}
		s.flag(c.Tenant, "", all)
	case store.ChangeKey:
		s.caches.keys.dropWhere(func(_ string, k store.APIKey) bool { return k.Tenant == c.Tenant })
	case store.ChangeToken, store.ChangeUser:
		s.caches.tokens.dropWhere(func(k tokenKey, t store.Token) bool { return k.tenant == c.Tenant && t.User == c.Subject })
		s.flag(c.Tenant, c.Subject, all)
	case store.ChangeMember:
		s.dropMembers(c.Tenant, c.Subject, c.Detail)
		s.flag(c.Tenant, c.Detail, func(e *entry) bool { return inLocked(e, c.Subject) })
	case store.ChangeChannel:
		s.caches.channels.drop(channelKey{c.Tenant, c.Subject})
		s.dropMembers(c.Tenant, c.Subject, "")
		s.flag(c.Tenant, "", func(e *entry) bool { return inLocked(e, c.Subject) })
	case store.ChangeVersion:
		s.caches.versions.drop(c.Subject)
		s.noticeSoon()
	case store.ChangeNGWord:
		s.words.changed(c.Tenant, c.Subject)
	default: // of a newer version: it may concern anything
		s.reload()
	}
}

// reload unlearns everything: the feed has begun anew, or something changed that this code does not know.
func (s *Service) reload() {
	<-s.ready
	s.caches.dropAll()
	s.words.changed("", "")
	s.noticeSoon()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.sessions {
		s.flagLocked(e)
	}
}

func (s *Service) dropMembers(tenant, channel, user string) {
	if user != "" {
		s.caches.members.drop(memberKey{tenant, channel, user})
		return
	}
	s.caches.members.dropWhere(func(k memberKey, _ struct{}) bool { return k.tenant == tenant && k.channel == channel })
}

// flag marks the sessions of a tenant, or of one of its users, that match.
func (s *Service) flag(tenant, user string, match func(*entry) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[tenant]
	if t == nil {
		return
	}
	users := t.users
	if user != "" {
		users = map[string][]*entry{user: t.users[user]}
	}
	for _, entries := range users {
		for _, e := range entries {
			if match(e) {
				s.flagLocked(e)
			}
		}
	}
}

// flagLocked is called after the caches have dropped what the change is about.
func (s *Service) flagLocked(e *entry) {
	if e.ended {
		return
	}
	e.needed.Add(1)
	s.flagged[e] = struct{}{}
	select {
	case s.recheck <- struct{}{}:
	default:
	}
}

func inLocked(e *entry, channel string) bool {
	for _, ch := range e.joined {
		if ch.ID == channel {
			return true
		}
	}
	return false
}

// recheckLoop brings every flagged session up to date. While the database is away it keeps at it.
func (s *Service) recheckLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.recheck:
		}
		for !s.recheckFlagged(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(recheckPause):
			}
		}
	}
}

// recheckFlagged reports false when it had to leave sessions flagged.
func (s *Service) recheckFlagged(ctx context.Context) bool {
	s.mu.Lock()
	todo := s.flagged
	s.flagged = map[*entry]struct{}{}
	s.mu.Unlock()
	for e := range todo {
		if err := s.verify(ctx, e); err != nil && AsError(err).Retry {
			break
		}
		delete(todo, e)
	}
	if len(todo) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range todo {
		if s.sessions[e.sess] == e && !e.ended {
			s.flagged[e] = struct{}{}
		}
	}
	return false
}

// current refuses when it is not known whether the session may still do what it could at its login.
func (s *Service) current(ctx context.Context, e *entry) error {
	if err := s.fresh(); err != nil {
		return err
	}
	return s.verify(ctx, e)
}

// verify compares a session with the database if a change since the last time may concern it: it is ended when tenant or token
// are no longer good, and loses the channels that it may no longer be in. The error says why it may not go on.
func (s *Service) verify(ctx context.Context, e *entry) error {
	needed := e.needed.Load()
	if e.verified.Load() >= needed {
		return nil
	}
	if err := s.verifyIdentity(ctx, e); err != nil {
		return err
	}
	if err := s.verifyChannels(ctx, e); err != nil {
		return err
	}
	for done := e.verified.Load(); done < needed; done = e.verified.Load() {
		if e.verified.CompareAndSwap(done, needed) {
			break
		}
	}
	return nil
}

func (s *Service) verifyIdentity(ctx context.Context, e *entry) error {
	err := s.tenantActive(ctx, e.id.Tenant)
	if err != nil {
		switch told := AsError(err); {
		case told.Retry:
		case told.Code == CodeVersionTooOld:
			s.end(e, hub.CloseForbidden, CodeVersionTooOld)
		default:
			s.end(e, hub.CloseForbidden, CodeTenantSuspended)
		}
		return err
	}
	now, err := s.identify(ctx, e.id.Tenant, e.id.TokenHash)
	if err == nil && now.User != e.id.User {
		err = errBadToken()
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.name = now.Name
		s.expireLocked(e, now.Expires)
		return nil
	}
	switch told := AsError(err); {
	case told.Retry:
	case told.Code == CodeTokenExpired:
		s.end(e, hub.CloseUnauthorized, CodeTokenExpired)
	default:
		s.end(e, hub.CloseUnauthorized, CodeBadToken)
	}
	return err
}

func (s *Service) verifyChannels(ctx context.Context, e *entry) error {
	s.mu.RLock()
	joined := append([]*store.Channel(nil), e.joined...)
	s.mu.RUnlock()
	for _, ch := range joined {
		now, err := s.channel(ctx, ch.Tenant, ch.ID)
		if err == nil && (now.PK != ch.PK || now.Epoch != ch.Epoch) { // another channel under the same id
			err = Errorf(CodeNoSuchChannel, "the channel was deleted")
		}
		if err == nil {
			err = s.mayJoin(ctx, now, e.id.User)
		}
		if err == nil {
			continue
		}
		told := AsError(err)
		if told.Retry {
			return err
		}
		if s.unregister(e, ch) {
			s.hub.Unsubscribe(e.sess.Conn(), ch.Tenant, ch.ID)
			e.sess.Removed(ch.ID, told.Code)
		}
	}
	return nil
}
