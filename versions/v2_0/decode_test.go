package main

import (
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/ua"
)

func TestDecode_refusesTheFrame(t *testing.T) {
	for _, frame := range []string{
		"", "x", "[", `"send"`, "{}", "[]", "null", "[1]", `[{"op":"ping"},2]`, `[{"op":"ping"}] []`, strings.Repeat("[", 15000),
		"[" + strings.Repeat(`{"op":"ping"},`, maxOps) + `{"op":"ping"}]`,
	} {
		if cmds, err := (protocol{}).Decode([]byte(frame)); err == nil {
			t.Errorf("%.40q: %v", frame, cmds)
		}
	}
}

func TestDecode_takesAFullFrame(t *testing.T) {
	cmds, err := (protocol{}).Decode([]byte("[" + strings.Repeat(`{"op":"ping"},`, maxOps-1) + `{"op":"ping"}]`))
	if err != nil || len(cmds) != maxOps {
		t.Error(len(cmds), err)
	}
}

func TestDecode_refusesTheOperation(t *testing.T) {
	const id = "01JD3V4N8ZQ0X5T6Y7W8R9S0AB"
	for op, code := range map[string]string{
		`{}`:                                     chat.CodeBadFrame,
		`{"op":7}`:                               chat.CodeBadFrame,
		`{"op":"dance"}`:                         ua.CodeUnknownCommand,
		`{"op":"hello"}`:                         chat.CodeBadFrame,
		`{"op":"sub"}`:                           chat.CodeBadFrame,
		`{"op":"ping","t":1.5}`:                  chat.CodeBadFrame,
		`{"op":"ping","t":1e999}`:                chat.CodeBadFrame,
		`{"op":"ping","t":99999999999999999999}`: chat.CodeBadFrame,
		`{"op":"sub","ch":"c","resume":null}`:    chat.CodeBadFrame,
		`{"op":"sub","ch":"c","resume":{"epoch":"e"}}`:                         chat.CodeBadFrame,
		`{"op":"sub","ch":"c","resume":{"seq":1}}`:                             chat.CodeBadFrame,
		`{"op":"sub","ch":"c","resume":{"epoch":"e","seq":-1}}`:                chat.CodeBadFrame,
		`{"op":"sub","ch":"c","resume":{"epoch":"e","seq":"1"}}`:               chat.CodeBadFrame,
		`{"op":"send","ch":"c","id":"` + id + `"}`:                             chat.CodeBadFrame,
		`{"op":"edit","ch":"c","id":"` + id + `","text":"t"}`:                  chat.CodeBadFrame,
		`{"op":"edit","ch":"c","id":"` + id + `","target":"` + id + `"}`:       chat.CodeBadFrame,
		`{"op":"del","ch":"c","target":"` + id + `"}`:                          chat.CodeBadFrame,
		`{"op":"del","ch":"c","id":"c1","target":"` + id + `"}`:                chat.CodeBadName,
		`{"op":"send","ch":"c","text":"t"}`:                                    chat.CodeBadFrame,
		`{"op":"send","ch":"c","id":"` + strings.ToLower(id) + `","text":"t"}`: chat.CodeBadName,
		`{"op":"send","ch":"c","id":"` + id + `","text":"t","retry":"yes"}`:    chat.CodeBadFrame,
		`{"op":"send","ch":"c","id":"` + id + `","text":"` + "\xc3\x28" + `"}`: chat.CodeBadFrame,
	} {
		cmds, err := (protocol{}).Decode([]byte("[" + op + "]"))
		if err != nil || len(cmds) != 1 || cmds[0].Bad == nil || cmds[0].Bad.Code != code {
			t.Errorf("%s: %+v, %v, want %s", op, cmds, err, code)
		}
	}
}

func TestDecode_readsResumeAndRetry(t *testing.T) {
	frame := `[{"op":"sub","ch":"lobby","resume":{"epoch":"e","seq":0}},{"op":"send","ch":"lobby","id":"01JD3V4N8ZQ0X5T6Y7W8R9S0AB","text":"t","retry":true}]`
	cmds, err := (protocol{}).Decode([]byte(frame))
	if err != nil || len(cmds) != 2 {
		t.Fatal(cmds, err)
	}
	if c := cmds[0]; c.Bad != nil || c.Verb != ua.Join || c.From == nil || c.From.Epoch != "e" || c.From.Seq != 0 || !c.Anew {
		t.Errorf("%+v", c)
	}
	if c := cmds[1]; c.Bad != nil || c.Verb != ua.Say || c.Message != "01JD3V4N8ZQ0X5T6Y7W8R9S0AB" || !c.Retry {
		t.Errorf("%+v", c)
	}
}

// FuzzDecode looks for panics and for operations that are neither understood nor refused.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`[{"op":"hello","token":"t"},{"op":"sub","ch":"lobby","resume":{"epoch":"e","seq":3}}]`, `[{"op":"ping","t":-7}]`, `[[[{}]]]`,
		`[{"op":"send","ch":"lobby","id":"01JD3V4N8ZQ0X5T6Y7W8R9S0AB","text":"hi","retry":true}]`, `[{"a":{"b":[1,"]",{}]},"op":"ping"},]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		cmds, err := (protocol{}).Decode(frame)
		if err != nil {
			return
		}
		if len(cmds) == 0 || len(cmds) > maxOps {
			t.Errorf("%q: %d operations", frame, len(cmds))
		}
		for _, c := range cmds {
			if c.Bad == nil && c.Verb == "" || len(c.Word) > maxWord || len(c.Channel) > maxName || len(c.ID) > maxName {
				t.Errorf("%q: %+v", frame, c)
			}
			(protocol{}).AppendReply(nil, ua.Reply{Kind: ua.Refused, To: c, Err: chat.Errorf("code", "text")})
		}
	})
}
