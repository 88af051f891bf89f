package chat

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// Deprecation tells whether the version that this process serves will go away. What cannot be read now is not told.
func (s *Service) Deprecation(ctx context.Context) store.Deprecation {
	d, err := s.deprecation(ctx)
	if err != nil {
		s.complain.Do(func() { s.log.Warn("cannot look up the version", "error", err) })
	}
	return d
}

func (s *Service) deprecation(ctx context.Context) (store.Deprecation, error) {
	if s.cfg.Version == "" {
		return store.Deprecation{}, nil
	}
	v, err := s.caches.versions.get(ctx, s.cfg.Version, func(ctx context.Context) (store.Version, error) {
		v, err := s.cfg.Store.Version(ctx, s.cfg.Version)
		if errors.Is(err, store.ErrNotFound) {
			return store.Version{}, nil // it has not been released yet, and its release changes nothing of this
		}
		return v, err
	})
	return v.Deprecation, err
}

func (s *Service) noticeSoon() {
	select {
	case s.notice <- struct{}{}:
	default:
	}
}

// noticeLoop tells those who are connected what later ones are told at their login. While the database is away it keeps at it.
func (s *Service) noticeLoop(ctx context.Context) {
	var told store.Deprecation
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.notice:
		}
		now, err := s.deprecation(ctx)
		for err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(recheckPause):
			}
			now, err = s.deprecation(ctx)
		}
		if now.Equal(told) {
			continue
		}
		told = now
		for _, sess := range s.attached() {
			sess.Deprecated(now)
		}
	}
}

func (s *Service) attached() []Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.sessions))
}
