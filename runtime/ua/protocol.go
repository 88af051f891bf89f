// Package ua serves WebSocket sessions: it upgrades the request, holds the first frame to be a login, turns frames into
// commands through a version's Protocol, gives them to the chat service and sends what comes back. Everything that the
// versions share is here; a version brings its Protocol and nothing else.
//
// A session has one reader, which holds a goroutine only while there is something to read. What the service and the hub send goes
// through the hub's connection, so nothing here waits for a client. A Server also answers for the plugin contract: connections,
// kick, drain, counters.
package ua

import (
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// Protocol is a version's wire format. Its methods are called from many goroutines at once and never see a connection.
type Protocol interface {
	hub.Codec
	// Name is the protocol's public name, such as "2.0".
	Name() string
	// Decode reads one frame. An error (best an *chat.Error) refuses the frame as a whole; a command of it that is wrong
	// carries Bad and the others go on. Decode must not keep frame.
	Decode(frame []byte) ([]Command, error)
	// AppendReply appends the ready WebSocket frames of r to dst, or nothing if the protocol has no word for it.
	AppendReply(dst []byte, r Reply) []byte
	// Seamless says that a client told to move opens its new connection first and then leaves by itself. Others are closed
	// as soon as they have been told.
	Seamless() bool
}

// Verb is what a command asks for.
type Verb string

// The verbs. A command with none of them carries Bad.
const (
	Login Verb = "login"
	Join  Verb = "join"
	Leave Verb = "leave"
	Say   Verb = "say"
	Edit  Verb = "edit"
	Del   Verb = "del"
	Ping  Verb = "ping"
)

// Command is one request of a client.
type Command struct {
	Verb    Verb
	Word    string // what the client called it, shortened; only for answers
	Token   string
	Channel string
	ID      string // the client's id of the request, for the answer
	Message string // the message's ULID if the client made it
	Target  string // the message that an edit or a deletion is about
	Text    string
	Retry   bool          // the message may be known already
	Anew    bool          // a join of a joined channel subscribes again; else it is answered and changes nothing
	From    *hub.Position // resume from here
	Stamp   int64         // of a ping, to be sent back
	Stamped bool
	Bad     *chat.Error // refuse it with this
}

// Kind tells replies apart.
type Kind string

// The kinds of replies, with the fields that they use. To is the command answered and empty in what the server sends by itself.
const (
	Welcome Kind = "welcome" // Identity, Limits, Deprecation
	Joined  Kind = "joined"  // To, Joined
	Left    Kind = "left"    // To
	Said    Kind = "said"    // To, Receipt
	Pong    Kind = "pong"    // To
	Refused Kind = "refused" // To, Err
	Removed Kind = "removed" // To.Channel, Code
	Notice  Kind = "notice"  // Deprecation: what Welcome said of it is no longer so
	Moving  Kind = "moving"  // Text, Grace: the server restarts, go to the new one
	Closing Kind = "closing" // Code, Text: the connection is closed next, and not for a restart
)

// Reply is an answer to a command, or a notice that is no message.
type Reply struct {
	Kind     Kind
	To       Command
	Identity chat.Identity
	Limits   Limits
	Joined   hub.Joined
	Receipt  chatlog.Receipt
	Err      *chat.Error
	Code     string
	Text     string
	Grace    time.Duration

	Deprecation store.Deprecation
}

// Limits are what a client may be told at login.
type Limits struct {
	Frame int // bytes
}

// Codes of errors that only a session can make, beside those of chat.
const (
	CodeUnknownCommand  = "unknown_command"
	CodeAlreadyLoggedIn = "already_logged_in"
	CodeTooManyChannels = "too_many_channels"
)
