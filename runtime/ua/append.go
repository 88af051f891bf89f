package ua

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
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

// plain marks the bytes that stand in a JSON string as they are. 0xe2 begins U+2028 and U+2029, and much else.
var plain = func() (t [256]bool) {
	for c := 0x20; c < len(t); c++ {
		t[c] = c != '"' && c != '\\' && c != 0xe2
	}
	return t
}()

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD; U+2028 and U+2029 are escaped, since some
// clients paste what they get into a script.
func AppendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		if c != 0xe2 {
			dst = appendEscape(append(dst, s[start:i]...), c)
			start = i + 1
		} else if s[i+1] == 0x80 && s[i+2]&^1 == 0xa8 {
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, '8'+s[i+2]&1)
			start = i + 3
			i += 2
		}
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

// AppendDeprecation appends the member `,"deprecated":{...}` when the version will go away, nothing otherwise. Times are Unix milliseconds.
func AppendDeprecation(b []byte, d store.Deprecation) []byte {
	if d.Deprecated.IsZero() {
		return b
	}
	b = AppendInt(b, `,"deprecated":{"since":`, d.Deprecated.UnixMilli())
	if !d.Sunset.IsZero() {
		b = AppendInt(b, `,"sunset":`, d.Sunset.UnixMilli())
	}
	if d.Notice != "" {
		b = AppendText(b, `,"message":`, d.Notice)
	}
	return append(b, '}')
}
