package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/store"
)

// The codes that only the API has. The others are those of package chat.
const (
	codeBadRequest       = "bad_request"
	codeNotFound         = "not_found"
	codeMethodNotAllowed = "method_not_allowed"
	codeNoSuchVersion    = "no_such_version"
	codeChannelDiffers   = "channel_differs"
	codeTokenTaken       = "token_taken"
	codeTokenRevoked     = "token_revoked"
	codeConflict         = "conflict"
	codePrecondition     = "precondition_failed"
	codeNoSuchList       = "no_such_list"
	codeInUse            = "in_use"
	codeLimit            = "limit_reached"
)

// statusOf is the HTTP status of every code that the API answers; docs/api.md lists them all.
var statusOf = map[string]int{
	codeBadRequest:           http.StatusBadRequest,
	chat.CodeBadName:         http.StatusBadRequest,
	chat.CodeBadKey:          http.StatusUnauthorized,
	chat.CodeTenantSuspended: http.StatusForbidden,
	chat.CodeVersionTooOld:   http.StatusForbidden,
	codeNotFound:             http.StatusNotFound,
	codeNoSuchVersion:        http.StatusNotFound,
	chat.CodeNoSuchChannel:   http.StatusNotFound,
	chat.CodeNoSuchMessage:   http.StatusNotFound,
	codeMethodNotAllowed:     http.StatusMethodNotAllowed,
	codeChannelDiffers:       http.StatusConflict,
	codeTokenTaken:           http.StatusConflict,
	codeTokenRevoked:         http.StatusConflict,
	codeConflict:             http.StatusConflict,
	codeInUse:                http.StatusConflict,
	codePrecondition:         http.StatusPreconditionFailed,
	codeNoSuchList:           http.StatusNotFound,
	codeLimit:                http.StatusUnprocessableEntity,
	chat.CodeNGWord:          http.StatusUnprocessableEntity,
	chat.CodeTooLarge:        http.StatusRequestEntityTooLarge,
	chat.CodeRateLimited:     http.StatusTooManyRequests,
	chat.CodeInternal:        http.StatusInternalServerError,
	chat.CodeUnavailable:     http.StatusServiceUnavailable,
	chat.CodeBusy:            http.StatusServiceUnavailable,
}

// answer is what a handler gives back; without a body the status is 204.
type answer struct {
	status int
	body   any
}

func ok(body any) (answer, error) { return answer{http.StatusOK, body}, nil }

var done = answer{status: http.StatusNoContent}

// problem is the body of every refusal.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func badRequest(format string, args ...any) error {
	return chat.Errorf(codeBadRequest, format, args...)
}

// clip bounds what is quoted of a request.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// told turns any error into what the caller reads.
func told(err error) *chat.Error {
	if errors.Is(err, chatlog.ErrGone) {
		err = noSuchChannel()
	}
	if errors.Is(err, store.ErrLimit) {
		err = chat.Errorf(codeLimit, "%v", err) // says what is how much
	}
	e := chat.AsError(err)
	if e.Code == chat.CodeBadFrame { // a word for WebSocket
		return chat.Errorf(codeBadRequest, "%s", e.Message)
	}
	if statusOf[e.Code] == 0 {
		return chat.Errorf(chat.CodeInternal, "internal error")
	}
	return e
}

func noSuchChannel() error { return chat.Errorf(chat.CodeNoSuchChannel, "there is no such channel") }

// missing makes ErrNotFound, which a write about a channel met, the answer that there is no such channel.
func missing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return noSuchChannel()
	}
	return err
}

// refuse answers an error. What the caller cannot have caused is logged.
func (c *call) refuse(err error) {
	e := told(err)
	status := statusOf[e.Code]
	switch status {
	case http.StatusInternalServerError:
		c.log.Error("cannot answer an API request", "request", c.id, "route", c.routeName(), "tenant", c.tenant, "error", err)
	case http.StatusServiceUnavailable:
		c.log.Warn("API request refused for now", "request", c.id, "route", c.routeName(), "tenant", c.tenant, "error", err)
	}
	h := c.w.Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(max(1, int((e.After+time.Second-1)/time.Second))))
	}
	c.write(status, problem{e.Code, e.Message})
}

func (c *call) write(status int, body any) {
	if body == nil {
		c.w.WriteHeader(status)
		return
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil { // nothing that cannot be encoded is ever answered
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(text.Bytes()) // a caller that has gone is no news
}
