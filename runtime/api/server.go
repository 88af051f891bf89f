// Package api is the HTTP API that game servers call: users' tokens, channels, members, system messages, the message log and NG
// words of one tenant, under /api/{version}/{tenant}/. It is the same in every server version. Each request goes the same way:
// version, key, route, query, body, handler; whatever happens the answer is JSON with a stable code, and nothing secret is logged.
// What a handler changes is announced, so that it is in force everywhere at once.
package api

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/limit"
	"github.com/kmsctl/kms/runtime/store"
)

// Requests that hold whole NG lists in memory, some 60 MiB for one of 200,000 words, run a few at a time; others wait.
const (
	maxHeavy        = 4
	maxHeavyWaiting = 256
	heavyTimeout    = 25 * time.Second // a rollback of a long list takes a few; nginx waits for 30
)

// parkTimeout is how long a request may wait for its place; what is left of requestTimeout is for the request itself.
const parkTimeout = 5 * time.Second

// requestTimeout bounds what one request may wait for the database; nginx would wait longer.
const requestTimeout = 10 * time.Second

// server answers for one version.
type server struct {
	chat    *chat.Service
	store   *store.Store
	version string
	log     *slog.Logger
	timeout time.Duration
	heavy   *limit.Parking
}

// Handler serves the API of the version with this public name. Chat and store stay the caller's.
func Handler(svc *chat.Service, st *store.Store, version string, log *slog.Logger) http.Handler {
	return newServer(svc, st, version, log)
}

func newServer(svc *chat.Service, st *store.Store, version string, log *slog.Logger) *server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &server{chat: svc, store: st, version: version, log: log, timeout: requestTimeout, heavy: limit.NewParking(maxHeavy, maxHeavyWaiting)}
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

	matching bool   // the change is for the revision that If-Match names
	leave    func() // the place that it has, once it is answered
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	defer cancel()
	c := &call{server: s, w: w, r: r, ctx: ctx, id: requestID(r)}
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("Cache-Control", "no-store") // answers hold tokens and what may change at any time
	tellDeprecation(h, s.chat.Deprecation(ctx))
	defer func() {
		if c.leave != nil {
			c.leave()
		}
	}()
	a, err := s.handle(c)
	if err != nil {
		c.refuse(err)
		return
	}
	c.write(a.status, a.body)
}

// tellDeprecation says in the headers of RFC 9745 and RFC 8594 that the version will go away, and when.
func tellDeprecation(h http.Header, d store.Deprecation) {
	if d.Deprecated.IsZero() {
		return
	}
	h.Set("Deprecation", "@"+strconv.FormatInt(d.Deprecated.Unix(), 10))
	if !d.Sunset.IsZero() {
		h.Set("Sunset", d.Sunset.UTC().Format(http.TimeFormat))
	}
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
	if c.leave, err = c.park(); err != nil {
		return a, err
	}
	if c.key, err = s.chat.Key(c.ctx, c.tenant, bearer(c.r)); err != nil {
		return a, keyError(err)
	}
	if err := s.chat.TakeRequest(c.tenant); err != nil {
		return a, err
	}
	if err := c.find(rest); err != nil {
		return a, err
	}
	if err := c.readQuery(); err != nil {
		return a, err
	}
	return c.route.do(c)
}

// park waits for a place, first come first served; tenants take turns.
func (c *call) park() (leave func(), err error) {
	ctx, cancel := context.WithTimeout(c.ctx, parkTimeout)
	defer cancel()
	return c.chat.Park(ctx, c.tenant)
}

// heavy makes a handler wait for one of the places for those that need much memory, which tenants share fairly. It gives up the place
// that every request has: many that wait here must not hold up the others.
func heavy(do func(*call) (answer, error)) func(*call) (answer, error) {
	return func(c *call) (a answer, err error) {
		ctx, cancel := context.WithTimeout(c.r.Context(), heavyTimeout)
		defer cancel()
		c.ctx = ctx
		c.leave()
		if c.leave, err = c.heavy.Enter(c.ctx, c.tenant); err != nil {
			busy := &chat.Error{Code: chat.CodeBusy, Message: "too many requests about NG lists at once", Retry: true}
			var full *limit.FullError
			if errors.As(err, &full) {
				busy.After = full.After
			}
			return a, busy
		}
		return do(c)
	}
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
