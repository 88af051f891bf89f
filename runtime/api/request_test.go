package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/api"
	"github.com/kmsctl/kms/runtime/api/apitest"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestRequest_badInput(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 201, "PUT", "channels/lobby", `{"kind":"world"}`)
	const token, post, words = "PUT users/aki/token", "POST channels/lobby/messages", "PUT ngwords"
	for _, tt := range []struct{ call, body, want string }{
		{token, `{"token":"short"}`, "400 bad_request"},
		{token, `{"token":"` + strings.Repeat("x", 4097) + `"}`, "400 bad_request"},
		{token, `{"token":"not a single word"}`, "400 bad_request"},
		{token, `{"token":"ひらがなひらがなひらがな"}`, "400 bad_request"},
		{token, `{"token":7}`, "400 bad_request"},
		{token, `{"expires_in":0}`, "400 bad_request"},
		{token, `{"expires_in":-5}`, "400 bad_request"},
		{token, `{"expires_in":1e300}`, "400 bad_request"},
		{token, `{"expires_in":315360001}`, "400 bad_request"},
		{token, `{"expires_in":"60"}`, "400 bad_request"},
		{token, `{"name":"a\nb"}`, "400 bad_name"},
		{token, `{"name":"` + strings.Repeat("あ", 65) + `"}`, "400 bad_name"},
		{token, `{"Name":"aki"}`, "400 bad_request"},
		{token, `{"name":"a","name":"b"}`, "400 bad_request"},
		{token, `{"naem":"aki"}`, "400 bad_request"},
		{token, `{"name":"aki"} {}`, "400 bad_request"},
		{token, `{"name":"aki"}x`, "400 bad_request"},
		{token, `{"name":"aki"`, "400 bad_request"},
		{token, "{\"name\":\"\xff\"}", "400 bad_request"},
		{token, `[]`, "400 bad_request"},
		{token, `null`, "400 bad_request"},
		{token, ` `, "400 bad_request"},
		{token, `{"name":` + strings.Repeat("[", 100000) + `}`, "400 bad_request"},
		{token, `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, "413 too_large"},
		{"PUT users/a%2Fb/token", ``, "400 bad_name"},
		{"PUT users/%E3%81%82/token", ``, "400 bad_name"},
		{"PUT users/" + strings.Repeat("a", 65) + "/token", ``, "400 bad_name"},
		{"PUT users/../token", ``, "404 not_found"},
		{"PUT users/%2e%2e/token", ``, "404 not_found"},
		{"PUT users//token", ``, "404 not_found"},
		{"DELETE users/'; DROP TABLE tokens/token", ``, "400 bad_name"},
		{"PUT channels/lobby", `{"kind":"guild"}`, "409 channel_differs"},
		{"PUT channels/lobby", `{"history":"none"}`, "409 channel_differs"},
		{"PUT channels/lobby", `{"name":"Lobby"}`, "409 channel_differs"},
		{"PUT channels/new", `{"kind":"party"}`, "400 bad_request"},
		{"PUT channels/new", `{"history":"some"}`, "400 bad_request"},
		{"PUT channels/new", `{"name":"\u202e"}`, "400 bad_name"},
		{"PUT channels/a b", `{}`, "400 bad_name"},
		{"GET channels/nowhere", ``, "404 no_such_channel"},
		{"DELETE channels/nowhere", ``, "404 no_such_channel"},
		{"GET channels/nowhere/members", ``, "404 no_such_channel"},
		{"PUT channels/nowhere/members/aki", ``, "404 no_such_channel"},
		{"DELETE channels/nowhere/members/aki", ``, "404 no_such_channel"},
		{"DELETE channels/lobby/members/aki", `{"user":"ben"}`, "400 bad_request"},
		{"DELETE channels/lobby/messages/01JD3V4N8ZQ0X5T6Y7W8R9S0AB", `{"id":"01JD3V4NCD9E8F7G6H5J4K3M2N"}`, "400 bad_request"},
		{"DELETE channels/lobby/messages/01JD3V4N8ZQ0X5T6Y7W8R9S0AB", `{}`, "404 no_such_message"},
		{"PUT channels/lobby/members/aki", `{"role":"boss"}`, "400 bad_request"},
		{"PUT channels/lobby/members/a b", ``, "400 bad_name"},
		{"POST channels/nowhere/messages", `{"text":"x"}`, "404 no_such_channel"},
		{post, ``, "400 bad_request"},
		{post, `{"text":" \t"}`, "400 bad_request"},
		{post, `{"text":"` + strings.Repeat("あ", 1001) + `"}`, "413 too_large"},
		{post, `{"text":"x","id":"1"}`, "400 bad_name"},
		{post, `{"text":"x","user":"a b"}`, "400 bad_name"},
		{post, `{"text":"x","name":"\u0007"}`, "400 bad_name"},
		{"GET channels/nowhere/messages", ``, "404 no_such_channel"},
		{"GET channels/lobby/messages?limit=0", ``, "400 bad_request"},
		{"GET channels/lobby/messages?limit=1001", ``, "400 bad_request"},
		{"GET channels/lobby/messages?after=-1", ``, "400 bad_request"},
		{"GET channels/lobby/messages?before=x", ``, "400 bad_request"},
		{"GET channels/lobby/messages?newest=yes", ``, "400 bad_request"},
		{"GET channels/lobby/messages?after=1&after=2", ``, "400 bad_request"},
		{"GET channels/lobby/messages?befor=2", ``, "400 bad_request"},
		{"GET channels/lobby/messages?after=%zz", ``, "400 bad_request"},
		{"GET channels/lobby/messages?after=1;before=2", ``, "400 bad_request"},
		{words, ``, "400 bad_request"},
		{words, `{"words":null}`, "400 bad_request"},
		{words, `{"words":[{"word":""}]}`, "400 bad_request"},
		{words, `{"words":[{"word":" x"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"` + strings.Repeat("x", 101) + `"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"x"},{"word":"x"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"x","Action":"mask"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"x","action":"laugh"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"x","kind":"verb"}]}`, "400 bad_request"},
		{words, `{"words":[{"word":"x","mode":"regexp"}]}`, "400 bad_request"},
		{words, `{"words":[],"revision":-1}`, "400 bad_request"},
		{words, `{"words":[],"revision":7}`, "409 conflict"},
		{words, `{"words":[],"message":"` + strings.Repeat("x", 1001) + `"}`, "400 bad_request"},
		{"PATCH ngwords", `{"add":[{"word":""}]}`, "400 bad_request"},
		{"PATCH ngwords", `{"remove":"x"}`, "400 bad_request"},
		{words, `{"words":[],"settings":{"scopes":["everywhere"]}}`, "400 bad_request"},
		{words, `{"words":[],"settings":{"spacing":"wide"}}`, "400 bad_request"},
		{words, `{"words":[],"settings":{"look_alikes":"maybe"}}`, "400 bad_request"},
		{words, `{"words":[],"settings":{"include":["nowhere"]}}`, "400 bad_request"},
		{words, `{"words":[],"settings":{"inclued":[]}}`, "400 bad_request"},
		{"GET ngwords?limit=0", ``, "400 bad_request"},
		{"GET ngwords?limit=200001", ``, "400 bad_request"},
		{"GET ngwords?revision=x", ``, "400 bad_request"},
		{"GET ngwords?revision=7", ``, "404 no_such_list"},
		{"GET ngwords/lists/nowhere", ``, "404 no_such_list"},
		{"GET ngwords/lists/_base", ``, "400 bad_name"},
		{"GET ngwords/lists/No", ``, "400 bad_name"},
		{"PUT ngwords/lists/%E3%81%82", `{"words":[]}`, "400 bad_name"},
		{"PUT ngwords/base", `{"words":[]}`, "405 method_not_allowed"},
		{"PUT ngwords/base/kms-allow-en", `{"words":[]}`, "404 not_found"},
		{"PATCH ngwords/lists/nowhere", `{"add":[{"word":"x"}]}`, "404 no_such_list"},
		{"DELETE ngwords/lists/nowhere", ``, "404 no_such_list"},
		{"DELETE ngwords/lists/default", ``, "409 in_use"},
		{"DELETE ngwords/lists/default?revision=-1", ``, "400 bad_request"},
		{"GET ngwords/lists/default/history?limit=0", ``, "400 bad_request"},
		{"GET ngwords/lists/default/history?before=x", ``, "400 bad_request"},
		{"GET ngwords/lists/nowhere/history", ``, "404 no_such_list"},
		{"GET ngwords/lists/default/diff", ``, "400 bad_request"},
		{"GET ngwords/lists/default/diff?from=0&to=9", ``, "404 no_such_list"},
		{"POST ngwords/lists/default/rollback", ``, "400 bad_request"},
		{"POST ngwords/lists/default/rollback", `{"to":-1}`, "400 bad_request"},
		{"POST ngwords/lists/default/rollback", `{"to":9}`, "404 no_such_list"},
		{"POST ngwords/test", ``, "400 bad_request"},
		{"POST ngwords/test", `{"text":"x","scope":"party"}`, "400 bad_request"},
		{"POST ngwords/test", `{"text":"` + strings.Repeat("x", 1<<14+1) + `"}`, "400 bad_request"},
		{"GET channels/lobby/messages?flagged=1", ``, "400 bad_request"},
		{"POST ngwords", ``, "405 method_not_allowed"},
		{"DELETE channels", ``, "405 method_not_allowed"},
		{"GET nothing", ``, "404 not_found"},
		{"GET channels/", ``, "404 not_found"},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		a := w.call(t, method, "/api/2.0/demo/"+strings.ReplaceAll(path, " ", "%20"), tt.body)
		if got := fmt.Sprint(a.Status, " ", code(t, a)); got != tt.want {
			t.Errorf("%s %.100s: %s %.200s, want %s", tt.call, tt.body, got, a.Body, tt.want)
		}
		if len(a.Body) > 600 {
			t.Errorf("%s %.100s: a refusal of %d bytes", tt.call, tt.body, len(a.Body))
		}
	}
	if got := w.must(t, 200, "GET", "channels", "").Body; strings.Count(got, `"id"`) != 1 || w.Changes() != 1 {
		t.Errorf("something was changed: %s, announced %d times", got, w.Changes())
	}
}

// endless is a body that goes on for as long as it is read, and counts.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.n += len(p)
	return len(p), nil
}

// TestRequest_bodiesWithoutEnd: what says that it is too large is not read at all, and what does not say so up to the bound.
func TestRequest_bodiesWithoutEnd(t *testing.T) {
	w := sqliteWorld(t)
	for _, length := range []int64{-1, 1 << 40} {
		var body endless
		r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://api/api/2.0/demo/users/aki/token", &body)
		check(t, err)
		r.ContentLength = length
		r.Header.Set("Authorization", "Bearer "+w.key)
		answer := httptest.NewRecorder()
		api.Handler(w.Service, w.store, "2.0", nil).ServeHTTP(answer, r)
		if answer.Code != 413 || length > 0 && body.n > 0 || body.n > 2<<20 {
			t.Errorf("of %d bytes %d were read: %d %s", length, body.n, answer.Code, answer.Body)
		}
	}
}

func TestRequest_bodiesThatCostTooMuch(t *testing.T) {
	w := sqliteWorld(t)
	if a := w.must(t, 400, "PUT", "ngwords", `{"words":[{}`+strings.Repeat(",{}", 300_000)+`]}`); !strings.Contains(a.Body, "more than 200000 entries") {
		t.Errorf("a body of 300,000 empty words: %s", a.Body)
	}
	var fields strings.Builder
	for i := range 40 {
		fmt.Fprintf(&fields, `"%s":1,`, strings.Repeat("x", i+1))
	}
	for body, want := range map[string]string{
		`{"name":` + strings.Repeat("[", 1<<19): "nested too deep",
		`{` + fields.String() + `"name":"x"}`:   "too many fields",
	} {
		if a := w.must(t, 400, "PUT", "users/aki/token", body); !strings.Contains(a.Body, want) {
			t.Errorf("%s, want %s", a.Body, want)
		}
	}
}

func TestRequest_needsTheTenantsKey(t *testing.T) {
	w := sqliteWorld(t)
	bearer := "Authorization: Bearer "
	first := ""
	for _, tt := range []struct{ path, header string }{
		{"/api/2.0/demo/", "X-Nothing: here"},
		{"/api/2.0/demo/", "Authorization: " + w.key},
		{"/api/2.0/demo/", "Authorization: Basic " + w.key},
		{"/api/2.0/demo/", bearer},
		{"/api/2.0/demo/", bearer + "guess"},
		{"/api/2.0/demo/", bearer + strings.Repeat("x", 5000)},
		{"/api/2.0/demo/", bearer + w.other},
		{"/api/2.0/other/", bearer + w.key},
		{"/api/2.0/nobody/", bearer + w.key},
		{"/api/2.0/_probe/", bearer + w.key},
		{"/api/2.0/_secret/", bearer + w.key},
		{"/api/2.0/DEMO/", bearer + w.key},
		{"/api/2.0/demo%00/", bearer + w.key},
		{"/api/2.0/demo/nothing", bearer + w.other}, // who has no key learns no routes
	} {
		a := w.Call(t, "GET", tt.path, "", tt.header)
		if a.Status != 401 || code(t, a) != "bad_key" || a.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %.60s: %d %s", tt.path, tt.header, a.Status, a.Body)
		}
		if first == "" {
			first = a.Body
		}
		if a.Body != first {
			t.Errorf("%s %.60s: another answer gives a hint: %s", tt.path, tt.header, a.Body)
		}
	}
	if !strings.Contains(first, "Authorization: Bearer KEY") {
		t.Errorf("the answer does not say what is wanted: %s", first)
	}
	if a := w.Call(t, "GET", "/api/2.0/demo/", "", "Authorization: bearer  "+w.key); a.Status != 200 {
		t.Errorf("the right key: %d %s", a.Status, a.Body)
	}
}

func TestRequest_addressesThatMeanNothing(t *testing.T) {
	w := sqliteWorld(t)
	for path, want := range map[string]string{
		"/":                          "not_found",
		"/api":                       "not_found",
		"/api/2.0/demo":              "not_found",
		"/ua/2.0/demo/":              "not_found",
		"/api/2.0/other/../demo/":    "not_found",
		"/api/2.0/./demo/":           "not_found",
		"/api/2.0//demo/":            "not_found",
		"/api/2.0/demo/%2e%2e/demo/": "not_found",
		"/api/1.0/demo/":             "no_such_version",
		"/api/2.0-dragon/demo/":      "no_such_version",
	} {
		if a := w.call(t, "GET", path, ""); a.Status != 404 || code(t, a) != want {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
}

func TestRequest_headersOfTheAnswer(t *testing.T) {
	w := sqliteWorld(t)
	auth := "Authorization: Bearer " + w.key
	if a := w.Call(t, "POST", "/api/2.0/demo/ngwords", "", auth); a.Header.Get("Allow") != "GET, PUT, PATCH" {
		t.Errorf("Allow: %q", a.Header.Get("Allow"))
	}
	if a := w.Call(t, "GET", "/api/2.0/demo/?u=aki", "", auth, "X-Request-Id: from-nginx.1"); a.Header.Get("X-Request-Id") != "from-nginx.1" ||
		a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", a.Header)
	}
	if a := w.Call(t, "GET", "/api/2.0/demo/", "", auth, `X-Request-Id: "forged":1`); len(a.Header.Get("X-Request-Id")) < 16 {
		t.Errorf("X-Request-Id: %q", a.Header.Get("X-Request-Id"))
	}
	if a := w.Call(t, "HEAD", "/api/2.0/demo/", "", auth); a.Status != 200 || a.Body != "" {
		t.Errorf("HEAD: %d %q", a.Status, a.Body)
	}
}

func TestRequest_suspendedTenantAndRevokedKey(t *testing.T) {
	w := sqliteWorld(t)
	w.must(t, 200, "GET", "", "")
	check(t, w.store.SetTenantState(t.Context(), "demo", "suspended"))
	testkit.Eventually(t, 5*time.Second, "the suspension to be in force", func() bool {
		return w.call(t, "GET", "/api/2.0/demo/", "").Status != 200
	})
	if a := w.must(t, 403, "GET", "", ""); code(t, a) != "tenant_suspended" {
		t.Error(a.Body)
	}
	keys, err := w.store.Keys(t.Context(), "other")
	check(t, err)
	auth := "Authorization: Bearer " + w.other
	if a := w.Call(t, "GET", "/api/2.0/other/", "", auth); a.Status != 200 {
		t.Fatal(a.Body)
	}
	check(t, w.store.RevokeKey(t.Context(), "other", keys[0].ID))
	testkit.Eventually(t, 5*time.Second, "the revocation to be in force", func() bool {
		return w.Call(t, "GET", "/api/2.0/other/", "", auth).Status == 401
	})
}

// away serves w's tenants with a database that cannot be reached behind the key check.
func away(t *testing.T, w *world) *apitest.API {
	gone := openStore(t, "mysql://kms:secret-password@"+testkit.FreeAddr(t)+"/kms")
	return apitest.StartWith(t, w.store, func(svc *chat.Service, log *slog.Logger) http.Handler {
		return api.Handler(svc, gone, "2.0", log)
	})
}

func TestRequest_databaseAway(t *testing.T) {
	w := sqliteWorld(t)
	server := away(t, w)
	for _, call := range []string{
		"GET channels", "GET channels/a", "PUT channels/a", "DELETE channels/a", "GET channels/a/members", "PUT channels/a/members/u",
		"DELETE channels/a/members/u", "GET channels/a/messages", "PUT users/u/token", "DELETE users/u/token", "GET ngwords", "PATCH ngwords",
		"GET ngwords/base", "GET ngwords/lists", "DELETE ngwords/lists/a", "GET ngwords/lists/a/history", "GET ngwords/lists/a/diff?from=0",
	} {
		method, path, _ := strings.Cut(call, " ")
		a := server.Call(t, method, "/api/2.0/demo/"+path, "", "Authorization: Bearer "+w.key)
		if a.Status != 503 || code(t, a) != "unavailable" || a.Header.Get("Retry-After") != "1" || strings.Contains(a.Body, "127.0.0.1") {
			t.Errorf("%s: %d %v %s", call, a.Status, a.Header, a.Body)
		}
	}
	if server.Changes() != 0 {
		t.Errorf("%d announcements of nothing", server.Changes())
	}
	if log := server.Log.String(); !strings.Contains(log, `"route":"GET ngwords"`) || strings.Contains(log, "secret-password") {
		t.Error(log)
	}
}

func TestRequest_aDatabaseThatIsBusy(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "kms.db")
	w := newWorld(t, url)
	server := apitest.StartWith(t, w.store, func(svc *chat.Service, _ *slog.Logger) http.Handler {
		return api.HandlerWithin(300*time.Millisecond, svc, w.store, "2.0")
	})
	held, release := make(chan struct{}), make(chan struct{})
	other, ended := openStore(t, url), make(chan error)
	go func() {
		ended <- other.Write(t.Context(), func(*store.Tx) error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	auth := "Authorization: Bearer " + w.key
	if a := server.Call(t, "PUT", "/api/2.0/demo/channels/late", "", auth); a.Status != 503 || code(t, a) != "unavailable" {
		t.Errorf("a write behind another that does not end: %d %s", a.Status, a.Body)
	}
	if a := server.Call(t, "GET", "/api/2.0/demo/channels/late", "", auth); a.Status != 404 {
		t.Errorf("a read meanwhile: %d %s", a.Status, a.Body)
	}
	close(release)
	check(t, <-ended)
	if a := server.Call(t, "PUT", "/api/2.0/demo/channels/late", "", auth); a.Status != 201 {
		t.Errorf("after it: %d %s", a.Status, a.Body)
	}
}

func TestRequest_aPanicIsAnInternalError(t *testing.T) {
	w := sqliteWorld(t)
	broken := apitest.StartWith(t, w.store, func(svc *chat.Service, log *slog.Logger) http.Handler {
		return api.Handler(svc, nil, "2.0", log) // any handler that reads the store panics
	})
	auth := "Authorization: Bearer " + w.key
	a := broken.Call(t, "GET", "/api/2.0/demo/channels", "", auth, "X-Request-Id: find-me")
	if a.Status != 500 || a.Body != `{"code":"internal","message":"internal error"}` {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := broken.Call(t, "GET", "/api/2.0/demo/", "", auth); a.Status != 200 {
		t.Errorf("after the panic: %d %s", a.Status, a.Body)
	}
	if log := broken.Log.String(); !strings.Contains(log, `"request":"find-me"`) || !strings.Contains(log, "getChannels") {
		t.Error(log)
	}
}

func TestRequest_logsNoSecrets(t *testing.T) {
	w := sqliteWorld(t)
	const secret = "a-secret-of-the-game"
	server := away(t, w)
	for _, a := range []*apitest.API{w.API, server} {
		for _, body := range []string{`{"token":"` + secret + `"}`, `{"token":"` + secret + `","x":1}`, `{"token":"` + secret} {
			a.Call(t, "PUT", "/api/2.0/demo/users/aki/token", body, "Authorization: Bearer "+w.key)
			a.Call(t, "PUT", "/api/2.0/demo/users/aki/token?token="+secret, body, "Authorization: Bearer "+w.key+secret)
		}
		if log := a.Log.String(); strings.Contains(log, secret) || strings.Contains(log, w.key) {
			t.Error(log)
		}
	}
}
