package main

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

const page = "../../docs/protocol/1.0.md"

// pageReplies and pageEnvelopes are what the page shows: all of it, in no order.
var pageReplies = []ua.Reply{
	{Kind: ua.Welcome, Identity: chat.Identity{Tenant: "demo", User: "aki", Name: "あき"}},
	{Kind: ua.Joined, To: ua.Command{Channel: "lobby"}},
	{Kind: ua.Left, To: ua.Command{Channel: "lobby"}},
	{Kind: ua.Said, To: ua.Command{Channel: "lobby", ID: "c1"}, Receipt: chatlog.Receipt{ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", Seq: 7, At: 1732150800123}},
	{Kind: ua.Pong},
	{Kind: ua.Removed, To: ua.Command{Channel: "guild-7"}, Code: chat.CodeNotMember},
	{Kind: ua.Notice, Deprecation: store.Deprecation{Deprecated: time.UnixMilli(1732150800000), Sunset: time.UnixMilli(1740700799000), Notice: "move to 3.0"}},
	{Kind: ua.Notice},
	{Kind: ua.Moving, Text: "moving to a new server"},
	{Kind: ua.Closing, Code: "kicked", Text: "be nice"},
	{Kind: ua.Refused, To: ua.Command{Word: "say", Channel: "lobby", ID: "c2"}, Err: chat.Errorf(chat.CodeNGWord, "the text holds a forbidden word")},
	{Kind: ua.Refused, To: ua.Command{Word: "say", Channel: "lobby", ID: "c3"},
		Err: &chat.Error{Code: chat.CodeRateLimited, Message: "too many messages", Retry: true, After: 800 * time.Millisecond}},
	{Kind: ua.Refused, Err: chat.Errorf(chat.CodeBadFrame, "not a JSON object")},
}

var pageEnvelopes = []*envelope.Envelope{
	{Kind: envelope.Say, Channel: "lobby", Seq: 7, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", User: "aki", Name: "あき", Text: "こんにちは", At: 1732150800123},
	{Kind: envelope.System, Channel: "lobby", Seq: 8, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AC", Name: "KMS", Text: "Maintenance at 3:00", At: 1732150800456},
	{Kind: envelope.Join, Channel: "lobby", User: "bob", Name: "Bob", At: 1732150801000},
	{Kind: envelope.Leave, Channel: "lobby", User: "bob", Name: "Bob", At: 1732150802000},
}

func TestPage_serverFramesAreWhatIsSent(t *testing.T) {
	p := protocol{}
	frames := p.AppendBatch(nil, pageEnvelopes)
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
		cmds, err := protocol{}.Decode([]byte(frame))
		if err != nil || len(cmds) != 1 || cmds[0].Bad != nil {
			t.Errorf("%s: %v, %v", frame, cmds, err)
			continue
		}
		seen[cmds[0].Verb] = true
	}
	for word, verb := range requests {
		if !seen[verb] {
			t.Errorf("the page has no example of %q", word)
		}
	}
}

func TestAppendBatch_tellsNobodyWhatFlaggedAMessage(t *testing.T) {
	for _, kind := range []string{envelope.Say, envelope.System, envelope.Edit} {
		e := &envelope.Envelope{Kind: kind, Channel: "lobby", Seq: 2, ID: "01JD3V4N8ZQ0X5T6Y7W8R9S0AB", User: "aki", Text: "hi"}
		plain := (protocol{}).AppendBatch(nil, []*envelope.Envelope{e})
		e.Flags = []string{"rival"}
		if flagged := (protocol{}).AppendBatch(nil, []*envelope.Envelope{e}); !bytes.Equal(plain, flagged) {
			t.Errorf("%s: %q, without flags %q", kind, flagged, plain)
		}
	}
}

func TestAppendBatch_leavesOutWhatHasNoWord(t *testing.T) {
	batch := []*envelope.Envelope{{Kind: envelope.Edit, Channel: "lobby", Seq: 2}, {Kind: envelope.Delete, Seq: 3}, {Kind: "new"}}
	if frames := (protocol{}).AppendBatch(nil, batch); len(frames) != 0 {
		t.Errorf("got %q", frames)
	}
}
