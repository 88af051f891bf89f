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

// BusStatus is how one instance's connection to the bus does.
type BusStatus struct {
	Version string  `json:"version"`
	Set     string  `json:"set"`
	Role    string  `json:"role"`
	Up      bool    `json:"up"`
	Detail  string  `json:"detail,omitempty"`
	Sent    float64 `json:"sent_total"`
	Got     float64 `json:"received_total"`
	Refused float64 `json:"refused_total"` // lines without a valid HMAC
}

// NginxReport answers `kmsctl nginx test|apply|diff`.
type NginxReport struct {
	OK         bool   `json:"ok"`
	Generation string `json:"generation,omitempty"`
	Workers    int    `json:"workers,omitempty"` // that answered with the generation
	Diff       string `json:"diff,omitempty"`    // unified
	Output     string `json:"output,omitempty"`  // nginx's own words
}
