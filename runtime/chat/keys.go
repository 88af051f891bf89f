package chat

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	keysEvery = 10 * time.Second // how often the use of keys is written down
	keysAgain = time.Minute      // and of the same key
)

// Key checks a game server's API key. A key of another tenant is as unknown as a made-up one.
func (s *Service) Key(ctx context.Context, tenant, secret string) (store.APIKey, error) {
	if err := s.begun(ctx); err != nil {
		return store.APIKey{}, err
	}
	if names.AnyTenant(tenant) != nil || secret == "" || len(secret) > auth.MaxSecret {
		return store.APIKey{}, errBadKey()
	}
	hash := auth.Hash(secret)
	k, err := s.caches.keys.get(ctx, hash, func(ctx context.Context) (store.APIKey, error) {
		return s.cfg.Store.LookupKey(ctx, hash)
	})
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && k.Tenant != tenant:
		return store.APIKey{}, errBadKey()
	case err != nil:
		return store.APIKey{}, s.readError("look up an API key", err)
	}
	if err := s.tenantActive(ctx, tenant); err != nil {
		return store.APIKey{}, err
	}
	s.used.note(k)
	s.tenant(tenant).lastSeen.Store(time.Now().UnixMilli())
	return k, nil
}

// usedKeys are the API keys whose use is to be written down: not by the request, which need not wait for that.
type usedKeys struct {
	mu      sync.Mutex
	waiting map[string]store.APIKey
	touched map[string]time.Time
}

func (u *usedKeys) note(k store.APIKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting == nil {
		u.waiting, u.touched = map[string]store.APIKey{}, map[string]time.Time{}
	}
	if time.Since(u.touched[k.ID]) >= keysAgain {
		u.waiting[k.ID] = k
	}
}

func (u *usedKeys) take(now time.Time) []store.APIKey {
	u.mu.Lock()
	defer u.mu.Unlock()
	var list []store.APIKey
	for id, k := range u.waiting {
		list = append(list, k)
		u.touched[id] = now
	}
	clear(u.waiting)
	return list
}

func (s *Service) touchLoop(ctx context.Context) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.touchKeys(ctx, now)
		}
	}
}

func (s *Service) touchKeys(ctx context.Context, now time.Time) {
	for _, k := range s.used.take(now) {
		ctx, cancel := context.WithTimeout(ctx, dbTimeout)
		if err := s.cfg.Store.TouchKey(ctx, k); err != nil {
			s.complain.Do(func() { s.log.Warn("cannot note the use of an API key", "key", k.ID, "error", err) })
		}
		cancel()
	}
}
