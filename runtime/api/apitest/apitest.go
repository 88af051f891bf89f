// Package apitest runs the API as a set does: on a unix socket, with a chat service of its own beside that of the UA, so that what
// reaches clients has gone through the database. Tests of runtime/api and of the versions share it; nothing else imports it.
package apitest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/api"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// API is a running API server.
type API struct {
	Service *chat.Service
	Addr    string // unix:/path
	Log     *Log
	bus     *bus
	client  *http.Client
}

// Changes is how often a change was announced so far.
func (a *API) Changes() int64 { return a.bus.changes.Load() }

// bus reaches nobody and counts the announcements of changes.
type bus struct{ changes atomic.Int64 }

func (b *bus) Publish(e *envelope.Envelope) {
	if e.Kind == envelope.Change {
		b.changes.Add(1)
	}
}
func (b *bus) Join(tenant, channel string)  {}
func (b *bus) Leave(tenant, channel string) {}

// Start serves version on st until the test ends.
func Start(t testing.TB, st *store.Store, version string) *API {
	t.Helper()
	return StartWith(t, st, func(svc *chat.Service, log *slog.Logger) http.Handler { return api.Handler(svc, st, version, log) })
}

// StartWith serves another handler on the service.
func StartWith(t testing.TB, st *store.Store, handler func(*chat.Service, *slog.Logger) http.Handler) *API {
	t.Helper()
	log, lines := chatlog.Open(st, chatlog.Options{}), &bus{}
	svc := chat.New(chat.Config{
		Store: st, Log: log, Bus: func(chat.BusEvents) chat.Bus { return lines }, Origin: "node/set/api",
	})
	t.Cleanup(func() {
		svc.Close()
		must(t, log.Close())
	})
	must(t, svc.Ready(t.Context()))
	a := &API{Service: svc, Log: &Log{}, bus: lines}
	path := filepath.Join(testkit.ShortDir(t), "api.sock")
	a.Addr = "unix:" + path
	serve(t, path, handler(svc, slog.New(slog.NewJSONHandler(a.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	a.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return a
}

func serve(t testing.TB, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		must(t, server.Close())
		<-ended
	})
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Call makes one request: method and path, the headers as "Name: value", and the body.
func (a *API) Call(t testing.TB, method, path, body string, headers ...string) Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://kms"+path, strings.NewReader(body))
	must(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := a.client.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return Answer{answer.StatusCode, answer.Header, string(bytes.TrimSpace(text))}
}

// Key gives a tenant a new API key.
func Key(t testing.TB, st *store.Store, tenant string) string {
	t.Helper()
	secret := auth.NewSecret("")
	_, err := st.CreateKey(t.Context(), tenant, "test", auth.Hash(secret))
	must(t, err)
	return secret
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
