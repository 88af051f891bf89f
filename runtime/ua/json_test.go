package ua_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/ua"
)

func TestAppendString_isWhatAParserReadsBack(t *testing.T) {
	for _, s := range []string{
		"", "plain", `"quoted" \back`, "\x00\x01\x1f\x7f\n\r\t\b\f", "日本語 か が", "😀", "\u2028 \u2029 \u2027 \u202a ’", "</script>",
	} {
		out := ua.AppendString([]byte("x"), s)[1:]
		var back string
		if err := json.Unmarshal(out, &back); err != nil || back != s {
			t.Errorf("%q: %s reads back as %q, %v", s, out, back, err)
		}
		if bytes.ContainsAny(out, "\u2028\u2029") {
			t.Errorf("%s: holds a line separator", out)
		}
	}
	if out := string(ua.AppendString(nil, "a\xffb")); out != "\"a\ufffdb\"" {
		t.Errorf("not UTF-8: %s", out)
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\u2028\xe2\x80")
	f.Fuzz(func(t *testing.T, s string) {
		out := ua.AppendString(nil, s)
		var back string
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%q: %s: %v", s, out, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Errorf("%q reads back as %q", s, back)
		}
	})
}

// FuzzValue holds our walk over objects and arrays against encoding/json's.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"b":[1,"]}",{"c":null}],"d":"\"\\","e":-1.5e3}`, `[ 1 , "2" , [ ] , { } ]`, `[[],[[]],"x",true]`, `{"a":{"b":"}"},"a":2}`, ` [,]`, `{`, `"x"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, ok := ua.ParseJSON(data)
		if ok != json.Valid(data) {
			t.Fatalf("%q: ok %v", data, ok)
		}
		if !ok {
			return
		}
		checkArray(t, data, v)
		checkObject(t, data, v)
	})
}

func checkArray(t *testing.T, data []byte, v ua.Value) {
	var items []json.RawMessage
	isArray := json.Unmarshal(data, &items) == nil && data[len(data)-len(bytes.TrimLeft(data, " \t\r\n"))] == '['
	var got []string
	if v.Array(func(item ua.Value) bool { got = append(got, string(item)); return true }) != isArray {
		t.Fatalf("%q: is an array: %v", data, isArray)
	}
	if !isArray {
		return
	}
	if len(got) != len(items) {
		t.Fatalf("%q: %q, want %q", data, got, items)
	}
	for i := range items {
		if got[i] != string(items[i]) {
			t.Errorf("%q: item %d is %q, want %q", data, i, got[i], items[i])
		}
	}
}

func checkObject(t *testing.T, data []byte, v ua.Value) {
	if !utf8.Valid(data) {
		return // names that are not UTF-8 are read differently, and refused with the rest
	}
	members := map[string]json.RawMessage{}
	got := map[string]string{}
	isObject := json.Unmarshal(data, &members) == nil && !strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "null")
	if v.Object(func(name string, value ua.Value) { got[name] = string(value) }) != isObject {
		t.Fatalf("%q: is an object: %v", data, isObject)
	}
	if isObject && len(got) != len(members) {
		t.Fatalf("%q: %q, want %q", data, got, members)
	}
	for name, value := range members {
		if isObject && got[name] != string(value) {
			t.Errorf("%q: %q is %q, want %q", data, name, got[name], value)
		}
	}
}

func TestValue_readsScalarsStrictly(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "-7": -7, "9223372036854775807": 1<<63 - 1} {
		if n, ok := ua.Value(in).Int(); !ok || n != want {
			t.Errorf("%s: %d, %v", in, n, ok)
		}
	}
	for _, in := range []string{"1.0", "1e3", "9223372036854775808", `"1"`, "null", "true", ""} {
		if n, ok := ua.Value(in).Int(); ok {
			t.Errorf("%s: is %d", in, n)
		}
	}
	for _, in := range []string{"1", "null", `"true"`, "[]"} {
		if _, ok := ua.Value(in).Bool(); ok {
			t.Errorf("%s: is a truth value", in)
		}
		if s, ok := ua.Value(in).Text(); ok && in[0] != '"' {
			t.Errorf("%s: is the text %q", in, s)
		}
	}
}
