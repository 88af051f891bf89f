// Package supervise starts, adopts and stops the processes of a host: server versions, which are go-plugin children, and
// daemons such as nginx and the IRC server. They run in sessions of their own and outlive the control plane; a later one
// adopts them from a Record, after checks that make sure it talks to the process it means. Nothing here restarts anything:
// Backoff says when to, the daemon does it.
package supervise

import (
	"errors"
	"fmt"
)

// Record is what a later control plane needs to adopt a process, as JSON. It holds no secret.
type Record struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // clock ticks after boot, from /proc: with the boot id it names one process for good
	BootID     string `json:"boot_id"`

	// Of instances.
	Set        string `json:"set,omitempty"`
	Role       string `json:"role,omitempty"`
	Addr       string `json:"addr,omitempty"` // go-plugin's socket
	Protocol   int    `json:"protocol,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`

	// Of daemons.
	Name string `json:"name,omitempty"`
	Exe  string `json:"exe,omitempty"` // what /proc says is executed
}

func (r Record) String() string {
	if r.Name != "" {
		return fmt.Sprintf("%s (pid %d)", r.Name, r.PID)
	}
	return fmt.Sprintf("%s of set %q (pid %d)", r.Role, r.Set, r.PID)
}

var (
	// ErrGone: the recorded process runs no more. Start another.
	ErrGone = errors.New("the process is gone")
	// ErrStranger: somebody else answers on the recorded socket, or another instance than the recorded one. It was left alone.
	ErrStranger = errors.New("not the process that was recorded")
	// ErrUnresponsive: the recorded process lives but does not answer. Kill it with KillRecord before starting another.
	ErrUnresponsive = errors.New("the process does not answer")
)

// StartError says why an instance or daemon did not come up. Whatever was started has been killed.
type StartError struct {
	What  string   // "ua of set \"s1234\""
	Cause error    // *BuildError, *plugin.ContractError, ...
	Tail  []string // its last log lines, safe to print
}

func (e *StartError) Error() string { return fmt.Sprintf("cannot start %s: %v", e.What, e.Cause) }
func (e *StartError) Unwrap() error { return e.Cause }

// BuildReason is why a file cannot serve as a build.
type BuildReason string

const (
	NotExecutable BuildReason = "not executable" // missing, no permission, or for another machine
	NotABuild     BuildReason = "not a build"    // does not answer `describe`, or with nonsense
	WrongDigest   BuildReason = "wrong digest"   // its bytes are not those that were asked for
	ProbeFailed   BuildReason = "probe failed"
	BadHandshake  BuildReason = "bad handshake" // printed something else, or nothing in time
	DiedAtOnce    BuildReason = "died at once"
)

// BuildError names the file and what is wrong with it.
type BuildError struct {
	Path   string
	Reason BuildReason
	Detail string
	Cause  error    // the error Detail tells of, where there is one
	Tail   []string // last lines of its stderr, safe to print
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("build %q: %s: %s", e.Path, e.Reason, e.Detail)
}
func (e *BuildError) Unwrap() error { return e.Cause }
