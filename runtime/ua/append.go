package ua

import (
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/hub"
)

// buffers hold frames and payloads while they are made.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the largest buffer worth keeping: one long text must not stay for good.
const maxKept = 64 << 10

func putBuffer(buf *[]byte) {
	if cap(*buf) <= maxKept {
		buffers.Put(buf)
	}
}

// AppendFrame appends a ready WebSocket frame around what payload appends, and nothing if that is nothing. The payload is made
// aside, since a frame begins with its length.
func AppendFrame(dst []byte, payload func([]byte) []byte) []byte {
	buf := buffers.Get().(*[]byte)
	*buf = payload((*buf)[:0])
	if len(*buf) > 0 {
		dst = hub.AppendText(dst, *buf)
	}
	putBuffer(buf)
	return dst
}

const hexDigits = "0123456789abcdef"

// plain marks the ASCII bytes that stand in a JSON string as they are.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD; U+2028 and U+2029 are escaped, since some
// clients paste what they get into a script.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(append(dst, s[start:i]...), "\ufffd"...)
			start = i + size
		} else if r == '\u2028' || r == '\u2029' {
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i + size
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// AppendText appends `key` and the JSON string of s; key brings its own comma, quotes and colon, as `,"id":`.
func AppendText(dst []byte, key, s string) []byte {
	return AppendString(append(dst, key...), s)
}

// AppendTextIf appends nothing when s is empty.
func AppendTextIf(dst []byte, key, s string) []byte {
	if s == "" {
		return dst
	}
	return AppendText(dst, key, s)
}

// AppendInt appends `key` and n.
func AppendInt(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(dst, key...), n, 10)
}

// AppendBool appends `key` and b.
func AppendBool(dst []byte, key string, b bool) []byte {
	return strconv.AppendBool(append(dst, key...), b)
}
