package main

import (
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ua"
)

// protocol is 2.0 on the wire, as docs/protocol/2.0.md tells it.
type protocol struct {
	now func() time.Time
}

func (protocol) Name() string { return version }

// Seamless is true: a client opens its new connection before it leaves the old one.
func (protocol) Seamless() bool { return true }

// frameGoal is where a batch goes on in a new frame, so that no client needs a large buffer for many small messages.
const frameGoal = 32 << 10

// AppendBatch puts a batch into as few frames as frameGoal allows.
func (protocol) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	for len(batch) > 0 {
		dst = ua.AppendFrame(dst, func(b []byte) []byte {
			start := len(b)
			b = append(b, '[')
			for len(batch) > 0 && len(b)-start < frameGoal {
				b = appendEnvelope(b, batch[0])
				batch = batch[1:]
			}
			if len(b)-start == 1 { // nothing that 2.0 has a word for
				return b[:start]
			}
			b[len(b)-1] = ']' // over the last comma
			return b
		})
	}
	return dst
}

func appendEnvelope(b []byte, e *envelope.Envelope) []byte {
	switch e.Kind {
	case envelope.Say:
		b = appendEntry(b, `{"op":"msg","ch":`, e)
		b = ua.AppendText(b, `,"user":`, e.User)
		b = ua.AppendText(b, `,"name":`, e.Name)
		b = ua.AppendText(b, `,"text":`, e.Text)
	case envelope.System:
		b = appendEntry(b, `{"op":"sys","ch":`, e)
		b = ua.AppendTextIf(b, `,"user":`, e.User)
		b = ua.AppendTextIf(b, `,"name":`, e.Name)
		b = ua.AppendText(b, `,"text":`, e.Text)
	case envelope.Edit:
		b = appendEntry(b, `{"op":"edit","ch":`, e)
		b = ua.AppendText(b, `,"target":`, e.Target)
		b = ua.AppendTextIf(b, `,"user":`, e.User)
		b = ua.AppendText(b, `,"text":`, e.Text)
	case envelope.Delete:
		b = appendEntry(b, `{"op":"del","ch":`, e)
		b = ua.AppendText(b, `,"target":`, e.Target)
	case envelope.Join, envelope.Leave:
		b = ua.AppendText(b, `{"op":"presence","ch":`, e.Channel)
		b = ua.AppendText(b, `,"event":`, e.Kind)
		b = ua.AppendText(b, `,"user":`, e.User)
		b = ua.AppendTextIf(b, `,"name":`, e.Name)
	default:
		return b
	}
	return append(ua.AppendInt(b, `,"at":`, e.At), '}', ',')
}

// appendEntry begins what has a place in a log, if the channel has one.
func appendEntry(b []byte, head string, e *envelope.Envelope) []byte {
	b = ua.AppendText(b, head, e.Channel)
	if e.Seq > 0 {
		b = ua.AppendInt(b, `,"seq":`, e.Seq)
	}
	return ua.AppendText(b, `,"id":`, e.ID)
}

// replies is the table of answers and notices. Each appends one operation. There is none for ua.Closing: the close code and its
// reason say it.
var replies = map[ua.Kind]func(protocol, []byte, *ua.Reply) []byte{
	ua.Welcome: protocol.appendWelcome,
	ua.Joined:  protocol.appendSubbed,
	ua.Left:    protocol.appendUnsubbed,
	ua.Said:    protocol.appendAck,
	ua.Pong:    protocol.appendPong,
	ua.Refused: protocol.appendNack,
	ua.Removed: protocol.appendEvicted,
	ua.Notice:  protocol.appendVersion,
	ua.Moving:  protocol.appendDrain,
}

// AppendReply appends one frame of one operation.
func (p protocol) AppendReply(dst []byte, r ua.Reply) []byte {
	say, ok := replies[r.Kind]
	if !ok {
		return dst
	}
	return ua.AppendFrame(dst, func(b []byte) []byte { return append(say(p, append(b, '['), &r), '}', ']') })
}

