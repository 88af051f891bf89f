package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/names"
)

func full() *Envelope {
	return &Envelope{V: 1, Kind: Say, Tenant: "demo", Channel: "world", Epoch: "x7k2", Seq: 42, ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
		User: "u1", Name: "勇者", Text: "こんにちは \"KMS\"\n\x00\x7f\\", Target: "01ARZ3NDEKTSV4RRFFQ69G5FAW", At: 1700000000123,
		Shadow: true, Ref: true, Origin: "n1/sabc/ua"}
}

// golden lines are what older builds have written: they must parse for ever, and the newest build must write the same.
var golden = []struct {
	line string
	e    *Envelope
}{
	{`{"v":1,"k":"say","t":"demo","c":"world","e":"x7k2","s":42,"i":"01ARZ3NDEKTSV4RRFFQ69G5FAV","u":"u1","n":"勇者",` +
		`"x":"こんにちは \"KMS\"\n\u0000\u007f\\","g":"01ARZ3NDEKTSV4RRFFQ69G5FAW","a":1700000000123,"h":true,"r":true,"o":"n1/sabc/ua"}`, full()},
	{`{"v":1,"k":"say","u":"u1","x":"hi","f":["だめ","a\"b"]}`, &Envelope{V: 1, Kind: Say, User: "u1", Text: "hi", Flags: []string{"だめ", `a"b`}}},
	{`{"v":1,"k":"say","u":"u1","x":"bye","m":"01ARZ3NDEKTSV4RRFFQ69G5FAW"}`, &Envelope{V: 1, Kind: Say, User: "u1", Text: "bye", Edited: "01ARZ3NDEKTSV4RRFFQ69G5FAW"}},
	{`{"v":1,"k":"change"}`, &Envelope{V: 1, Kind: Change}},
	{`{"v":1,"k":"join","t":"demo","c":"world","u":"u1","n":"A"}`, &Envelope{V: 1, Kind: Join, Tenant: "demo", Channel: "world", User: "u1", Name: "A"}},
}

func TestEnvelope_goldenBytes(t *testing.T) {
	for _, g := range golden {
		if got := string(g.e.Append(nil)); got != g.line {
			t.Errorf("Append:\n got %s\nwant %s", got, g.line)
		}
		got, err := Parse([]byte(g.line))
		if err != nil || !reflect.DeepEqual(got, g.e) {
			t.Errorf("Parse(%s) = %+v, %v", g.line, got, err)
		}
	}
}

func TestAppend_versionNeedNotBeSet(t *testing.T) {
	e := &Envelope{Kind: Say}
	if got := string(e.Append([]byte("x"))); got != `x{"v":1,"k":"say"}` {
		t.Errorf("got %s", got)
	}
}

func TestAppend_anyBytesGiveACleanLine(t *testing.T) {
	e := full()
	e.Name = "\xff\xfea\xed\xa0\x80"
	line := e.Append(nil)
	if !clean(line) || !json.Valid(line) {
		t.Errorf("not clean: %q", line)
	}
	back, err := Parse(line)
	if err != nil || back.Name != "\ufffd\ufffda\ufffd\ufffd\ufffd" {
		t.Errorf("got %q, %v", back.Name, err)
	}
}

