package controlplane

import (
	"fmt"
	"time"
)

// ReleaseKind is what a release does to its version.
type ReleaseKind string

const (
	KindDeploy   ReleaseKind = "deploy"
	KindRollback ReleaseKind = "rollback"
	KindRetire   ReleaseKind = "retire"
)

// The other changes that have a version to themselves, one at a time. They are no releases and in no ledger.
const (
	KindPin      ReleaseKind = "pin"
	KindCanary   ReleaseKind = "canary"
	KindWithdraw ReleaseKind = "canary withdraw"
)

// ReleaseState is how far a release got.
type ReleaseState string

const (
	ReleaseRunning    ReleaseState = "running"
	ReleaseDone       ReleaseState = "done"
	ReleaseFailed     ReleaseState = "failed"
	ReleaseSuperseded ReleaseState = "superseded"
)

// Step is one step of a release as the ledger keeps it.
type Step struct {
	Name    string        `json:"name"`
	State   string        `json:"state"` // running, done, failed, interrupted
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took_ns"`
	Message string        `json:"message,omitempty"`
}

// Release is an entry of the ledger: version V serves build B from now on; who, when, why, how it went.
type Release struct {
	ID         int64        `json:"id"`
	Kind       ReleaseKind  `json:"kind"`
	Version    string       `json:"version"`
	Build      string       `json:"build,omitempty"`
	Label      string       `json:"label,omitempty"`
	Previous   string       `json:"previous,omitempty"` // the build that served before
	State      ReleaseState `json:"state"`
	Who        string       `json:"who"`
	Message    string       `json:"message,omitempty"`
	Node       string       `json:"node"`
	StartedAt  time.Time    `json:"started_at"`
	FinishedAt time.Time    `json:"finished_at,omitzero"`
	Error      *Error       `json:"error,omitempty"`
	Undo       string       `json:"undo,omitempty"`   // the command that takes it back
	Queued     bool         `json:"queued,omitempty"` // done on this host alone; it gets its number when the shared database is back
	Steps      []Step       `json:"steps"`
}

// Name names the release: deploy 12. What has no number, or none yet, is its kind.
func (r *Release) Name() string {
	if r.ID == 0 {
		return string(r.Kind)
	}
	return fmt.Sprintf("%s %d", r.Kind, r.ID)
}

// Ended reports whether nothing more will happen to the release.
func (r *Release) Ended() bool { return r.State != ReleaseRunning }

// ReleaseRequest asks for a release. Who is filled in by the control API from the peer's credentials.
type ReleaseRequest struct {
	Kind    ReleaseKind `json:"kind"`
	Version string      `json:"version"`
	Build   string      `json:"build,omitempty"` // deploy: the sha256; rollback: a build to go to, empty for the previous one
	Message string      `json:"message,omitempty"`
	Force   bool        `json:"force,omitempty"` // retire: although there are holders
	DryRun  bool        `json:"dry_run,omitempty"`
	Gate    Gate        `json:"gate,omitzero"` // deploy and rollback: what else the new set has to pass
	// Wait is how long to wait for the lease, in nanoseconds, behind whoever came before; 0: not at all.
	Wait time.Duration `json:"wait_ns,omitempty"`
	Who  string        `json:"-"`
}

// Gate are an operator's own commands, run by the control plane with a shell after the build's own probe, on the new set's sockets.
// One that does not end with 0 in time keeps the old build.
type Gate struct {
	WarmUp string `json:"warm_up,omitempty"`
	Check  string `json:"check,omitempty"`
}

// Steps are the gate's as a plan names them.
func (g Gate) Steps() (steps []string) {
	if g.WarmUp != "" {
		steps = append(steps, "run the warm-up command")
	}
	if g.Check != "" {
		steps = append(steps, "run the check command")
	}
	return steps
}

// LeaseInfo tells which version is being changed now, and by whom.
type LeaseInfo struct {
	Version string    `json:"version"`
	Node    string    `json:"node"`
	Purpose string    `json:"purpose"`
	Expires time.Time `json:"expires"` // unless it is renewed
	Waiting int       `json:"waiting"` // how many wait for it
}

// Plan is what a request would do; an empty list of steps means nothing would change.
type Plan struct {
	Version string   `json:"version"`
	From    string   `json:"from,omitempty"`
	To      string   `json:"to,omitempty"`
	Steps   []string `json:"steps"`
	Holders []string `json:"holders,omitempty"` // retire: who still uses the version, one line each
}

// BuildInfo is one immutable server binary.
type BuildInfo struct {
	Digest    string    `json:"build"`
	Label     string    `json:"label"`
	Version   string    `json:"version"` // the version it was written for
	Contract  int       `json:"contract"`
	SchemaMin int       `json:"schema_min"`
	SchemaMax int       `json:"schema_max"`
	Size      int64     `json:"size"`
	By        string    `json:"by"`
	CreatedAt time.Time `json:"created_at"`
	UsedBy    []string  `json:"used_by,omitempty"` // versions and sets that hold it
	Missing   bool      `json:"missing,omitempty"` // this host has not its file; uploading it again heals that
}

// BuildCheck is what came of hashing a stored build's file again.
type BuildCheck struct {
	Build   string `json:"build"`
	Version string `json:"version"`
	Label   string `json:"label,omitempty"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"` // missing, another size, another digest
}

// GCRequest asks to collect builds that nothing needs.
type GCRequest struct {
	Keep   int  `json:"keep,omitempty"` // of each version, used or not; 0: as configured
	DryRun bool `json:"dry_run,omitempty"`
}

// GCBuild is a stored build as the collection sees it.
type GCBuild struct {
	Build     string    `json:"build"`
	Version   string    `json:"version,omitempty"` // empty: a file that the database does not know
	Label     string    `json:"label,omitempty"`
	Size      int64     `json:"size"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	Kept      string    `json:"kept,omitempty"` // why; empty: it is collected
}

// Event is one thing that happened on the host, streamed to whoever follows.
type Event struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"` // release, step, instance, nginx, irc, store, audit
	Version string    `json:"version,omitempty"`
	Set     string    `json:"set,omitempty"`
	Release int64     `json:"release,omitempty"`
	Message string    `json:"message"`
	Step    *Step     `json:"step,omitempty"`
	Ended   *Release  `json:"ended,omitempty"` // the last event of a release carries it whole
}

// EventQuery asks for events.
type EventQuery struct {
	Release int64 // of this release only, all its steps so far first; 0: of everything
	Last    int   // how many of the last events first, at most those that are kept
	Follow  bool  // and what happens from now on
}

// LogQuery asks for log lines; empty fields mean all.
type LogQuery struct {
	Version string
	Set     string
	Role    string // "ua", "api", or a component: "nginx", "irc", "controlplane"
	Lines   int    // how many of the last lines first
	Follow  bool
}

// LogLine is one line of an instance's log.
type LogLine struct {
	Source string `json:"source"` // 2.0/s1a2b3c4d/ua
	Text   string `json:"text"`
}
