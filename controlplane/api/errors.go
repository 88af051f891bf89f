package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// statusOfKind is the HTTP status of an error's kind, unless statusOf knows better.
var statusOfKind = map[controlplane.Kind]int{
	controlplane.Failed:    http.StatusInternalServerError,
	controlplane.Usage:     http.StatusBadRequest,
	controlplane.TimedOut:  http.StatusGatewayTimeout,
	controlplane.Denied:    http.StatusForbidden,
	controlplane.LeaseHeld: http.StatusConflict,
	controlplane.InUse:     http.StatusConflict,
	controlplane.Unhealthy: http.StatusUnprocessableEntity,
	controlplane.NotFound:  http.StatusNotFound,
	controlplane.Changes:   http.StatusConflict,
}

// statusError is an answer whose status says more than its kind does, as 413 or 405.
type statusError struct {
	status int
	told   *controlplane.Error
}

func (e *statusError) Error() string { return e.told.Message }

func badRequest(format string, args ...any) error {
	return controlplane.Errorf(controlplane.Usage, format, args...)
}

// answerFor turns any error of a handler into a status and what the caller reads. Errors that have a kind keep it.
func answerFor(err error) (int, *controlplane.Error) {
	var withStatus *statusError
	var typed *controlplane.Error
	var name *names.Error
	var held *store.LeaseHeldError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &withStatus):
		return withStatus.status, withStatus.told
	case errors.As(err, &typed):
		return statusOfKind[typed.Kind], typed
	case errors.As(err, &name):
		return http.StatusBadRequest, controlplane.Errorf(controlplane.Usage, "%v", err)
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, controlplane.Errorf(controlplane.Usage, "body too large: at most %d bytes", tooLarge.Limit)
	case errors.As(err, &held):
		return http.StatusConflict, controlplane.Errorf(controlplane.LeaseHeld, "%v", err)
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound, controlplane.Errorf(controlplane.NotFound, "%v", err)
	case errors.Is(err, store.ErrInUse):
		return http.StatusConflict, controlplane.Errorf(controlplane.InUse, "%v", err)
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrLimit):
		return http.StatusConflict, controlplane.Errorf(controlplane.Failed, "%v", err)
	case errors.Is(err, store.ErrUnavailable):
		return http.StatusServiceUnavailable, controlplane.Errorf(controlplane.Failed, "%v", err).WithHint("kmsctl doctor")
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, controlplane.Errorf(controlplane.TimedOut, "%v", err)
	}
	return http.StatusInternalServerError, controlplane.AsError(err)
}

func writeError(w http.ResponseWriter, err error) {
	status, body := answerFor(err)
	if status == 0 { // a kind that this table does not know
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, `{"kind":"failed","message":"internal error: cannot encode the answer"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // a caller that has gone is no news
}