func TestParse_newerFieldsSurvive(t *testing.T) {
	line := `{"v":1,"k":"say","t":"demo","stickers":[ {"a": "}],\u2028"}, 1.50, null ],"x":"hi","z":"q\u007f"}`
	e, err := Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	e.Seq = 7
	want := `{"v":1,"k":"say","t":"demo","s":7,"x":"hi","stickers":[{"a":"}],\u2028"},1.50,null],"z":"q\u007f"}`
	if got := string(e.Append(nil)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got := string(e.Clone().Append(nil)); got != want {
		t.Errorf("clone lost a field: %s", got)
	}
}

func TestParse_newerKindParsesButIsNotKnown(t *testing.T) {
	e, err := Parse([]byte(`{"v":1,"k":"reaction","t":"demo","c":"world","s":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Known() || e.Logged() {
		t.Error("an unknown kind must be neither known nor logged")
	}
	for kind, logged := range map[string]bool{Say: true, System: true, Edit: true, Delete: true, Join: false, Leave: false, Change: false} {
		if e := (&Envelope{Kind: kind}); !e.Known() || e.Logged() != logged {
			t.Errorf("%s: known %v, logged %v", kind, e.Known(), e.Logged())
		}
	}
}

func TestParse_newerFormatIsRefusedByName(t *testing.T) {
	if _, err := Parse([]byte(`{"v":2,"k":"say"}`)); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v, want ErrVersion", err)
	}
}

func TestParse_refusesBadInput(t *testing.T) {
	cases := map[string]string{ // line to a part of the error
		``:                            "object",
		`null`:                        "object",
		`{}`:                          "version",
		`{"v":1}`:                     "kind",
		`{"v":"1","k":"say"}`:         "whole number",
		`{"v":1,"k":5}`:               "string",
		`{"v":1,"k":"say","k":"say"}`: "twice",
		`{"v":1,"k":"say"}x`:          "nothing more",
		`{"v":1,"k":"say",}`:          "string",
		`{"v":1 "k":"say"}`:           "comma",
		`{"v":1,"k":"say"`:            "comma",
		`{"v":1,"k":"say`:             "without an end",
		`{"v":1,"k":"say","s":-1}`:    "whole number",
		`{"v":1,"k":"say","s":1.5}`:   "comma",
		`{"v":1,"k":"say","s":1e3}`:   "comma",
		`{"v":1,"k":"say","s":01}`:    "whole number",
		`{"v":1,"k":"say","s":9223372036854775808}`:                           "too large",
		`{"v":1,"k":"say","h":1}`:                                             "true or false",
		`{"v":1,"k":"say","h":truefalse}`:                                     "comma",
		`{"v":1,"k":"say","x":null}`:                                          "string",
		`{"v":1,"k":"say","x":"\q"}`:                                          "bad string",
		"{\"v\":1,\"k\":\"say\",\"x\":\"a\nb\"}":                              "control byte",
		"{\"v\":1,\"k\":\"say\",\"x\":\"\xff\"}":                              "UTF-8",
		`{"v":1,"k":"say","f":"a"}`:                                           "want a list",
		`{"v":1,"k":"say","f":["a",]}`:                                        "a string",
		`{"v":1,"k":"say","f":["a" "b"]}`:                                     "end of the list",
		`{"v":1,"k":"say","f":["a"`:                                           "end of the list",
		`{"v":1,"k":"say","f":[["a"]]}`:                                       "a string",
		`{"v":1,"k":"say","f":["` + strings.Repeat("a", 1025) + `"]}`:         "at most 1024",
		`{"v":1,"k":"say","f":["a"` + strings.Repeat(`,"a"`, MaxFlags) + `]}`: "at most 16 strings",
		`{"v":1,"k":"say","t":"a b"}`:                                         "bad character",
		`{"v":1,"k":"say","c":"か"}`:                                           "bad character",
		`{"v":1,"k":"say","z":}`:                                              "bad value",
		`{"v":1,"k":"say","z":[}`:                                             "bad value",
		`{"v":1,"k":"say","z":tru}`:                                           "bad value",
		`{"v":1,"k":"` + strings.Repeat("a", 33) + `"}`:                       "at most 32",
		`{"v":1,"k":"say","x":"` + strings.Repeat("a", 65537) + `"}`:          "at most 65536",
		strings.Repeat(" ", MaxBytes+1):                                       "at most",
	}
	for line, want := range cases {
		_, err := Parse([]byte(line))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.60q) = %v, want an error with %q", line, err, want)
		}
	}
}

func TestParse_sharesNothingWithTheLine(t *testing.T) {
	line := []byte(golden[0].line)
	e, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	clear(line)
	if !reflect.DeepEqual(e, full()) {
		t.Error("the envelope changed with the line")
	}
}

func TestNewID_risesAndIsCanonical(t *testing.T) {
	now := time.UnixMilli(1700000000000)
	var wg sync.WaitGroup
	var seen sync.Map
	for range 4 {
		wg.Go(func() {
			last := ""
			for range 500 {
				id := NewID(now)
				if _, dup := seen.LoadOrStore(id, true); dup || id <= last {
					t.Errorf("id %s after %s, dup %v", id, last, dup)
				}
				last = id
			}
		})
	}
	wg.Wait()
	for _, at := range []time.Time{now, {}, time.UnixMilli(1 << 60)} {
		if err := names.MessageID(NewID(at)); err != nil {
			t.Error(err)
		}
	}
}

func clean(line []byte) bool {
	return utf8.Valid(line) && bytes.IndexFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}

// FuzzParse holds that whatever parses can be written back, is clean then, and comes back the same.
func FuzzParse(f *testing.F) {
	for _, g := range golden {
		f.Add([]byte(g.line))
	}
	f.Add([]byte(`{"v":1,"k":"say","z":{"a":[1,"\u0000"]},"\u006b":"x", "x" : "\ud800"}`))
	f.Add([]byte("{\"v\":1,\"k\":\"say\",\"z\":\"\x7f\" }\r\n"))
	f.Add([]byte(`{"v":1,"k":"say","f":[ ] }`))
	f.Add([]byte(`{"v":1,"k":"say","f":[ "\u007f" , "" ] }`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err != nil {
			return
		}
		if !json.Valid(line) {
			t.Fatalf("parsed what is not JSON: %q", line)
		}
		out := e.Append(nil)
		if !clean(out) || !json.Valid(out) {
			t.Fatalf("not clean: %q", out)
		}
		if len(out) > MaxBytes {
			return
		}
		back, err := Parse(out)
		if err != nil || !reflect.DeepEqual(e, back) {
			t.Fatalf("%q came back as %+v, %v", out, back, err)
		}
	})
}

// FuzzAppend holds that any text comes back as it was, apart from invalid UTF-8.
func FuzzAppend(f *testing.F) {
	f.Add("hi", "", int64(1))
	f.Add("\x00\x1f\"\\\u2028\xff", "名前", int64(-1))
	f.Fuzz(func(t *testing.T, text, name string, seq int64) {
		e := &Envelope{V: 1, Kind: Say, Text: strings.ToValidUTF8(text, "?"), Name: strings.ToValidUTF8(name, "?"), Seq: max(seq, 0)}
		if len(e.Text) > MaxText || len(e.Name) > maxName {
			return
		}
		back, err := Parse(e.Append(nil))
		if err != nil || !reflect.DeepEqual(e, back) {
			t.Fatalf("%+v came back as %+v, %v", e, back, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	e, buf := full(), []byte(nil)
	e.Text = strings.Repeat("こんにちは", 6)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Append(buf[:0])
	}
}

func BenchmarkParse(b *testing.B) {
	e := full()
	e.Text = strings.Repeat("こんにちは", 6)
	line := e.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
