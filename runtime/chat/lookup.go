package chat

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// States and kinds that this code knows. What a newer schema may hold besides is treated as the most restrictive.
const (
	tenantActive = "active"
	kindWorld    = "world"
	historyNone  = "none"
)

type (
	tokenKey   struct{ tenant, hash string }
	channelKey struct{ tenant, channel string }
	memberKey  struct{ tenant, channel, user string }
)

// caches hold what the changes feed invalidates. The bounds are for processes that see very many users; a miss costs one read.
type caches struct {
	tenants  *cache[string, store.Tenant]
	versions *cache[string, store.Version]
	tokens   *cache[tokenKey, store.Token]
	keys     *cache[string, store.APIKey]
	channels *cache[channelKey, *store.Channel] // shared by all sessions in the channel, never written to
	members  *cache[memberKey, struct{}]
}

func newCaches() caches {
	return caches{
		tenants:  newCache[string, store.Tenant](4096),
		versions: newCache[string, store.Version](1),
		tokens:   newCache[tokenKey, store.Token](16384),
		keys:     newCache[string, store.APIKey](4096),
		channels: newCache[channelKey, *store.Channel](65536),
		members:  newCache[memberKey, struct{}](65536),
	}
}

func (c *caches) dropAll() {
	c.tenants.dropWhere(func(string, store.Tenant) bool { return true })
	c.versions.dropWhere(func(string, store.Version) bool { return true })
	c.tokens.dropWhere(func(tokenKey, store.Token) bool { return true })
	c.keys.dropWhere(func(string, store.APIKey) bool { return true })
	c.channels.dropWhere(func(channelKey, *store.Channel) bool { return true })
	c.members.dropWhere(func(memberKey, struct{}) bool { return true })
}

// Login says who a token stands for. It waits in the parking lot when many log in at once; ctx bounds the wait.
func (s *Service) Login(ctx context.Context, tenant, token string) (Identity, error) {
	if err := s.begun(ctx); err != nil {
		return Identity{}, err
	}
	if names.AnyTenant(tenant) != nil || token == "" || len(token) > auth.MaxSecret {
		return Identity{}, errBadToken()
	}
	leave, err := s.Park(ctx, tenant)
	if err != nil {
		return Identity{}, err
	}
	defer leave()
	if err := s.tenantActive(ctx, tenant); err != nil {
		return Identity{}, err
	}
	return s.identify(ctx, tenant, auth.Hash(token))
}

// identify looks a token up; it is asked at the login and again whenever something about the user changes.
func (s *Service) identify(ctx context.Context, tenant, hash string) (Identity, error) {
	t, err := s.caches.tokens.get(ctx, tokenKey{tenant, hash}, func(ctx context.Context) (store.Token, error) {
		return s.cfg.Store.LookupToken(ctx, tenant, hash)
	})
	switch {
	case errors.Is(err, store.ErrExpired):
		return Identity{}, errTokenExpired()
	case errors.Is(err, store.ErrNotFound):
		return Identity{}, errBadToken()
	case err != nil:
		return Identity{}, s.readError("look up a token", err)
	}
	if !t.ExpiresAt.IsZero() && !time.Now().Before(t.ExpiresAt) {
		return Identity{}, errTokenExpired()
	}
	return Identity{Tenant: tenant, User: t.User, Name: t.Name, TokenHash: hash, Expires: t.ExpiresAt}, nil
}

// Channel returns a channel of the tenant, or CodeNoSuchChannel.
func (s *Service) Channel(ctx context.Context, tenant, channel string) (store.Channel, error) {
	ch, err := s.channel(ctx, tenant, channel)
	if err != nil {
		return store.Channel{}, err
	}
	return *ch, nil
}

func (s *Service) channel(ctx context.Context, tenant, channel string) (*store.Channel, error) {
	if err := names.Channel(channel); err != nil {
		return nil, Errorf(CodeBadName, "%v", err)
	}
	ch, err := s.caches.channels.get(ctx, channelKey{tenant, channel}, func(ctx context.Context) (*store.Channel, error) {
		ch, err := s.cfg.Store.Channel(ctx, tenant, channel)
		return &ch, err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, Errorf(CodeNoSuchChannel, "there is no channel %q", channel)
	}
	if err != nil {
		return nil, s.readError("look up a channel", err)
	}
	return ch, nil
}

// mayJoin refuses who is not a member. World channels are open to the whole tenant; every other kind, a future one too, is not.
func (s *Service) mayJoin(ctx context.Context, ch *store.Channel, user string) error {
	if ch.Kind == kindWorld {
		return nil
	}
	_, err := s.caches.members.get(ctx, memberKey{ch.Tenant, ch.ID, user}, func(ctx context.Context) (struct{}, error) {
		member, err := s.cfg.Store.IsMember(ctx, ch.PK, user)
		if err == nil && !member {
			err = errNotMember // not remembered: who is added may join at once
		}
		return struct{}{}, err
	})
	if errors.Is(err, errNotMember) {
		return Errorf(CodeNotMember, "you are not a member of channel %q", ch.ID)
	}
	if err != nil {
		return s.readError("look up a membership", err)
	}
	return nil
}

var errNotMember = errors.New("not a member")

func (s *Service) tenantActive(ctx context.Context, tenant string) error {
	t, err := s.readTenant(ctx, tenant)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errBadToken() // who guesses tenants learns nothing
	case err != nil:
		return s.readError("look up a tenant", err)
	case t.State != tenantActive:
		return Errorf(CodeTenantSuspended, "the tenant is suspended")
	case s.cfg.Version != "" && names.Version(t.MinVersion) == nil && names.OlderVersion(s.cfg.Version, t.MinVersion):
		return s.tooOld(ctx, t.MinVersion)
	}
	return nil
}

func (s *Service) readTenant(ctx context.Context, tenant string) (store.Tenant, error) {
	return s.caches.tenants.get(ctx, tenant, func(ctx context.Context) (store.Tenant, error) {
		return s.cfg.Store.Tenant(ctx, tenant)
	})
}

// tooOld names the versions that the tenant may use.
func (s *Service) tooOld(ctx context.Context, oldest string) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	versions, err := s.cfg.Store.Versions(ctx)
	if err != nil {
		return s.readError("list the versions", err)
	}
	var live []string
	for _, v := range versions {
		if v.State == store.VersionLive && !names.OlderVersion(v.Name, oldest) {
			live = append(live, v.Name)
		}
	}
	choice := "none of which is live"
	if len(live) > 0 {
		choice = "which are: " + strings.Join(live, ", ")
	}
	return Errorf(CodeVersionTooOld, "version %s is too old: use version %s or a newer one, %s", s.cfg.Version, oldest, choice)
}

// readError keeps what happened for the log, now and then while it goes on, and tells the client what it can do about it: come
// again, unless the channel is gone.
func (s *Service) readError(doing string, err error) error {
	if told := AsError(err); told.Code == CodeNoSuchChannel {
		return told
	}
	s.complain.Do(func() { s.log.Warn("cannot "+doing, "error", err) })
	return retryable(CodeUnavailable, "the service cannot reach its database")
}

func errBadToken() error     { return Errorf(CodeBadToken, "unknown tenant or token") }
func errTokenExpired() error { return Errorf(CodeTokenExpired, "the token has expired") }
func errBadKey() error       { return Errorf(CodeBadKey, "unknown API key") }
