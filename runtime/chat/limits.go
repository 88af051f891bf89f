package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kmsctl/kms/runtime/limit"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// Limits bound what clients may ask for. Zero means the default.
type Limits struct {
	MaxTextChars   int // code points of a message, unless the tenant's limits say otherwise; 1000
	PerSecond      int // messages a user may send per second, likewise; 20
	Burst          int // and at once; twice as many
	LoginsParallel int // logins, or API calls, that may read the database at a time; 64
	LoginsWaiting  int // and that may wait for it; 20000, or 5000 calls
}

const (
	maxKeys   = 1 << 16 // users, channels or tenants whose rate is remembered
	maxRecent = 1 << 16 // messages whose retries are answered from memory
)

// Frames are read at most at this multiple of the tenant's messages per second, and never at less than that many a second. What
// comes faster waits in the clients' sockets: so a flood costs the others little, although each frame has to be read to be refused.
const (
	framesPerMessage = 4
	minFrames        = 2000
)

// The log look-ups for refused messages: of a user, and of all users of a tenant.
var (
	userLookups   = limit.Rate{PerSecond: 5, Burst: 20}
	tenantLookups = limit.Rate{PerSecond: 100, Burst: 400}
)

// maxStrangers is how many tenants that are not known yet are looked up at a time.
const maxStrangers = 8

// connectAgain is when a client beyond its tenant's connections may try again.
const connectAgain = 10 * time.Second

// rates are the token buckets. Each process has its own: they keep one tenant from slowing the others in it.
type rates struct {
	users    *limit.Rates[userKey]
	channels *limit.Rates[int64] // by PK
	tenants  *limit.Rates[string]
	frames   *limit.Rates[string]
	requests *limit.Rates[string]
	lookups  *limit.Rates[userKey]
}

func newRates() rates {
	return rates{
		users: limit.NewRates[userKey](maxKeys), channels: limit.NewRates[int64](maxKeys), tenants: limit.NewRates[string](maxKeys),
		frames: limit.NewRates[string](maxKeys), requests: limit.NewRates[string](maxKeys), lookups: limit.NewRates[userKey](maxKeys),
	}
}

// SetLimits replaces the limits of a running service.
func (s *Service) SetLimits(l Limits) {
	s.own.Store(&l)
	waiting := 20000
	if s.cfg.Hub == nil { // a call that waits holds more memory
		waiting = 5000
	}
	s.parking.Resize(cmp.Or(l.LoginsParallel, 64), cmp.Or(l.LoginsWaiting, waiting))
	s.strangers.Resize(maxStrangers, cmp.Or(l.LoginsWaiting, waiting))
}

// tenantLimits returns the limits that are in force for a tenant, none of them zero.
func (s *Service) tenantLimits(tenant string) (store.Limits, error) {
	if t, ok := s.caches.tenants.peek(tenant); ok {
		return s.inForce(t.Limits), nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, dbTimeout)
	defer cancel()
	t, err := s.readTenant(ctx, tenant)
	if err != nil && !errors.Is(err, store.ErrNotFound) { // whoever asks on finds out that it is gone
		return store.Limits{}, s.readError("look up a tenant", err)
	}
	return s.inForce(t.Limits), nil
}

// knownLimits is tenantLimits without asking the database: a tenant that is not known at this moment has the defaults.
func (s *Service) knownLimits(tenant string) store.Limits {
	t, _ := s.caches.tenants.peek(tenant)
	return s.inForce(t.Limits)
}

func (s *Service) inForce(l store.Limits) store.Limits {
	own := s.own.Load()
	return l.Or(store.Limits{UserMessagesPerSecond: own.PerSecond, TextLength: own.MaxTextChars})
}

// perSecond is a rate whose bucket holds a second's worth.
func perSecond(n int) limit.Rate { return limit.Rate{PerSecond: float64(n), Burst: n} }

