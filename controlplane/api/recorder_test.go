package api_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
)

var discard = slog.New(slog.DiscardHandler)

// newRecorder calls a handler without a socket, and so without a peer.
func newRecorder(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}
