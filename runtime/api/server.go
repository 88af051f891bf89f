// Package api is the HTTP API that game servers call: users' tokens, channels, members, system messages, the message log and NG
// words of one tenant, under /api/{version}/{tenant}/. It is the same in every server version. Each request goes the same way:
// version, key, route, query, body, handler; whatever happens the answer is JSON with a stable code, and nothing secret is logged.
// What a handler changes is announced, so that it is in force everywhere at once.
package api

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
)

// requestTimeout bounds what one request may wait for the database; nginx would wait longer.
const requestTimeout = 10 * time.Second

// server answers for one version.
type server struct {
	chat    *chat.Service
	store   *store.Store
	version string
	log     *slog.Logger
	timeout time.Duration
}

// Handler serves the API of the version with this public name. Chat and store stay the caller's.
func Handler(svc *chat.Service, st *store.Store, version string, log *slog.Logger) http.Handler {
	return newServer(svc, st, version, log)
}

func newServer(svc *chat.Service, st *store.Store, version string, log *slog.Logger) *server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &server{chat: svc, store: st, version: version, log: log, timeout: requestTimeout}
}

// call is one request on its way.
type call struct {
	*server
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	id     string // of the request, for the logs of both sides
	tenant string
	key    store.APIKey
	route  *route            // nil until found
	path   map[string]string // the route's names, checked
	query  map[string]string // only what the route knows
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	defer cancel()
	c := &call{server: s, w: w, r: r, ctx: ctx, id: requestID(r)}
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store") // answers hold tokens and what may change at any time
	a, err := s.handle(c)
	if err != nil {
		c.refuse(err)
		return
	}
	c.write(a.status, a.body)
}

// handle takes a request through all that stands before its handler. What is to hold for every call (a place to wait in, an answer
// given before) belongs here, behind the key and in front of the route's own function.
func (s *server) handle(c *call) (a answer, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			s.log.Error("internal error: API handler panics", "request", c.id, "route", c.routeName(), "tenant", c.tenant,
				"panic", bug, "stack", string(debug.Stack()))
			err = chat.Errorf(chat.CodeInternal, "internal error")
		}
	}()
	rest, err := c.address()
	if err != nil {
		return a, err
	}
	if c.key, err = s.chat.Key(c.ctx, c.tenant, bearer(c.r)); err != nil {
		return a, keyError(err)
	}
	if err := c.find(rest); err != nil {
		return a, err
	}
	if err := c.readQuery(); err != nil {
		return a, err
	}
	return c.route.do(c)
}

// keyError tells nobody whether the tenant or the key is the wrong one.
func keyError(err error) error {
	if e := chat.AsError(err); e.Code != chat.CodeBadToken && e.Code != chat.CodeBadKey {
		return e
	}
	return chat.Errorf(chat.CodeBadKey, "unknown tenant or API key; want the header Authorization: Bearer KEY")
}

// bearer returns the secret of the Authorization header, empty if there is none.
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

var requestIDRE = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID keeps the id that nginx, or whoever called, gave the request.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); requestIDRE.MatchString(id) {
		return id
	}
	return strings.ToLower(rand.Text())
}

func (c *call) routeName() string {
	if c.route == nil {
		return ""
	}
	return c.route.method + " " + c.route.path
}
