package api

import "time"

// Tenant is a game app that shares this KMS.
type Tenant struct {
	ID        string    `json:"tenant"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // active, suspended
	CreatedAt time.Time `json:"created_at"`
}

// NewTenant asks for a tenant. An empty name means its id.
type NewTenant struct {
	ID   string `json:"tenant"`
	Name string `json:"name,omitempty"`
}

// Key is an API key as it may be shown: never the secret itself.
type Key struct {
	ID        string    `json:"id"`
	Tenant    string    `json:"tenant"`
	Label     string    `json:"label"`
	CreatedAt time.Time `json:"created_at"`
	LastUsed  time.Time `json:"last_used,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// NewKey asks for an API key.
type NewKey struct {
	Label string `json:"label,omitempty"`
}

// MadeKey is the only answer that ever carries an API key's secret.
type MadeKey struct {
	Key
	Secret string `json:"secret"`
}

// NewToken asks for a user's token. An empty Token has one made; Seconds 0 means that it does not expire.
type NewToken struct {
	Token   string `json:"token,omitempty"`
	Name    string `json:"name,omitempty"` // display name; empty: keeps the one there is, at first the user's id
	Seconds int64  `json:"seconds,omitempty"`
}

// MadeToken answers NewToken. Secret is empty when the caller chose the token.
type MadeToken struct {
	Tenant    string    `json:"tenant"`
	User      string    `json:"user"`
	Name      string    `json:"name"`
	Secret    string    `json:"secret,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Count answers calls that act on several things at once.
type Count struct {
	Count int `json:"count"`
}

// Channel is a channel of a tenant. Head is its newest seq, First the oldest that is kept.
type Channel struct {
	Tenant    string    `json:"tenant"`
	ID        string    `json:"channel"`
	Kind      string    `json:"kind"`    // world, guild, direct
	History   string    `json:"history"` // log, none
	Name      string    `json:"name"`
	Epoch     string    `json:"epoch"`
	Head      int64     `json:"head"`
	First     int64     `json:"first"`
	CreatedAt time.Time `json:"created_at"`
}

// NewChannel asks for a channel. Empty fields mean: kind guild, history log, and the id as name.
type NewChannel struct {
	ID      string `json:"channel"`
	Kind    string `json:"kind,omitempty"`
	History string `json:"history,omitempty"`
	Name    string `json:"name,omitempty"`
}

// NGWord is an entry of a tenant's NG list.
type NGWord struct {
	Word   string `json:"word"`
	Kind   string `json:"kind,omitempty"`   // word, allow
	Action string `json:"action,omitempty"` // reject, mask, flag, shadow
	Mode   string `json:"mode,omitempty"`   // auto, word, substring
}

// NGList is a tenant's NG list at a revision.
type NGList struct {
	Tenant   string   `json:"tenant"`
	Revision int64    `json:"revision"`
	Words    []NGWord `json:"words"`
}

// NGChange asks for a new revision. With Base it is refused unless the list is still at that revision.
type NGChange struct {
	Base   *int64   `json:"base,omitempty"`
	Add    []NGWord `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// NGText asks what a tenant's NG list does to a text.
type NGText struct {
	Text string `json:"text"`
}

// NGHit is one NG word found. Start and End are byte offsets in the text.
type NGHit struct {
	Word   string `json:"word"`
	Action string `json:"action"`
	Start  int    `json:"start"`
	End    int    `json:"end"`
}

// NGVerdict is what would happen to a text. An empty Action means that it passes untouched.
type NGVerdict struct {
	Action string  `json:"action"`
	Text   string  `json:"text"` // as it would be delivered
	Hits   []NGHit `json:"hits"`
}

// AuditEntry is one line of the audit trail.
type AuditEntry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Message string    `json:"message,omitempty"`
	Result  string    `json:"result"`
	Node    string    `json:"node"`
}

// KickRequest names connections to close; at least one field besides Reason must be given.
type KickRequest struct {
	ID      string `json:"id,omitempty"`
	Version string `json:"version,omitempty"`
	Set     string `json:"set,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	User    string `json:"user,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// FilePath names a file on the control plane's host, absolute.
type FilePath struct {
	Path string `json:"path"`
}
