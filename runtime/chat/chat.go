// Package chat is one process's share of a message's way: who may log in, join and speak; what is refused, masked or hidden; that
// nothing is acknowledged before it is committed; and that what was committed reaches the hub here and the bus for everyone else.
// It keeps the open sessions, unlearns what the changes feed says, and stops accepting when it can no longer know. Server versions
// differ in their wire protocol only: all of them sit on one Service.
package chat

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/kmsctl/kms/runtime/changes"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/limit"
	"github.com/kmsctl/kms/runtime/store"
)

// maxStale is how old the knowledge of revocations may be before logins, joins and sends are refused.
const maxStale = 10 * time.Second

// dbTimeout bounds every database read that a client waits for.
const dbTimeout = 2 * time.Second

// Store is what the service reads of the shared database.
type Store interface {
	changes.Source
	Tenant(ctx context.Context, id string) (store.Tenant, error)
	Version(ctx context.Context, name string) (store.Version, error)
	Versions(ctx context.Context) ([]store.Version, error)
	LookupToken(ctx context.Context, tenant, hash string) (store.Token, error)
	LookupKey(ctx context.Context, hash string) (store.APIKey, error)
	TouchKey(ctx context.Context, k store.APIKey) error
	Channel(ctx context.Context, tenant, id string) (store.Channel, error)
	IsMember(ctx context.Context, channelPK int64, user string) (bool, error)
	NGLists(ctx context.Context, tenant string) ([]store.NGList, error)
	NGRead(ctx context.Context, tenant, list string) (store.NGList, error)
}

// Log is what the service needs of the message log.
type Log interface {
	Read(ctx context.Context, channelPK, after, upTo int64, limit int) ([]*envelope.Envelope, error)
	Head(ctx context.Context, channelPK int64) (chatlog.Head, error)
	Append(channelPK int64, e *envelope.Envelope, done func(chatlog.Receipt, error))
	Find(ctx context.Context, channelPK int64, e *envelope.Envelope) (chatlog.Receipt, bool, error)
	Moved(ctx context.Context, since time.Time) ([]chatlog.Head, time.Time, error)
}

// Bus carries envelopes to the other processes.
type Bus interface {
	Publish(e *envelope.Envelope)
	Join(tenant, channel string)
	Leave(tenant, channel string)
}

// BusEvents are the bus's calls into the service.
type BusEvents struct {
	Receive func(e *envelope.Envelope)
	Gone    func(nick string)
	Here    func(nick string)
	State   func(up bool)
}

// Config is what a Service is made of. The Service owns the hub that it makes, the bus that OpenBus returns and its goroutines; the
// store and the log belong to the caller, who closes them after the Service.
type Config struct {
	Store Store
	Log   Log
	Hub   *hub.Options // its Log, OnRoom and Logger are filled in; nil where no client connects (the API role)
	Bus   func(BusEvents) Bus
	// Version is the public name that the process serves: tenants may ask for a newer one. Empty: as new as any.
	Version string
	Origin  string // node/set/role, told in every envelope; its bus nick is told by the bus
	Limits  Limits
	Logger  *slog.Logger

	maxStale time.Duration // tests shorten it
}

