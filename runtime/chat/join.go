package chat

import (
	"context"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// Join subscribes a session's connection. With a position, everything after it comes first, in order. ack makes the answer's frames,
// which go out before anything of the channel. Joining again starts anew from the given position; after an error the session is not in
// the channel, even if it was before. One goroutine at a time may call Join for a session.
func (s *Service) Join(ctx context.Context, sess Session, channel string, from *hub.Position, ack func(hub.Joined) []byte) error {
	e, err := s.entry(sess)
	if err != nil {
		return err
	}
	if err := s.enter(ctx, e, channel, from, ack); err != nil {
		s.quit(e, channel)
		return err
	}
	return nil
}

func (s *Service) enter(ctx context.Context, e *entry, channel string, from *hub.Position, ack func(hub.Joined) []byte) error {
	if err := s.current(ctx, e); err != nil {
		return err
	}
	ch, err := s.channel(ctx, e.id.Tenant, channel)
	if err != nil {
		return err
	}
	// First register, then ask whether that is allowed: a removal that comes in between finds the registration, and one that
	// came before is seen by the question.
	s.register(e, ch)
	if err := s.mayJoin(ctx, ch, e.id.User); err != nil {
		return err
	}
	if err := s.hub.Subscribe(ctx, e.sess.Conn(), e.id.User, hubChannel(ch), from, ack); err != nil {
		return s.readError("subscribe", err)
	}
	if !s.isIn(e, ch) { // removed, or gone, while the hub subscribed it
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
	if !s.quit(e, channel) {
		return Errorf(CodeNotJoined, "you have not joined channel %q", channel)
	}
	return nil
}

// quit reports whether the session was in the channel.
func (s *Service) quit(e *entry, channel string) bool {
	ch := s.joinedChannel(e, channel)
	was := ch != nil && s.unregister(e, ch)
	s.hub.Unsubscribe(e.sess.Conn(), e.id.Tenant, channel)
	return was
}

// register notes that the session is in a channel.
func (s *Service) register(e *entry, ch *store.Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range e.joined {
		if other.ID == ch.ID {
			e.joined[i] = ch
			return
		}
	}
	if s.sessions[e.sess] == e {
		e.joined = append(e.joined, ch)
		s.presence.entered(ch.Tenant, ch.ID, e.id.User, e.id.Name)
	}
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
