package ua

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
)

// Value is one JSON value, known to be well formed, still as the bytes of its frame. Reading it allocates only what is asked
// for; nesting that nobody asks for is skipped, not descended into.
type Value []byte

// ParseJSON checks a whole frame once. The value shares the frame's memory.
func ParseJSON(frame []byte) (Value, bool) {
	if !json.Valid(frame) {
		return nil, false
	}
	return Value(bytes.Trim(frame, " \t\r\n")), true
}

// Object calls member for each member in order and reports false if v is no object. Names that are alike come more than once.
func (v Value) Object(member func(name string, value Value)) bool {
	return v.walk('{', func(name, value Value) bool {
		text, _ := name.Text()
		member(text, value)
		return true
	})
}

// Array calls item for each item in order until it returns false; it reports false if v is no array.
func (v Value) Array(item func(Value) bool) bool {
	return v.walk('[', func(_, value Value) bool { return item(value) })
}

// walk goes over the members of an object or array that is known to be well formed.
func (v Value) walk(open byte, member func(name, value Value) bool) bool {
	if len(v) == 0 || v[0] != open {
		return false
	}
	i := skipBlank(v, 1)
	for v[i] != '}' && v[i] != ']' {
		var name Value
		if open == '{' {
			end := skipValue(v, i)
			name = v[i:end]
			i = skipBlank(v, skipBlank(v, end)+1) // over the colon
		}
		end := skipValue(v, i)
		if !member(name, v[i:end:end]) {
			return true
		}
		i = skipBlank(v, end)
		if v[i] == ',' {
			i = skipBlank(v, i+1)
		}
	}
	return true
}

// Text returns a string's text; false if v is no string or not UTF-8. Half surrogate pairs become U+FFFD.
func (v Value) Text() (string, bool) {
	if len(v) < 2 || v[0] != '"' || !utf8.Valid(v) {
		return "", false
	}
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// Bool returns a truth value; false in ok if v is none.
func (v Value) Bool() (value, ok bool) {
	switch string(v) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// Int returns an integer written without fraction or exponent that fits 64 bits.
func (v Value) Int() (int64, bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil
}

func skipBlank(v Value, i int) int {
	for v[i] == ' ' || v[i] == '\t' || v[i] == '\r' || v[i] == '\n' {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at i.
func skipValue(v Value, i int) int {
	depth := 0
	for ; i < len(v); i++ {
		switch v[i] {
		case '"':
			i = endOfString(v, i)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth == 0 {
				return endOfScalar(v, i)
			}
			continue // of a scalar, a separator or a blank inside: none holds a bracket or a quote
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(v)
}

// endOfString returns the index of the closing quote of the string that begins at i.
func endOfString(v Value, i int) int {
	for i++; v[i] != '"'; i++ {
		if v[i] == '\\' {
			i++
		}
	}
	return i
}

// endOfScalar returns the index after the number or word that begins at i.
func endOfScalar(v Value, i int) int {
	for i < len(v) {
		switch v[i] {
		case ' ', '\t', '\r', '\n', ',', ':', '}', ']':
			return i
		}
		i++
	}
	return i
}

// Fields collects what a command's members say and the first complaint about them, so that decoders stay flat.
type Fields struct {
	Bad *chat.Error
}

// Text reads a string member of at most limit bytes.
func (f *Fields) Text(dst *string, name string, v Value, limit int) {
	s, ok := v.Text()
	switch {
	case !ok:
		f.refuse(name, "a string")
	case len(s) > limit:
		f.refuse(name, "at most "+strconv.Itoa(limit)+" bytes")
	default:
		*dst = s
	}
}

// Bool reads a member that is true or false.
func (f *Fields) Bool(dst *bool, name string, v Value) {
	b, ok := v.Bool()
	if !ok {
		f.refuse(name, "true or false")
	}
	*dst = b
}

// Int reads an integer member.
func (f *Fields) Int(dst *int64, name string, v Value) {
	n, ok := v.Int()
	if !ok {
		f.refuse(name, "an integer")
	}
	*dst = n
}

// Need complains about a string member that is missing or empty.
func (f *Fields) Need(name, value string) {
	if value == "" {
		f.Missing(name)
	}
}

// Missing complains about a member that is not there.
func (f *Fields) Missing(name string) { f.refuse(name, "given") }

func (f *Fields) refuse(name, want string) {
	if f.Bad == nil {
		f.Bad = chat.Errorf(chat.CodeBadFrame, "%s must be %s", name, want)
	}
}