// takeSay takes a user's message from the user's, the channel's and the tenant's bucket, the widest last: what is refused before it
// leaves the others their share.
func (s *Service) takeSay(l store.Limits, e *entry, ch *store.Channel) error {
	user := limit.Rate{PerSecond: float64(l.UserMessagesPerSecond), Burst: 2 * l.UserMessagesPerSecond}
	if own := s.own.Load(); own.Burst > 0 && own.PerSecond == l.UserMessagesPerSecond {
		user.Burst = own.Burst
	}
	if after, ok := s.rates.users.Take(userKey{e.id.Tenant, e.id.User}, user); !ok {
		return s.limited(e.id.Tenant, "user_messages_per_second", after, "a user may send %d messages a second", l.UserMessagesPerSecond)
	}
	if after, ok := s.rates.channels.Take(ch.PK, perSecond(l.ChannelMessagesPerSecond)); !ok {
		return s.limited(e.id.Tenant, "channel_messages_per_second", later(after), "a channel takes %d messages a second", l.ChannelMessagesPerSecond)
	}
	return s.takeMessage(l, e.id.Tenant)
}

func (s *Service) takeMessage(l store.Limits, tenant string) error {
	if after, ok := s.rates.tenants.Take(tenant, perSecond(l.MessagesPerSecond)); !ok {
		return s.limited(tenant, "messages_per_second", later(after), "all users together may send %d messages a second", l.MessagesPerSecond)
	}
	return nil
}

// TakeRequest takes an API request from the tenant's bucket.
func (s *Service) TakeRequest(tenant string) error {
	l, err := s.tenantLimits(tenant)
	if err != nil {
		return err
	}
	if after, ok := s.rates.requests.Take(tenant, perSecond(l.APIRequestsPerSecond)); !ok {
		return s.limited(tenant, "api_requests_per_second", after, "the game's servers may make %d requests a second", l.APIRequestsPerSecond)
	}
	return nil
}

// Pace counts n commands, or what costs as much, that a client of the tenant has sent, and says how long to wait before reading on from that client.
func (s *Service) Pace(tenant string, n int) time.Duration {
	frames := max(minFrames, framesPerMessage*s.knownLimits(tenant).MessagesPerSecond)
	return s.rates.frames.Reserve(tenant, limit.Rate{PerSecond: float64(frames), Burst: 2 * frames}, n)
}

// takeLookup refuses who has provoked too many look-ups; the message itself is looked up, or taken, when it comes again.
func (s *Service) takeLookup(id Identity) error {
	after, ok := s.rates.lookups.Take(userKey{id.Tenant, id.User}, userLookups)
	if ok {
		after, ok = s.rates.lookups.Take(userKey{id.Tenant, ""}, tenantLookups)
	}
	if ok {
		return nil
	}
	return &Error{Code: CodeRateLimited, Message: "too many refused messages", Retry: true, After: after}
}

// limited counts a refusal and makes the error that tells of it.
func (s *Service) limited(tenant, name string, after time.Duration, format string, args ...any) error {
	s.counts.limit(tenant, name)
	return &Error{Code: CodeRateLimited, Message: "too many: " + fmt.Sprintf(format, args...), Retry: true, After: after}
}

// later spreads those who share a bucket: told when it has its next token, all would come at that moment.
func later(after time.Duration) time.Duration {
	return after + time.Second/2 + rand.N(time.Second)
}

// Park waits for one of the places for logins and API calls, which are as many as may read the database at a time. First come is
// first served, tenants take turns, and those that nobody knows share one turn: made-up names gain nothing. The error is CodeBusy
// when there is no room to wait in, or none was served before ctx ended. The caller calls leave once.
func (s *Service) Park(ctx context.Context, tenant string) (leave func(), err error) {
	if _, known := s.caches.tenants.peek(tenant); !known {
		known, err = s.meet(ctx, tenant)
		if err != nil {
			return nil, busy(err)
		}
		if !known {
			tenant = ""
		}
	}
	leave, err = s.parking.Enter(ctx, tenant)
	if err != nil {
		return nil, busy(err)
	}
	return leave, nil
}

// meet looks up a tenant that nobody has asked for lately, of whom there may be as many as somebody makes up: a few at a time. What
// cannot be looked up now is not known; whoever has a place finds out why.
func (s *Service) meet(ctx context.Context, tenant string) (known bool, err error) {
	if names.AnyTenant(tenant) != nil {
		return false, nil
	}
	leave, err := s.strangers.Enter(ctx, "")
	if err != nil {
		return false, err
	}
	defer leave()
	_, err = s.readTenant(ctx, tenant)
	return err == nil, nil
}

// Parked returns how many have a place and how many wait for one.
func (s *Service) Parked() (running, waiting int) { return s.parking.Waiting() }

func busy(err error) error {
	e := retryable(CodeBusy, "too many at once")
	var full *limit.FullError
	if errors.As(err, &full) {
		e.After = full.After
	}
	return e
}
