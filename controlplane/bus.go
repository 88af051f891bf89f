package controlplane

import "time"

// LinkInfo is an IRC network as operators see it; its password and key never leave the store.
type LinkInfo struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind"`
	Servers   []string  `json:"servers"`
	TLS       bool      `json:"tls"`
	Channels  int       `json:"channels"`
	MaxLine   int       `json:"max_line"`
	State     string    `json:"state"` // active, standby
	CreatedAt time.Time `json:"created_at"`
}

// LinkRequest adds a link. The password comes over the socket, never over a command line; the key is made here.
type LinkRequest struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Servers  []string `json:"servers"`
	TLS      bool     `json:"tls"`
	TLSCA    string   `json:"tls_ca,omitempty"`
	Password string   `json:"password,omitempty"`
	Channels int      `json:"channels,omitempty"`
	MaxLine  int      `json:"max_line,omitempty"`
	Active   bool     `json:"active,omitempty"`
}

// LinkReport is what a test of a link found.
type LinkReport struct {
	Name      string        `json:"name"`
	Server    string        `json:"server"`
	Software  string        `json:"software"`
	RoundTrip time.Duration `json:"round_trip_ns"`
	MaxLine   int           `json:"max_line"`
	OK        bool          `json:"ok"`
	Problem   string        `json:"problem,omitempty"`
}

// BusStatus is how one instance's connection to the bus does, as of the poll a second ago at most. Counts begin with the process.
type BusStatus struct {
	Version    string        `json:"version"`
	Set        string        `json:"set"`
	Role       string        `json:"role"`
	Up         bool          `json:"up"`
	Detail     string        `json:"detail,omitempty"`
	Lag        time.Duration `json:"lag_ns"`     // of the last PING to its IRC server and back
	PerSecond  float64       `json:"per_second"` // messages sent and received between the last two polls
	Sent       float64       `json:"sent_total"`
	Got        float64       `json:"received_total"`
	Refs       float64       `json:"refs_total"`    // sent without their text, which fits no line
	Healed     float64       `json:"healed_total"`  // messages that only the log had: holes of the bus
	Refused    float64       `json:"refused_total"` // lines without a valid HMAC
	Dropped    float64       `json:"dropped_total"` // not sent: the bus was down or its queue full
	Reconnects float64       `json:"reconnects_total"`
}

// BusQuery asks for what travels on a link; empty fields mean all.
type BusQuery struct {
	Link    string // empty: the active one
	Tenant  string
	Channel string
	Version string // of the sending process
	Text    bool   // show what people wrote, and under which name
}

// BusLine is one message on the bus, or a line that processes refuse.
type BusLine struct {
	At      time.Time     `json:"at"` // when it came
	Link    string        `json:"link"`
	Nick    string        `json:"nick"`             // of the sending process, as the IRC server knows it
	Origin  string        `json:"origin,omitempty"` // node/set/role
	Version string        `json:"version,omitempty"`
	Kind    string        `json:"kind,omitempty"`
	Tenant  string        `json:"tenant,omitempty"`
	Channel string        `json:"channel,omitempty"`
	Seq     int64         `json:"seq,omitempty"`
	User    string        `json:"user,omitempty"`
	Size    int           `json:"bytes"`             // of the envelope, or of the refused line's text
	Lag     time.Duration `json:"lag_ns,omitempty"`  // from commit to here, by the clocks of both hosts
	Refused string        `json:"refused,omitempty"` // why processes drop it
	Name    string        `json:"name,omitempty"`
	Text    string        `json:"text,omitempty"`
}

// NginxReport answers `kmsctl nginx test|apply|diff`.
type NginxReport struct {
	OK         bool   `json:"ok"`
	Generation string `json:"generation,omitempty"`
	Workers    int    `json:"workers,omitempty"`  // that answered with the generation; 0 from apply: nginx does not run
	Reloaded   bool   `json:"reloaded,omitempty"` // by apply; false when nothing had changed
	Diff       string `json:"diff,omitempty"`     // unified
	Output     string `json:"output,omitempty"`   // nginx's own words
}
