package controlplane

import (
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is. It crosses the control socket as text; the CLI turns it into an exit code.
type Kind string

const (
	Failed    Kind = "failed"
	Usage     Kind = "usage"
	TimedOut  Kind = "timed_out" // still running
	Denied    Kind = "denied"
	LeaseHeld Kind = "lease_held"
	InUse     Kind = "in_use"
	Unhealthy Kind = "unhealthy" // the old build was kept
	NotFound  Kind = "not_found"
	Changes   Kind = "changes" // a plan or diff has changes
)

// exitCodes is the table of DESIGN 4, documented in docs/operations.md: scripts rely on it.
var exitCodes = map[Kind]int{
	Failed: 1, Usage: 2, TimedOut: 3, Denied: 4, LeaseHeld: 5, InUse: 6, Unhealthy: 7, NotFound: 8, Changes: 10,
}

// ExitCode returns the process exit code for a kind; an unknown kind counts as failed.
func (k Kind) ExitCode() int {
	if code, ok := exitCodes[k]; ok {
		return code
	}
	return exitCodes[Failed]
}

// Error is what an operator sees: a kind, a sentence that names the thing, and the next command to type.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error of a kind without a hint.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy that names the next command to type.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// AsError turns any error into an Error; one that is none already becomes Failed.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Failed, Message: err.Error()}
}
