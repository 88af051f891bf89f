package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/controlplane"
)

// route is one call of the API. The table in routes.go is all there is, and docs/control-api.yaml is held against it.
type route struct {
	method, path string
	action       string // what the audit trail calls it; empty: it changes nothing
	query        []string
	timeout      time.Duration // 0: the default; streams and uploads have none
	do           func(*call) (any, error)
	stream       func(*call) error // instead of do: answers by itself once all is checked
}

const (
	defaultTimeout = 30 * time.Second
	ngTimeout      = 5 * time.Minute  // lists of 200,000 words on a busy host
	startTimeout   = 2 * time.Minute  // what may start and probe a set
	gateTimeout    = 7 * time.Minute  // a gate's commands and what is around them
	longTimeout    = 30 * time.Minute // backup and restore of a large database
	maxMessage     = 1000             // code points of an audit message
)

// call is one request on its way through a handler.
type call struct {
	Backend
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	who     string
	subject string // of the audit entry; the path's names unless the handler knows better
	message string // why, for the audit
	audited bool   // by the backend, whose entry outlives a kill
}

type server struct {
	backend Backend
	log     *slog.Logger
	mux     *http.ServeMux
}

// NewServer returns the handler of the control API. The http.Server around it needs ConnContext, and a BaseContext that ends
// with the daemon, so that streams end too.
func NewServer(b Backend, log *slog.Logger) http.Handler {
	s := &server{backend: b, log: log, mux: http.NewServeMux()}
	for _, rt := range routes {
		s.mux.Handle(rt.method+" "+rt.path, s.handler(rt))
	}
	s.mux.HandleFunc("/", s.noRoute)
	return s.mux
}

var pathNames = regexp.MustCompile(`\{([a-z]+)\}`)

// handler runs a route: who, query, deadline, the handler itself, the answer, and for changes the one audit entry.
func (s *server) handler(rt route) http.Handler {
	allowed := rt.query
	if rt.action != "" {
		allowed = append(slices.Clone(allowed), "message")
	}
	var inPath []string
	for _, m := range pathNames.FindAllStringSubmatch(rt.path, -1) {
		inPath = append(inPath, m[1])
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Backend: s.backend, w: w, r: r, ctx: r.Context(), who: whoCalls(r.Context()), message: r.URL.Query().Get("message")}
		var values []string
		for _, name := range inPath {
			values = append(values, r.PathValue(name))
		}
		c.subject = strings.Join(values, "/")
		if rt.timeout >= 0 && rt.stream == nil {
			var cancel context.CancelFunc
			c.ctx, cancel = context.WithTimeout(c.ctx, max(rt.timeout, defaultTimeout))
			defer cancel()
		}
		result, err := s.run(rt, c, allowed)
		s.audit(rt, c, err)
		s.answer(rt, w, r, result, err)
	})
}

// run calls the handler unless the request as such is wrong. A handler that panics is a bug, told as one.
func (s *server) run(rt route, c *call, allowed []string) (result any, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			s.log.Error("internal error: control API handler panics", "route", rt.path, "panic", bug, "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("internal error: %v", bug)
		}
	}()
	if err := c.checkQuery(allowed); err != nil {
		return nil, err
	}
	if rt.action != "" {
		if c.who == "" {
			return nil, controlplane.Errorf(controlplane.Denied, "cannot tell who calls: no peer credentials on this connection")
		}
		if err := checkMessage(c.message); err != nil {
			return nil, err
		}
	}
	if rt.stream != nil {
		return nil, rt.stream(c)
	}
	return rt.do(c)
}

func checkMessage(message string) error {
	if !utf8.ValidString(message) || utf8.RuneCountInString(message) > maxMessage {
		return badRequest("bad message: want UTF-8 of at most %d characters", maxMessage)
	}
	return nil
}

// audit records a change, also one that was refused, and also when the caller has gone meanwhile. What the backend was asked to audit itself
// it does.
func (s *server) audit(rt route, c *call, err error) {
	if rt.action == "" || c.audited {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), 5*time.Second)
	defer cancel()
	message := c.message
	if checkMessage(message) != nil {
		message = ""
	}
	s.backend.Audited(ctx, c.who, rt.action, clip(c.subject, 200), message, err)
}

// clip bounds what a caller may put into the audit trail by naming things that do not exist.
func clip(s string, max int) string {
	s = strings.ToValidUTF8(s, "?")
	if utf8.RuneCountInString(s) <= max {
		return s
	}
	return string([]rune(s)[:max]) + "…"
}

func (s *server) answer(rt route, w http.ResponseWriter, r *http.Request, result any, err error) {
	switch {
	case errors.Is(err, errAnswered):
	case err != nil:
		if r.Context().Err() == nil {
			s.log.Debug("control API refuses", "method", r.Method, "route", rt.path, "error", err)
		}
		if r.Close && r.ContentLength > 0 {
			lingers(w)
		}
		writeError(w, err)
	case rt.stream != nil:
	case result == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		status := http.StatusOK
		if rt.method == http.MethodPost && rt.action != "" {
			status = http.StatusCreated
		}
		writeJSON(w, status, result)
	}
}

// lingers keeps the connection for half a second after the answer. A caller that says "Connection: close" would otherwise have it break
// under a body that was refused unread, and tell of that instead of why; to others net/http does so by itself.
func lingers(w http.ResponseWriter) {
	http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1)) // all that tells it a body was too much
}

// noRoute answers what no route matches: 405 when another method would, else 404.
func (s *server) noRoute(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" && pattern != "" {
			methods = append(methods, method)
		}
	}
	if len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeError(w, methodNotAllowed(r.Method, r.URL.Path))
		return
	}
	writeError(w, controlplane.Errorf(controlplane.NotFound, "no route %q", r.URL.Path).WithHint("docs/control-api.yaml lists the routes"))
}
