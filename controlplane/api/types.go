package api

import (
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

// Tenant is a game app that shares this KMS.
type Tenant struct {
	ID        string    `json:"tenant"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // active, suspended
	CreatedAt time.Time `json:"created_at"`
	// MinVersion is the oldest version that serves the tenant; empty: all do.
	MinVersion string `json:"min_version,omitempty"`
	// KeepSeconds is how long messages are kept; 0: for ever.
	KeepSeconds int64 `json:"keep_seconds,omitempty"`
}

// TenantChange asks for other settings of a tenant; what is nil stays.
type TenantChange struct {
	MinVersion  *string `json:"min_version,omitempty"`  // empty: any version
	KeepSeconds *int64  `json:"keep_seconds,omitempty"` // 0: for ever
}

// TenantLimit is one of a tenant's limits, and what it refused in the processes of this host since they started.
type TenantLimit struct {
	Limit   string `json:"limit"`
	Value   int    `json:"value"` // in force
	Set     bool   `json:"set"`   // else it is the default
	Refused int64  `json:"refused"`
	Default int    `json:"default"`
	Max     int    `json:"max"` // the most it can be set to
	About   string `json:"about"`
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

// NGWord is an entry of an NG list. Empty fields of a change mean: kind word, action reject, mode auto.
type NGWord struct {
	Word   string `json:"word"`
	Kind   string `json:"kind,omitempty"`   // word, allow
	Action string `json:"action,omitempty"` // reject, mask, flag, shadow
	Mode   string `json:"mode,omitempty"`   // auto, word, substring
}

// NGSettings are an NG list's settings.
type NGSettings = store.NGSettings

// NGListInfo is an NG list without its words. A list that nobody has changed yet has revision 0.
type NGListInfo struct {
	Tenant    string     `json:"tenant"`
	List      string     `json:"list"`
	Revision  int64      `json:"revision"`
	Count     int        `json:"count"`             // of entries
	Shipped   bool       `json:"shipped,omitempty"` // comes with KMS, cannot be changed
	Settings  NGSettings `json:"settings"`
	ChangedAt time.Time  `json:"changed_at,omitzero"`
	ChangedBy string     `json:"changed_by,omitempty"`
	Message   string     `json:"message,omitempty"`
}

// NGList is an NG list at a revision.
type NGList struct {
	NGListInfo
	Words []NGWord `json:"words"`
}

// NGChange asks for a new revision. With Base it is refused unless the list is still at that revision. Settings make the list
// when it is not there.
type NGChange struct {
	Base     *int64      `json:"base,omitempty"`
	Add      []NGWord    `json:"add,omitempty"` // added, or set anew
	Remove   []string    `json:"remove,omitempty"`
	Replace  *[]NGWord   `json:"replace,omitempty"` // instead of both: exactly these
	Settings *NGSettings `json:"settings,omitempty"`
}

// NGChanged is what a change did to a list. Revision is the old one if nothing changed.
type NGChanged struct {
	Tenant   string      `json:"tenant"`
	List     string      `json:"list"`
	Revision int64       `json:"revision"`
	Added    int         `json:"added"`
	Changed  int         `json:"changed"`
	Removed  int         `json:"removed"`
	Settings *NGSettings `json:"settings,omitempty"` // if they changed
}

// NGRollback asks for a list as it was at a revision, settings included, as a new revision.
type NGRollback struct {
	Revision int64  `json:"revision"`
	Base     *int64 `json:"base,omitempty"`
}

// NGRevision is one change of a list. An entry that was changed counts as added and as removed.
type NGRevision struct {
	Revision int64       `json:"revision"`
	At       time.Time   `json:"at"`
	Author   string      `json:"author"`
	Message  string      `json:"message,omitempty"`
	Added    int         `json:"added"`
	Removed  int         `json:"removed"`
	Settings *NGSettings `json:"settings,omitempty"` // if they changed
}

// NGDiff is what a list has at one revision and not at another. A changed entry stands in both Added and Removed.
type NGDiff struct {
	Tenant         string      `json:"tenant"`
	List           string      `json:"list"`
	From           int64       `json:"from"`
	To             int64       `json:"to"`
	Added          []NGWord    `json:"added"`
	Removed        []NGWord    `json:"removed"`
	SettingsBefore *NGSettings `json:"settings_before,omitempty"` // both, if they differ
	SettingsAfter  *NGSettings `json:"settings_after,omitempty"`
}

// NGPlan is what a change would do, and what it would mean for people who chat.
type NGPlan struct {
	NGDiff
	Findings []NGFinding `json:"findings"`
	LeftOut  int         `json:"left_out,omitempty"` // findings beyond the first 500 of their kind
	Sampled  int         `json:"sampled"`            // recent lines of the log that the words were tried on
}

// NGFinding is something that whoever adds a word may not know. By its kind:
// empty: it holds nothing to look for. same: it folds to the letters of Other. hidden: Other is found in it already.
// allowed: the allow entry Other of List takes it away wherever it stands. ordinary: it is found in Lines entries of the allow-list
// List, such as Example. log: it is found in Lines recent lines of the log, such as Example.
type NGFinding struct {
	Kind    string `json:"kind"`
	Word    string `json:"word"`
	List    string `json:"list,omitempty"`
	Other   string `json:"other,omitempty"`
	Lines   int    `json:"lines,omitempty"`
	Example string `json:"example,omitempty"`
	Spared  bool   `json:"spared,omitempty"` // of ordinary: the list includes that allow-list, which lets them through
}

// NGTexts asks what a tenant's NG lists do to texts.
type NGTexts struct {
	Scope string   `json:"scope,omitempty"` // where they would stand: world (when empty), guild, direct, name
	Texts []string `json:"texts"`
}

// NGHit is one place where an NG word was found. Start and End are byte offsets in the text.
type NGHit struct {
	List     string   `json:"list"` // base lists as _base/NAME
	Word     string   `json:"word"`
	Action   string   `json:"action"`
	Start    int      `json:"start"`
	End      int      `json:"end"`
	Found    string   `json:"found"`              // the text from Start to End
	Foldings []string `json:"foldings,omitempty"` // what made the word of it; none: it stands there letter by letter
	By       string   `json:"by,omitempty"`       // of Allowed: the allow entry that took it away
	ByList   string   `json:"by_list,omitempty"`  // and its list
}

// NGVerdict is what would happen to a text. An empty Action means that it passes untouched.
type NGVerdict struct {
	Action  string  `json:"action"`
	Text    string  `json:"text"` // as it would be delivered
	Hits    []NGHit `json:"hits"`
	Allowed []NGHit `json:"allowed"` // words that are there and do not count
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
