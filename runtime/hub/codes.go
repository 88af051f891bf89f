package hub

// Why a connection was closed. Codes from 4000 on are ours and mean the same in every protocol; Codes has the sentence for
// the documentation and says whether reconnecting makes sense.
const (
	CloseNormal       = 1000
	CloseGoingAway    = 1001
	CloseProtocol     = 1002
	CloseBinary       = 1003
	CloseNotUTF8      = 1007
	CloseTooLarge     = 1009
	CloseInternal     = 1011
	CloseRestart      = 1012
	CloseTryLater     = 1013
	CloseBadFrame     = 4400
	CloseUnauthorized = 4401
	CloseForbidden    = 4403
	CloseSlow         = 4408
	CloseIdle         = 4410
)

// Code documents one close code.
type Code struct {
	Code      int
	Name      string
	Reconnect bool // whether the same client may come back with the same credentials
	Means     string
}

// Codes is every close code that a client can see, in ascending order.
var Codes = []Code{
	{CloseNormal, "normal", false, "the client said goodbye"},
	{CloseGoingAway, "going_away", true, "the other side went away"},
	{CloseProtocol, "protocol_error", false, "a frame broke the WebSocket protocol"},
	{CloseBinary, "binary", false, "a binary message; only text is spoken"},
	{CloseNotUTF8, "not_utf8", false, "a text message that is not valid UTF-8"},
	{CloseTooLarge, "too_large", false, "a message over the size limit"},
	{CloseInternal, "internal", true, "a fault of the server"},
	{CloseRestart, "restart", true, "announced: this server is being replaced, reconnect now"},
	{CloseTryLater, "try_later", true, "overloaded, not ready or over a quota, reconnect with backoff"},
	{CloseBadFrame, "bad_frame", false, "a message that the protocol does not know, or out of order"},
	{CloseUnauthorized, "unauthorized", false, "no login in time, or the token is unknown, expired or revoked"},
	{CloseForbidden, "forbidden", false, "kicked, or the tenant is suspended"},
	{CloseSlow, "slow_reader", true, "the client reads slower than its channels talk"},
	{CloseIdle, "idle", true, "nothing was heard from the client for too long"},
}