func (p protocol) appendWelcome(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"op":"welcome"`...), `,"tenant":`, r.Identity.Tenant)
	b = ua.AppendText(b, `,"user":`, r.Identity.User)
	b = ua.AppendText(b, `,"name":`, r.Identity.Name)
	b = ua.AppendInt(b, `,"time":`, p.now().UnixMilli())
	b = ua.AppendInt(b, `,"max_frame":`, int64(r.Limits.Frame))
	return ua.AppendDeprecation(ua.AppendInt(b, `,"max_ops":`, maxOps), r.Deprecation)
}

func (protocol) appendSubbed(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"op":"subbed"`...), `,"ch":`, r.To.Channel)
	j := r.Joined
	if j.First == 0 { // a log begins at 1: this channel has none
		return append(b, `,"logged":false`...)
	}
	b = ua.AppendText(b, `,"epoch":`, j.Epoch)
	b = ua.AppendInt(b, `,"seq":`, j.Head)
	b = ua.AppendInt(b, `,"first":`, j.First)
	if r.To.From == nil {
		return b
	}
	b = ua.AppendBool(b, `,"resumed":`, j.Resumed)
	if j.Truncated {
		b = ua.AppendInt(b, `,"truncated":{"first":`, j.First)
		b = append(ua.AppendInt(b, `,"last":`, j.Head), '}')
	}
	return b
}

func (protocol) appendUnsubbed(b []byte, r *ua.Reply) []byte {
	return ua.AppendText(append(b, `{"op":"unsubbed"`...), `,"ch":`, r.To.Channel)
}

func (protocol) appendAck(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"op":"ack"`...), `,"ch":`, r.To.Channel)
	b = ua.AppendText(b, `,"id":`, r.Receipt.ID)
	logged := r.Receipt.Seq > 0
	if logged {
		b = ua.AppendText(b, `,"epoch":`, r.Receipt.Epoch)
		b = ua.AppendInt(b, `,"seq":`, r.Receipt.Seq)
	}
	b = ua.AppendInt(b, `,"at":`, r.Receipt.At)
	return ua.AppendBool(b, `,"logged":`, logged)
}

func (protocol) appendPong(b []byte, r *ua.Reply) []byte {
	b = append(b, `{"op":"pong"`...)
	if r.To.Stamped {
		b = ua.AppendInt(b, `,"t":`, r.To.Stamp)
	}
	return b
}

func (protocol) appendNack(b []byte, r *ua.Reply) []byte {
	b = ua.AppendTextIf(append(b, `{"op":"nack"`...), `,"of":`, r.To.Word)
	b = ua.AppendTextIf(b, `,"ch":`, r.To.Channel)
	b = ua.AppendTextIf(b, `,"id":`, r.To.ID)
	b = ua.AppendText(b, `,"code":`, r.Err.Code)
	b = ua.AppendText(b, `,"message":`, r.Err.Message)
	b = ua.AppendBool(b, `,"retry":`, r.Err.Retry)
	if r.Err.After > 0 {
		b = ua.AppendInt(b, `,"after_ms":`, r.Err.After.Milliseconds())
	}
	return b
}

func (protocol) appendEvicted(b []byte, r *ua.Reply) []byte {
	b = ua.AppendText(append(b, `{"op":"evicted"`...), `,"ch":`, r.To.Channel)
	return ua.AppendText(b, `,"code":`, r.Code)
}

func (protocol) appendVersion(b []byte, r *ua.Reply) []byte {
	return ua.AppendDeprecation(append(b, `{"op":"version"`...), r.Deprecation)
}

func (protocol) appendDrain(b []byte, r *ua.Reply) []byte {
	b = ua.AppendInt(append(b, `{"op":"drain"`...), `,"grace_ms":`, r.Grace.Milliseconds())
	return ua.AppendText(b, `,"message":`, r.Text)
}
