// Package envelope is the one format in which a message travels on the bus and rests in the log: one line of compact JSON
// with short keys that never change their meaning. All server versions share it and translate at their own edge only.
// Adding a field or a kind keeps the format version: a reader keeps fields that it does not know and writes them back, and
// drops kinds that it does not know. Only a change that an old reader would misunderstand raises the version.
package envelope

// Version is the format version that this code writes, and the newest that it reads.
const Version = 1

// The kinds of this version. Say to Delete are logged; Join and Leave are presence; Change only wakes readers up.
const (
	Say    = "say"
	System = "system"
	Edit   = "edit"
	Delete = "delete"
	Join   = "join"
	Leave  = "leave"
	Change = "change"
)

// Bounds of an envelope in bytes. Parse refuses what is longer; senders check before they make one.
const (
	MaxText  = 64 << 10
	MaxBytes = 512 << 10 // a text of control characters grows sixfold when it is escaped
	maxID    = 64
	maxName  = 1024
	maxKind  = 32
	maxFrom  = 256
	maxFlag  = 1024

	// MaxFlags bounds Flags.
	MaxFlags = 16
)

// Envelope is one message. Zero fields are left out of the line.
type Envelope struct {
	V       int    // format version, 0 for the one that this code writes
	Kind    string // one of the kinds, or one that a newer version knows
	Tenant  string
	Channel string
	Epoch   string // the channel's, together with Seq
	Seq     int64  // position in the channel's log, from 1; 0 for what is not logged
	ID      string // the message's ULID
	User    string // who sent it, empty for the system
	Name    string // the display name at that time
	Text    string
	Target  string // the message id that an edit or deletion is about
	At      int64  // Unix milliseconds of the commit
	Shadow  bool   // for the eyes of User only
	Ref     bool   // the text is left out: read (Channel, Seq) from the log
	Origin  string // node/set/role of the sending process
	// Flags are the NG words for which moderators are to look at the message: for the log only, never for clients. Not written to.
	Flags []string
	// Edited, in the log only, is the id of the edit that a message has its text from: the next change of the message ends that, too.
	Edited string

	extra []byte // members that this version does not know, as `,"key":value`, clean and in order
}

// Logged reports whether the kind stands in the log and has a seq.
func (e *Envelope) Logged() bool {
	switch e.Kind {
	case Say, System, Edit, Delete:
		return true
	}
	return false
}

// Known reports whether this version knows what the kind means. What it does not know it must not deliver.
func (e *Envelope) Known() bool {
	switch e.Kind {
	case Join, Leave, Change:
		return true
	}
	return e.Logged()
}

// Clone returns a copy that shares no state that either could change.
func (e *Envelope) Clone() *Envelope {
	c := *e
	return &c // strings, Flags and extra are never written to
}