// Service is safe for concurrent use.
type Service struct {
	cfg      Config
	log      *slog.Logger
	hub      *hub.Hub // nil in the API role
	bus      Bus
	follower *changes.Follower

	caches   caches
	words    *words
	presence *presence
	recent   *recent
	used     usedKeys
	parking  *limit.Parking
	rates    rates

	strangers *limit.Parking // before parking, for tenants that are not known yet
	own       atomic.Pointer[Limits]

	mu       sync.RWMutex
	sessions map[Session]*entry
	tenants  map[string]*tenantSessions
	nextEnd  time.Time // no session's token ends before
	flagged  map[*entry]struct{}
	recheck  chan struct{}
	notice   chan struct{} // what is said of the version may have changed

	pending  atomic.Int64 // messages between Say and their answer
	counts   counts
	complain rate.Sometimes // about the database

	ready  chan struct{} // closed once the bus is there: its callbacks may come before
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type userKey struct{ tenant, user string }

// New starts a service. It does not wait for database or bus.
func New(cfg Config) *Service {
	if cfg.maxStale == 0 {
		cfg.maxStale = maxStale
	}
	s := &Service{
		cfg:     cfg,
		log:     cfg.Logger,
		caches:  newCaches(),
		recent:  newRecent(maxRecent),
		parking: limit.NewParking(0, 0),
		rates:   newRates(),

		strangers: limit.NewParking(0, 0),
		sessions:  map[Session]*entry{},
		tenants:   map[string]*tenantSessions{},
		flagged:   map[*entry]struct{}{},
		recheck:   make(chan struct{}, 1),
		notice:    make(chan struct{}, 1),
		ready:     make(chan struct{}),
		complain:  rate.Sometimes{Interval: time.Second},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.SetLimits(cfg.Limits)
	s.words = newWords(s.ctx, cfg.Store, s.log)
	s.presence = newPresence(cfg.Origin, s.publish, s.deliver)
	if cfg.Hub != nil {
		o := *cfg.Hub
		o.Log, o.OnRoom, o.Logger = hubLog{cfg.Log}, s.room, s.log
		s.hub = hub.New(o)
	}
	s.bus = cfg.Bus(BusEvents{Receive: s.receive, Gone: s.gone, Here: s.here, State: s.busState})
	s.follower = changes.Follow(cfg.Store, changes.Options{OnChanges: s.changed, OnReload: s.reload, Logger: s.log})
	close(s.ready)

	s.run(s.presence.loop)
	s.run(s.sweepLoop)
	s.run(s.recheckLoop)
	s.run(s.noticeLoop)
	s.run(s.touchLoop)
	if s.hub != nil {
		s.run(s.headLoop)
	}
	return s
}

func (s *Service) run(loop func(context.Context)) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		loop(s.ctx)
	}()
}

// Close stops the service's goroutines and the hub. Connections are the caller's to close first, the bus and the log after.
func (s *Service) Close() {
	s.cancel()
	s.follower.Close()
	s.wg.Wait()
	s.words.close()
	if s.hub != nil {
		s.hub.Close()
	}
}

// Hub is where this process's connections are; nil in the API role.
func (s *Service) Hub() *hub.Hub { return s.hub }

// Changed tells every process, this one first, that rows were added to the changes feed: what the API writes is in force at once
// and not only after the next poll. It does not block.
func (s *Service) Changed() {
	s.follower.Wake()
	s.bus.Publish(&envelope.Envelope{Kind: envelope.Change, Origin: s.cfg.Origin})
}

// Stale is how long ago the changes feed was last read to its end.
func (s *Service) Stale() time.Duration { return s.follower.Stale() }

// Ready waits until the changes feed was read once: only then logins and sends are taken.
func (s *Service) Ready(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.fresh() != nil {
		select {
		case <-ctx.Done():
			return s.fresh()
		case <-tick.C:
		}
	}
	return nil
}

// begun is fresh for logins: those that come in a service's first moments wait for its first look at the feed.
func (s *Service) begun(ctx context.Context) error {
	if s.follower.Stale() == math.MaxInt64 {
		ctx, cancel := context.WithTimeout(ctx, dbTimeout)
		defer cancel()
		return s.Ready(ctx)
	}
	return s.fresh()
}

// fresh refuses what must not go on while nobody knows what was revoked.
func (s *Service) fresh() error {
	if s.follower.Stale() > s.cfg.maxStale {
		return retryable(CodeUnavailable, "the service cannot reach its database")
	}
	return nil
}

// receive takes what another process published.
func (s *Service) receive(e *envelope.Envelope) {
	<-s.ready
	switch e.Kind {
	case envelope.Change:
		s.follower.Wake()
	case envelope.Join, envelope.Leave:
		s.presence.remote(e)
	default:
		s.deliver(e)
	}
}

func (s *Service) gone(nick string) {
	<-s.ready
	s.presence.gone(nick)
}

func (s *Service) here(nick string) {
	<-s.ready
	s.presence.here(nick)
}

// busState reacts to the connection's return: changes may have been announced in the meantime, and nobody heard who is here.
func (s *Service) busState(up bool) {
	<-s.ready
	if up {
		s.follower.Wake()
		s.presence.announceSoon()
	}
}

// room follows the hub: the bus brings only the channels that somebody here is subscribed to.
func (s *Service) room(ch hub.Channel, active bool) {
	if active {
		s.bus.Join(ch.Tenant, ch.ID)
	} else {
		s.bus.Leave(ch.Tenant, ch.ID)
		s.presence.forget(ch.Tenant, ch.ID)
	}
}

func (s *Service) publish(e *envelope.Envelope) { s.bus.Publish(e) }

func (s *Service) deliver(e *envelope.Envelope) {
	if s.hub != nil {
		s.hub.Deliver(e)
	}
}
