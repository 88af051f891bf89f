package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/store"
)

// Error is what a client is told. Code is stable and the same in every version's protocol; Message is for people and holds no
// secret; Retry says that the same request may succeed later, After when at the earliest (zero: the client's own backoff).
type Error struct {
	Code    string
	Message string
	Retry   bool
	After   time.Duration
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The codes. Protocols pass them on as they are; a client treats one it does not know as CodeInternal.
const (
	CodeBadFrame        = "bad_frame" // not JSON, not UTF-8, an unknown or incomplete command
	CodeTooLarge        = "too_large"
	CodeBadName         = "bad_name" // a channel, user or message id of the wrong form
	CodeNotLoggedIn     = "not_logged_in"
	CodeBadToken        = "bad_token"
	CodeTokenExpired    = "token_expired"
	CodeBadKey          = "bad_key"
	CodeTenantSuspended = "tenant_suspended"
	CodeVersionTooOld   = "version_too_old" // the tenant asks for a newer version; the message names those that live
	CodeNoSuchChannel   = "no_such_channel"
	CodeNotMember       = "not_member"
	CodeNotJoined       = "not_joined"
	CodeNoSuchMessage   = "no_such_message" // to be edited or deleted: not there, deleted already, or another user's
	CodeMuted           = "muted"
	CodeRateLimited     = "rate_limited" // retry
	CodeNGWord          = "ng_word"
	CodeUnavailable     = "unavailable" // retry: the database is away or the state too old
	CodeBusy            = "busy"        // retry: too much at once
	CodeInternal        = "internal"

	CodeTooManyConnections = "too_many_connections" // retry
)

// Errorf makes an Error that is not worth retrying.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func retryable(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Retry: true}
}

// AsError turns any error into what a client may be told: an *Error as it is, what the stores say into its code, anything else
// into CodeInternal without its text.
func AsError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, chatlog.ErrBusy):
		return retryable(CodeBusy, "the message log is busy")
	case errors.Is(err, chatlog.ErrGone):
		return Errorf(CodeNoSuchChannel, "the channel was deleted")
	case errors.Is(err, chatlog.ErrNoTarget):
		return errNoSuchMessage()
	case errors.Is(err, chatlog.ErrTaken):
		return Errorf(CodeBadName, "the id is that of another message")
	case errors.Is(err, chatlog.ErrUnavailable), errors.Is(err, store.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return retryable(CodeUnavailable, "the service cannot reach its database")
	default:
		return &Error{Code: CodeInternal, Message: "internal error"}
	}
}

func errNoSuchMessage() *Error {
	return Errorf(CodeNoSuchMessage, "there is no such message to be changed")
}
