package main

import (
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/ua"
)

func TestDecode_refusesTheFrame(t *testing.T) {
	for _, frame := range []string{
		"", "x", "{", `"say"`, "[]", "null", "12", `{"type":"ping"} {}`, "{\"type\":\"ping\x01\"}", strings.Repeat("[", 15000),
	} {
		if cmds, err := (protocol{}).Decode([]byte(frame)); err == nil {
			t.Errorf("%.40q: %v", frame, cmds)
		}
	}
}

func TestDecode_refusesTheCommand(t *testing.T) {
	for frame, code := range map[string]string{
		`{}`:                                    chat.CodeBadFrame,
		`{"type":7}`:                            chat.CodeBadFrame,
		`{"type":null}`:                         chat.CodeBadFrame,
		`{"Type":"ping"}`:                       chat.CodeBadFrame,
		`{"type":"dance"}`:                      ua.CodeUnknownCommand,
		`{"type":"login"}`:                      chat.CodeBadFrame,
		`{"type":"login","token":["t"]}`:        chat.CodeBadFrame,
		`{"type":"join"}`:                       chat.CodeBadFrame,
		`{"type":"say","channel":"c","id":"i"}`: chat.CodeBadFrame,
		`{"type":"say","channel":"c","text":"t"}`:                                        chat.CodeBadFrame,
		`{"type":"say","channel":"c","id":1e999,"text":"t"}`:                             chat.CodeBadFrame,
		`{"type":"say","channel":"c","id":"` + strings.Repeat("い", 65) + `","text":"t"}`: chat.CodeBadName,
		`{"type":"join","channel":"` + strings.Repeat("c", 300) + `"}`:                   chat.CodeBadFrame,
		"{\"type\":\"join\",\"channel\":\"\xff\"}":                                       chat.CodeBadFrame,
	} {
		cmds, err := (protocol{}).Decode([]byte(frame))
		if err != nil || len(cmds) != 1 || cmds[0].Bad == nil || cmds[0].Bad.Code != code {
			t.Errorf("%s: %+v, %v, want %s", frame, cmds, err, code)
		}
	}
}

func TestDecode_readsWhatIsOddButRight(t *testing.T) {
	frame := " {\"t\\u0079pe\" : \"say\", \"more\":{\"text\":[\"]}\"]}, \"id\":\"a\\\"b\", \"channel\":\"lobby\",\r\n\"text\":\"\\ud83d\\ude00 \\n\"} "
	cmds, err := (protocol{}).Decode([]byte(frame))
	if err != nil || cmds[0].Bad != nil {
		t.Fatal(cmds, err)
	}
	if c := cmds[0]; c.Verb != ua.Say || c.ID != `a"b` || c.Channel != "lobby" || c.Text != "😀 \n" || c.Message != "" {
		t.Errorf("%+v", c)
	}
}

// FuzzDecode looks for panics and for commands that are neither understood nor refused.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"type":"say","channel":"lobby","id":"c1","text":"hi"}`, `{"type":"login","token":"t"}`, `{"a":{"b":[1,"]",{}]},"type":"ping"}`, `[`, `{"type":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		cmds, err := (protocol{}).Decode(frame)
		if err != nil {
			return
		}
		for _, c := range cmds {
			if c.Bad == nil && c.Verb == "" || len(c.Word) > maxWord || len(c.Channel) > maxName || len(c.ID) > maxName {
				t.Errorf("%q: %+v", frame, c)
			}
			(protocol{}).AppendReply(nil, ua.Reply{Kind: ua.Refused, To: c, Err: chat.Errorf("code", "text")})
		}
	})
}
