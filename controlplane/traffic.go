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
	Who     string    `json:"-"`
}

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
}
