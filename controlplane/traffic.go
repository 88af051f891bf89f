package controlplane

import "time"

// Pin holds a tenant on a build of a version, whatever serves the others.
type Pin struct {
	Version string    `json:"version"`
	Tenant  string    `json:"tenant"`
	Build   string    `json:"build"` // sha256
	Label   string    `json:"label,omitempty"`
	Set     string    `json:"set"`            // where the tenant is led
	Until   time.Time `json:"until,omitzero"` // zero: until it is taken away
	Since   time.Time `json:"since"`
	Who     string    `json:"who"`
	Message string    `json:"message,omitempty"`
}

// PinRequest asks for a pin. Who is filled in by the control API from the peer's credentials.
type PinRequest struct {
	Version string    `json:"-"`
	Tenant  string    `json:"-"`
	Build   string    `json:"build"`
	Until   time.Time `json:"until,omitzero"` // zero: no end; else in the future, at most a year from now
	Message string    `json:"message,omitempty"`
	// Wait is how long to wait for the version's lease, in nanoseconds, behind whoever came before; 0: not at all.
	Wait time.Duration `json:"wait_ns,omitempty"`
	Who  string        `json:"-"`
}

// UnpinRequest asks to take a pin away.
type UnpinRequest struct{ Version, Tenant, Message, Who string }

// WithdrawRequest asks to end a version's canary.
type WithdrawRequest struct{ Version, Message, Who string }

// Canary is a build that a share of a version's users is led to, until it is promoted or withdrawn.
type Canary struct {
	Version string    `json:"version"`
	Build   string    `json:"build"` // sha256
	Label   string    `json:"label,omitempty"`
	Set     string    `json:"set"`
	Beside  string    `json:"beside"`  // the set that serves the others; when another serves, the canary is over
	Percent int       `json:"percent"` // 1 to 99
	Since   time.Time `json:"since"`
	Who     string    `json:"who"`
	Message string    `json:"message,omitempty"`
	// Counted is what the processes of both sets had counted when it began, by set and counter.
	Counted map[string]map[string]float64 `json:"counted,omitempty"`
}

// CanaryRequest asks for a canary, or for another share of the one there is. Who is filled in by the control API from the peer's
// credentials.
type CanaryRequest struct {
	Version string `json:"-"`
	Build   string `json:"build"`
	Percent int    `json:"percent"` // 1 to 99
	Message string `json:"message,omitempty"`
	Gate    Gate   `json:"gate,omitzero"` // what else the canary's set has to pass
	// Wait is how long to wait for the version's lease, in nanoseconds, behind whoever came before; 0: not at all.
	Wait time.Duration `json:"wait_ns,omitempty"`
	Who  string        `json:"-"`
}

// CanaryReport holds a canary's build against the one that serves the others.
type CanaryReport struct {
	Canary Canary     `json:"canary"`
	From   time.Time  `json:"from"` // since when nginx's log was counted: the canary's beginning, or later when the log is long
	Stable CanarySide `json:"stable"`
	New    CanarySide `json:"new"`
}

// CanarySide is one of the two builds. Traffic is what nginx saw since From; all else is what the set's own processes counted since
// they began.
type CanarySide struct {
	Build       string           `json:"build"`
	Label       string           `json:"label,omitempty"`
	Set         string           `json:"set"`
	Healthy     bool             `json:"healthy"`
	Restarts    int              `json:"restarts"`
	Connections int              `json:"connections"`
	MessagesPS  float64          `json:"messages_per_second"`
	Logins      int64            `json:"logins"`
	LoginErrors int64            `json:"login_errors"`
	Frames      int64            `json:"frames"`
	FrameErrors int64            `json:"frame_errors"` // requests of clients that were refused
	Closed      map[string]int64 `json:"closed"`       // close code -> connections
	Traffic     Traffic          `json:"traffic"`
}

// Traffic is what nginx's access log tells of one build. Pinned tenants and our own probes are left out.
type Traffic struct {
	Requests   int64   `json:"requests"`    // of the API
	Errors     int64   `json:"errors"`      // of them, answered with 500 and above
	P50        float64 `json:"p50_seconds"` // of the API's answers
	P99        float64 `json:"p99_seconds"`
	WebSockets int64   `json:"websockets"` // opened and ended
	Refused    int64   `json:"refused"`    // handshakes answered with 400 and above
}

// ErrorRate is the share of API requests and handshakes that failed, 0 to 1.
func (t Traffic) ErrorRate() float64 {
	all := t.Requests + t.WebSockets + t.Refused
	if all == 0 {
		return 0
	}
	return float64(t.Errors+t.Refused) / float64(all)
}

// DrainRequest asks to move a set's clients, or for another pace of a drain that runs. Who is filled in by the control API from the
// peer's credentials.
type DrainRequest struct {
	Target   string  `json:"target"`                     // a set, or a version: those of its sets that are being left
	Rate     float64 `json:"rate,omitempty"`             // clients told a second, at most 100,000; 0: as configured
	Deadline int64   `json:"deadline_seconds,omitempty"` // what is left then is closed, at most a day; 0: as configured
	Message  string  `json:"message,omitempty"`          // for the clients and the audit trail
	Who      string  `json:"-"`
}

// Drain tells how far the clients of a set have moved.
type Drain struct {
	Set     string           `json:"set"`
	Version string           `json:"version"`
	Build   string           `json:"build"`
	Label   string           `json:"label,omitempty"`
	State   SetState         `json:"state"`
	Running bool             `json:"running"`
	Once    bool             `json:"once,omitempty"` // who is connected is told once, and comes back to where he is led
	Left    int              `json:"left"`           // connections that are still to go
	Tenants map[string]int64 `json:"tenants"`        // the same by tenant; who has not logged in is in none
	Rate    float64          `json:"rate"`           // clients told a second, as asked for
	Pace    float64          `json:"pace"`           // and as it is now: less, or 0, while the sets they come to are unwell
	Why     string           `json:"why,omitempty"`  // it is slower
	Since   time.Time        `json:"since,omitzero"`
	Until   time.Time        `json:"until,omitzero"` // what is left then is closed
	Message string           `json:"message,omitempty"`
}

// Deprecation says that a version will go away.
type Deprecation struct {
	Since   time.Time `json:"since"`
	Sunset  time.Time `json:"sunset,omitzero"` // when; zero: not set
	Message string    `json:"message,omitempty"`
}

// DeprecationRequest asks to say so.
type DeprecationRequest struct {
	Version string    `json:"-"`
	Sunset  time.Time `json:"sunset,omitzero"` // in the future, at most ten years from now
	Message string    `json:"message,omitempty"`
}
