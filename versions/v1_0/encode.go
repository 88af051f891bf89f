package main

import (
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ua"
)

// protocol is 1.0 on the wire, as docs/protocol/1.0.md tells it.
type protocol struct{}

func (protocol) Name() string { return version }

// Seamless is false: a 1.0 client knows one connection only.
func (protocol) Seamless() bool { return false }

// AppendBatch gives each envelope a frame of its own. Edits and deletions are not told in 1.0, and neither is what was deleted before
// it got here.
func (protocol) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for _, e := range batch {
		dst = ua.AppendFrame(dst, func(b []byte) []byte { return appendEnvelope(b, e) })
	}
	return dst
}

func appendEnvelope(b []byte, e *envelope.Envelope) []byte {
	if e.Text == "" && (e.Kind == envelope.Say || e.Kind == envelope.System) {
		return b
	}
	switch e.Kind {
	case envelope.Say:
		b = ua.AppendText(append(b, `{"type":"message"`...), `,"channel":`, e.Channel)
		b = ua.AppendText(b, `,"id":`, e.ID)
		b = ua.AppendText(b, `,"user":`, e.User)
		b = ua.AppendText(b, `,"name":`, e.Name)
		b = ua.AppendText(b, `,"text":`, e.Text)
	case envelope.System:
		b = ua.AppendText(append(b, `{"type":"system"`...), `,"channel":`, e.Channel)
		b = ua.AppendText(b, `,"id":`, e.ID)
		b = ua.AppendTextIf(b, `,"user":`, e.User)
		b = ua.AppendTextIf(b, `,"name":`, e.Name)
		b = ua.AppendText(b, `,"text":`, e.Text)
	case envelope.Join, envelope.Leave:
		b = ua.AppendText(b, `{"type":`, e.Kind)
		b = ua.AppendText(b, `,"channel":`, e.Channel)
		b = ua.AppendText(b, `,"user":`, e.User)
		b = ua.AppendTextIf(b, `,"name":`, e.Name)
	default:
		return b
	}
	return append(ua.AppendInt(b, `,"at":`, e.At), '}')
}

// replies is the table of answers and notices.
var replies = map[ua.Kind]func([]byte, *ua.Reply) []byte{
	ua.Welcome: appendWelcome,
	ua.Joined:  func(b []byte, r *ua.Reply) []byte { return appendChannel(b, `{"type":"joined"`, r) },
	ua.Left:    func(b []byte, r *ua.Reply) []byte { return appendChannel(b, `{"type":"left"`, r) },
	ua.Said:    appendSaid,
	ua.Pong:    func(b []byte, _ *ua.Reply) []byte { return append(b, `{"type":"pong"}`...) },
	ua.Refused: appendError,
	ua.Removed: appendRemoved,
	ua.Notice:  appendVersion,
	ua.Moving:  appendMoving,
	ua.Closing: appendClosing,
}

// AppendReply appends the one frame that says r.
func (protocol) AppendReply(dst []byte, r ua.Reply) []byte {
	say, ok := replies[r.Kind]
	if !ok {
		return dst
	}
	return ua.AppendFrame(dst, func(b []byte) []byte { return say(b, &r) })
}

func appendWelcome(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"type":"logged_in"`...), `,"tenant":`, r.Identity.Tenant)
	b = ua.AppendText(b, `,"user":`, r.Identity.User)
	return append(ua.AppendDeprecation(ua.AppendText(b, `,"name":`, r.Identity.Name), r.Deprecation), '}')
}

func appendChannel(b []byte, head string, r *ua.Reply) []byte {
	return append(ua.AppendText(append(b, head...), `,"channel":`, r.To.Channel), '}')
}

func appendSaid(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"type":"said"`...), `,"channel":`, r.To.Channel)
	b = ua.AppendText(b, `,"id":`, r.To.ID)
	b = ua.AppendText(b, `,"message":`, r.Receipt.ID)
	return append(ua.AppendInt(b, `,"at":`, r.Receipt.At), '}')
}

func appendError(b []byte, r *ua.Reply) []byte {
	b = ua.AppendTextIf(append(b, `{"type":"error"`...), `,"request":`, r.To.Word)
	b = ua.AppendTextIf(b, `,"id":`, r.To.ID)
	b = ua.AppendTextIf(b, `,"channel":`, r.To.Channel)
	b = ua.AppendText(b, `,"code":`, r.Err.Code)
	b = ua.AppendText(b, `,"message":`, r.Err.Message)
	b = ua.AppendBool(b, `,"retry":`, r.Err.Retry)
	if r.Err.After > 0 {
		b = ua.AppendInt(b, `,"after_ms":`, r.Err.After.Milliseconds())
	}
	return append(b, '}')
}

func appendRemoved(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"type":"removed"`...), `,"channel":`, r.To.Channel)
	return append(ua.AppendText(b, `,"code":`, r.Code), '}')
}

func appendVersion(b []byte, r *ua.Reply) []byte {
	return append(ua.AppendDeprecation(append(b, `{"type":"version"`...), r.Deprecation), '}')
}

func appendMoving(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"type":"closing","code":"restart"`...), `,"message":`, r.Text)
	return append(b, `,"reconnect":true,"after_ms":0}`...)
}

func appendClosing(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"type":"closing"`...), `,"code":`, r.Code)
	b = ua.AppendText(b, `,"message":`, r.Text)
	return append(b, `,"reconnect":false}`...)
}
