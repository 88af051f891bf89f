package controlplane

import "time"

// VersionState is what a version's name stands for.
type VersionState string

const (
	Live    VersionState = "live"
	Retired VersionState = "retired"
)

// SetState is where a set is in its life. Exactly one set of a live version is serving; beside it canaries and pins hold others.
type SetState string

const (
	SetStarting SetState = "starting" // not yet passed its gate
	SetServing  SetState = "serving"  // the slot leads here
	SetCanary   SetState = "canary"   // a share of the users is led here
	SetPinned   SetState = "pinned"   // only pinned tenants are led here
	SetDraining SetState = "draining" // no longer serving, clients are told to move
	SetWarm     SetState = "warm"     // idle, kept for an instant rollback
	SetStopping SetState = "stopping"
	SetFailed   SetState = "failed" // crashed too often
)

// InstanceState is what one process of a set does.
type InstanceState string

const (
	InstanceStarting   InstanceState = "starting"
	InstanceReady      InstanceState = "ready"
	InstanceUnready    InstanceState = "unready" // lives, but its health says no
	InstanceRestarting InstanceState = "restarting"
	InstanceFailed     InstanceState = "failed"
	InstanceStopped    InstanceState = "stopped"
)

// Instance is one process of a set.
type Instance struct {
	Role        string        `json:"role"` // "ua" or "api"
	State       InstanceState `json:"state"`
	PID         int           `json:"pid,omitempty"`
	Socket      string        `json:"socket"`
	StartedAt   time.Time     `json:"started_at,omitzero"`
	Restarts    int           `json:"restarts"`
	Connections int           `json:"connections"`
	MessagesPS  float64       `json:"messages_per_second"`
	RSS         int64         `json:"rss_bytes"`
	Problem     string        `json:"problem,omitempty"` // what is wrong, in one line
}

// Set is one build started for one version on this node.
type Set struct {
	ID        string     `json:"id"`
	Node      string     `json:"node"`
	Version   string     `json:"version"`
	Build     string     `json:"build"` // sha256
	Label     string     `json:"label"`
	State     SetState   `json:"state"`
	StartedAt time.Time  `json:"started_at"`
	WarmUntil time.Time  `json:"warm_until,omitzero"`
	Instances []Instance `json:"instances"`
}

// VersionInfo is a version with everything a list shows.
type VersionInfo struct {
	Name        string       `json:"version"`
	State       VersionState `json:"state"`
	Build       string       `json:"build,omitempty"` // what should serve
	Label       string       `json:"label,omitempty"`
	Healthy     bool         `json:"healthy"`
	Connections int          `json:"connections"`
	MessagesPS  float64      `json:"messages_per_second"`
	UpdatedAt   time.Time    `json:"updated_at"`
	Message     string       `json:"message,omitempty"` // why it was retired
	Deprecation *Deprecation `json:"deprecation,omitempty"`
	Pins        []Pin        `json:"pins,omitempty"`
	Canary      *Canary      `json:"canary,omitempty"`
	Sets        []Set        `json:"sets"`
	Running     *Release     `json:"running,omitempty"` // a release in flight
	Stuck       *Error       `json:"stuck,omitempty"`   // what this host should do with the version, and cannot without its operator
}

// Component is a part beside the versions: nginx, the IRC server, the store, the bus links.
type Component struct {
	Name    string `json:"name"`
	State   string `json:"state"` // ok, degraded, down, absent
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Status is the whole host at a glance.
type Status struct {
	Node       string        `json:"node"`
	PID        int           `json:"pid"`
	Binary     string        `json:"binary"` // kmsctl's own version
	StartedAt  time.Time     `json:"started_at"`
	State      string        `json:"state"` // directory of the state, not a verdict
	Run        string        `json:"run"`
	Healthy    bool          `json:"healthy"`
	HTTP       string        `json:"http,omitempty"`  // http://127.0.0.1:8080
	HTTPS      string        `json:"https,omitempty"` // https://127.0.0.1:8443
	Components []Component   `json:"components"`
	Versions   []VersionInfo `json:"versions"`
}

// Connection is one client connection of a UA instance.
type Connection struct {
	ID          string    `json:"id"`
	Version     string    `json:"version"`
	Set         string    `json:"set"`
	Tenant      string    `json:"tenant"`
	User        string    `json:"user"`
	Name        string    `json:"name"`
	Channels    []string  `json:"channels"`
	Remote      string    `json:"remote"`
	ConnectedAt time.Time `json:"connected_at"`
	LastReadAt  time.Time `json:"last_read_at,omitzero"`
	SentBytes   int64     `json:"sent_bytes"`
	Pending     int64     `json:"pending_bytes"`
}

// Finding is one line of doctor: what is wrong and the command that mends it.
type Finding struct {
	Level   string `json:"level"` // ok, warning, error
	Check   string `json:"check"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}
