package main

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

const page = "../../docs/protocol/2.0.md"

// ulid makes the ids of the page.
func ulid(last string) string { return "01JD3V4N8ZQ0X5T6Y7W8R9S0A" + last }

// at41 is a position that a client resumes from.
var at41 = &hub.Position{Epoch: "e7k2m9qa", Seq: 41}

// pageReplies and pageBatches are what the page shows: all of it, in no order.
var pageReplies = []ua.Reply{
	{Kind: ua.Welcome, Identity: chat.Identity{Tenant: "demo", User: "aki", Name: "あき"}, Limits: ua.Limits{Frame: 16384}},
	{Kind: ua.Joined, To: ua.Command{Channel: "lobby"}, Joined: hub.Joined{Epoch: "e7k2m9qa", Head: 41, First: 1}},
	{Kind: ua.Joined, To: ua.Command{Channel: "shout"}, Joined: hub.Joined{Epoch: "e7k2m9qa"}},
	{Kind: ua.Joined, To: ua.Command{Channel: "lobby", From: at41}, Joined: hub.Joined{Epoch: "e7k2m9qa", Head: 57, First: 1, Resumed: true}},
	{Kind: ua.Joined, To: ua.Command{Channel: "lobby", From: at41}, Joined: hub.Joined{Epoch: "e7k2m9qa", Head: 9120, First: 8121, Truncated: true}},
	{Kind: ua.Left, To: ua.Command{Channel: "lobby"}},
	{Kind: ua.Said, To: ua.Command{Channel: "lobby"}, Receipt: chatlog.Receipt{ID: ulid("B"), Epoch: "e7k2m9qa", Seq: 42, At: 1732150800123}},
	{Kind: ua.Said, To: ua.Command{Channel: "shout"}, Receipt: chatlog.Receipt{ID: ulid("E"), At: 1732150800200}},
	{Kind: ua.Said, To: ua.Command{Channel: "lobby"}, Receipt: chatlog.Receipt{ID: ulid("G"), Epoch: "e7k2m9qa", Seq: 44, At: 1732150800500}},
	{Kind: ua.Refused, To: ua.Command{Word: "del", Channel: "lobby", ID: ulid("H")}, Err: chat.AsError(chatlog.ErrNoTarget)},
	{Kind: ua.Refused, To: ua.Command{Word: "send", Channel: "lobby", ID: ulid("C")},
		Err: &chat.Error{Code: chat.CodeRateLimited, Message: "too many messages", Retry: true, After: 800 * time.Millisecond}},
	{Kind: ua.Refused, To: ua.Command{Word: "sub", Channel: "guild-7"}, Err: chat.Errorf(chat.CodeNotMember, "you are not a member of this channel")},
	{Kind: ua.Refused, Err: chat.Errorf(chat.CodeBadFrame, "not a JSON array")},
	{Kind: ua.Pong, To: ua.Command{Stamp: 7, Stamped: true}},
	{Kind: ua.Removed, To: ua.Command{Channel: "guild-7"}, Code: chat.CodeNotMember},
	{Kind: ua.Notice, Deprecation: store.Deprecation{Deprecated: time.UnixMilli(1732150800000), Sunset: time.UnixMilli(1740700799000), Notice: "move to 3.0"}},
	{Kind: ua.Notice},
	{Kind: ua.Moving, Text: "moving to a new server", Grace: 10 * time.Second},
}

var pageBatches = [][]*envelope.Envelope{
	{{Kind: envelope.Say, Channel: "lobby", Seq: 42, ID: ulid("B"), User: "aki", Name: "あき", Text: "こんにちは", At: 1732150800123}},
	{{Kind: envelope.Say, Channel: "shout", ID: ulid("E"), User: "bob", Name: "Bob", Text: "hi", At: 1732150800200}},
	{{Kind: envelope.System, Channel: "lobby", Seq: 43, ID: ulid("F"), Name: "KMS", Text: "Maintenance at 3:00", At: 1732150800456}},
	{{Kind: envelope.Edit, Channel: "lobby", Seq: 44, ID: ulid("G"), Target: ulid("B"), User: "aki", Text: "こんばんは", At: 1732150800500}},
	{{Kind: envelope.Delete, Channel: "lobby", Seq: 45, ID: ulid("H"), Target: ulid("B"), At: 1732150800600}},
	{
		{Kind: envelope.Join, Channel: "lobby", User: "bob", Name: "Bob", At: 1732150801000},
		{Kind: envelope.Leave, Channel: "lobby", User: "bob", Name: "Bob", At: 1732150802000},
	},
}

func testProtocol() protocol {
	return protocol{now: func() time.Time { return time.UnixMilli(1732150800000) }}
}

func TestPage_serverFramesAreWhatIsSent(t *testing.T) {
	p := testProtocol()
	var frames []byte
	for _, batch := range pageBatches {
		frames = p.AppendBatch(frames, batch)
	}
	for _, r := range pageReplies {
		frames = p.AppendReply(frames, r)
	}
	sent := uatest.Payloads(t, frames)
	_, shown := uatest.PageFrames(t, page)
	slices.Sort(sent)
	slices.Sort(shown)
	if !slices.Equal(sent, shown) {
		t.Errorf("the page shows\n%q\nand sent is\n%q", shown, sent)
	}
}

func TestPage_clientFramesAreUnderstood(t *testing.T) {
	shown, _ := uatest.PageFrames(t, page)
	seen := map[ua.Verb]bool{}
	for _, frame := range shown {
		cmds, err := testProtocol().Decode([]byte(frame))
		if err != nil {
			t.Errorf("%s: %v", frame, err)
		}
		for _, cmd := range cmds {
			if cmd.Bad != nil {
				t.Errorf("%s: %v", frame, cmd.Bad)
			}
			seen[cmd.Verb] = true
		}
	}
	for word, verb := range ops {
		if !seen[verb] {
			t.Errorf("the page has no example of %q", word)
		}
	}
}

func TestAppendBatch_tellsNobodyWhatFlaggedAMessage(t *testing.T) {
	for _, kind := range []string{envelope.Say, envelope.System, envelope.Edit} {
		e := &envelope.Envelope{Kind: kind, Channel: "lobby", Seq: 2, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", User: "aki", Text: "hi"}
		plain := testProtocol().AppendBatch(nil, []*envelope.Envelope{e})
		e.Flags = []string{"rival"}
		if flagged := testProtocol().AppendBatch(nil, []*envelope.Envelope{e}); !bytes.Equal(plain, flagged) {
			t.Errorf("%s: %q, without flags %q", kind, flagged, plain)
		}
	}
}

func TestAppendBatch_leavesOutWhatHasNoWord(t *testing.T) {
	batch := []*envelope.Envelope{{Kind: "new"}, {Kind: envelope.Change}}
	if frames := testProtocol().AppendBatch(nil, batch); len(frames) != 0 {
		t.Errorf("got %q", frames)
	}
}

func TestAppendBatch_splitsWhatIsLong(t *testing.T) {
	long := make([]*envelope.Envelope, 1000)
	for i := range long {
		long[i] = &envelope.Envelope{Kind: envelope.Say, Channel: "lobby", Seq: int64(i + 1), ID: ulid("B"), Text: string(make([]byte, 100))}
	}
	payloads := uatest.Payloads(t, testProtocol().AppendBatch(nil, long))
	if len(payloads) < 2 {
		t.Fatalf("%d frames", len(payloads))
	}
	for _, p := range payloads {
		if len(p) > frameGoal+1024 {
			t.Errorf("a frame of %d bytes", len(p))
		}
	}
}
