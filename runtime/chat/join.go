package chat

import (
	"context"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// Join subscribes a session's connection. With a position, everything after it comes first, in order. ack makes the answer's frames,
// which go out before anything of the channel. Joining again starts anew from the given position. One goroutine at a time may call
// Join for a session.
func (s *Service) Join(ctx context.Context, sess Session, channel string, from *hub.Position, ack func(hub.Joined) []byte) error {
	e, err := s.entry(sess)
	if err != nil {
		return err
	}
	if err := s.current(ctx, e); err != nil {
		return err
	}
	ch, err := s.channel(ctx, e.id.Tenant, channel)
	if err != nil {
		return err
	}
	// First register, then ask whether that is allowed: a removal that comes in between finds the registration, and one that
	// came before is seen by the question.
	first := s.register(e, ch)
	if err := s.mayJoin(ctx, ch, e.id.User); err != nil {
		if first {
			s.unregister(e, ch)
		}
		return err
	}
	err = s.hub.Subscribe(ctx, sess.Conn(), e.id.User, hubChannel(ch), from, ack)
	if err != nil {
		if first { // else the earlier subscription goes on
			s.unregister(e, ch)
		}
		return s.readError("subscribe", err)
	}
	if !s.isIn(e, ch) { // removed, or gone, while the hub subscribed it
		s.hub.Unsubscribe(sess.Conn(), ch.Tenant, ch.ID)
		return Errorf(CodeNotMember, "you are not a member of channel %q", channel)
	}
	return nil
}

// Leave ends a session's subscription.
func (s *Service) Leave(sess Session, channel string) error {
	e, err := s.entry(sess)
	if err != nil {
		return err
	}
	ch := s.joinedChannel(e, channel)
	if ch == nil || !s.unregister(e, ch) {
		return Errorf(CodeNotJoined, "you have not joined channel %q", channel)
	}
	s.hub.Unsubscribe(sess.Conn(), ch.Tenant, ch.ID)
	return nil
}

// register notes that the session is in a channel and reports whether that is new.
func (s *Service) register(e *entry, ch *store.Channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range e.joined {
		if other.ID == ch.ID {
			e.joined[i] = ch
			return false
		}
	}
	if s.sessions[e.sess] == e {
		e.joined = append(e.joined, ch)
		s.presence.entered(ch.Tenant, ch.ID, e.id.User, e.id.Name)
	}
	return true
}

// unregister reports whether the session was in the channel.
func (s *Service) unregister(e *entry, ch *store.Channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range e.joined {
		if other.ID == ch.ID {
			e.joined = append(e.joined[:i], e.joined[i+1:]...)
			s.presence.left(ch.Tenant, ch.ID, e.id.User)
			return true
		}
	}
	return false
}

func hubChannel(ch *store.Channel) hub.Channel {
	return hub.Channel{PK: ch.PK, Tenant: ch.Tenant, ID: ch.ID, Epoch: ch.Epoch, History: ch.History}
}
