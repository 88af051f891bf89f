package ua

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// Service is what a session needs of *chat.Service.
type Service interface {
	Hub() *hub.Hub
	Login(ctx context.Context, tenant, token string) (chat.Identity, error)
	Deprecation(ctx context.Context) store.Deprecation
	Attach(chat.Session) error
	Pace(tenant string, commands int) time.Duration
	Detach(chat.Session)
	Moving(s chat.Session, moving bool)
	Join(ctx context.Context, s chat.Session, channel string, from *hub.Position, ack func(hub.Joined) []byte) error
	Leave(s chat.Session, channel string) error
	Say(s chat.Session, r chat.SayRequest, done func(chatlog.Receipt, error))
}

// Options of a server; zero values are the defaults that the protocol pages name.
type Options struct {
	Version       string        // the public name that this set serves; "" is the protocol's own
	MaxFrame      int           // bytes of a client's frame, 16 KiB
	LoginDeadline time.Duration // from the upgrade to the login frame, and from there to its answer, 10 s
	Grace         time.Duration // how long a client of a seamless protocol may take to move, 10 s
	Logger        *slog.Logger
}

const (
	defaultMaxFrame = 16 << 10
	defaultDeadline = 10 * time.Second
	defaultGrace    = 10 * time.Second
	requestTimeout  = 5 * time.Second // of a join, whose store may be slow
	maxInFlight     = 64
	maxChannels     = 200
	maxBadFrames    = 10
)

// Server is the http.Handler of a version's WebSockets. Close ends it.
type Server struct {
	svc   Service
	proto Protocol
	opts  Options
	log   *slog.Logger
	name  string // of this server in connection ids, so that those of two processes differ

	counters counters
	nextID   atomic.Uint64
	wg       sync.WaitGroup  // readers
	ctx      context.Context // of what they ask the service; ended by Close
	cancel   context.CancelFunc

	mu       sync.Mutex
	sessions map[*session]struct{} // all, logged in or not
	drain    *drain                // nil unless draining
	closed   bool
}

// Handler makes a server that translates between p's clients and svc.
func Handler(svc Service, p Protocol, o Options) *Server {
	if o.Version == "" {
		o.Version = p.Name()
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = defaultMaxFrame
	}
	if o.LoginDeadline <= 0 {
		o.LoginDeadline = defaultDeadline
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		svc: svc, proto: p, opts: o, log: o.Logger, name: strings.ToLower(rand.Text()[:6]),
		ctx:      ctx,
		cancel:   cancel,
		sessions: make(map[*session]struct{}),
	}
}

// ServeHTTP takes `/ua/{version}/{tenant}`, the request URI as nginx passes it on. Any Origin may connect: game clients have
// none, and a token, not a cookie, is what lets a page in.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, tenant, ok := splitPath(r.URL.Path)
	switch {
	case !ok || version != s.opts.Version:
		refuse(w, http.StatusNotFound, "no_such_version", "this server serves version "+s.opts.Version+" at /ua/"+s.opts.Version+"/TENANT")
	case names.AnyTenant(tenant) != nil:
		refuse(w, http.StatusNotFound, "no_such_tenant", "the URL names no possible tenant")
	case !websocket.IsWebSocketUpgrade(r):
		w.Header().Set("Upgrade", "websocket")
		refuse(w, http.StatusUpgradeRequired, "upgrade_required", "this address speaks WebSocket")
	case s.isClosed():
		refuse(w, http.StatusServiceUnavailable, chat.CodeUnavailable, "the server is stopping")
	default:
		s.accept(w, r, tenant)
	}
}

// accept upgrades and starts the session on a goroutine of its own, so that net/http's goroutine, request and buffers go.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, tenant string) {
	conn, err := s.svc.Hub().Upgrade(w, r, hub.UpgradeOptions{MaxFrame: s.opts.MaxFrame, Refuse: refuseHandshake})
	if err != nil {
		s.log.Debug("cannot upgrade", "tenant", tenant, "err", err) // the upgrader has answered
		return
	}
	c := &session{srv: s, conn: conn, id: s.nextID.Add(1), tenant: strings.Clone(tenant), remote: remote(r), since: time.Now()}
	c.calm.L = &c.mu
	conn.Owner, conn.Pace = c, c.pace
	conn.CloseAt(c.since.Add(s.opts.LoginDeadline), hub.CloseUnauthorized, "no login in time")
	if !s.enter(c) {
		conn.Close(hub.CloseRestart, "the server is stopping")
		return
	}
	c.start()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// enter registers a new session; false after Close.
func (s *Server) enter(c *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	s.sessions[c] = struct{}{}
	s.counters.accepted.Add(1)
	return true
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
}

// all returns the sessions of this moment.
func (s *Server) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		list = append(list, c)
	}
	return list
}

// Shutdown refuses new connections, tells every client to go elsewhere, lets what it has said be answered, closes with 1012
// and waits for all to be gone until ctx ends.
func (s *Server) Shutdown(ctx context.Context, message string) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.CancelDrain()
	for _, c := range s.all() {
		c.restart(message)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(s.all()) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close ends all sessions at once and waits for their goroutines. Shutdown first is kinder.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.CancelDrain()
	for _, c := range s.all() {
		c.conn.Close(hub.CloseRestart, "the server is stopping")
	}
	s.cancel()
	s.wg.Wait()
}

// splitPath takes /ua/{version}/{tenant} apart.
func splitPath(path string) (version, tenant string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/ua/")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// remote is the client's address as nginx, the only one that reaches our socket, reports it; it is shown, never trusted.
func remote(r *http.Request) string {
	list := r.Header.Get("X-Forwarded-For")
	last := strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
	if ip := net.ParseIP(last); ip != nil {
		return ip.String()
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return strings.Clone(host)
}

func refuseHandshake(w http.ResponseWriter, status int, why string) {
	refuse(w, status, "bad_handshake", why)
}

// refuse answers a request that becomes no WebSocket.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // the client may be gone
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code, message})
}
