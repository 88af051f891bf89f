package envelope

import (
	"strconv"
	"unicode/utf8"
)

// Append appends the envelope as one line of JSON to dst. Whatever the fields hold, what it appends is valid UTF-8 without
// any control byte, line break or NUL, and the same envelope always gives the same bytes.
func (e *Envelope) Append(dst []byte) []byte {
	dst = append(dst, `{"v":1,"k":`...)
	dst = appendString(dst, e.Kind)
	dst = appendMember(dst, `,"t":`, e.Tenant)
	dst = appendMember(dst, `,"c":`, e.Channel)
	dst = appendMember(dst, `,"e":`, e.Epoch)
	dst = appendNumber(dst, `,"s":`, e.Seq)
	dst = appendMember(dst, `,"i":`, e.ID)
	dst = appendMember(dst, `,"u":`, e.User)
	dst = appendMember(dst, `,"n":`, e.Name)
	dst = appendMember(dst, `,"x":`, e.Text)
	dst = appendMember(dst, `,"g":`, e.Target)
	dst = appendNumber(dst, `,"a":`, e.At)
	dst = appendTrue(dst, `,"h":true`, e.Shadow)
	dst = appendTrue(dst, `,"r":true`, e.Ref)
	dst = appendMember(dst, `,"o":`, e.Origin)
	dst = appendList(dst, `,"f":`, e.Flags)
	dst = appendMember(dst, `,"m":`, e.Edited)
	dst = append(dst, e.extra...)
	return append(dst, '}')
}

func appendMember(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

func appendList(dst []byte, key string, values []string) []byte {
	if len(values) == 0 {
		return dst
	}
	dst = append(dst, key...)
	sep := byte('[')
	for _, value := range values {
		dst = appendString(append(dst, sep), value)
		sep = ','
	}
	return append(dst, ']')
}

func appendNumber(dst []byte, key string, value int64) []byte {
	if value <= 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, key...), value, 10)
}

func appendTrue(dst []byte, member string, value bool) []byte {
	if !value {
		return dst
	}
	return append(dst, member...)
}

const hexDigits = "0123456789abcdef"

// appendString quotes s, copying runs that need no escape at once. Invalid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c < 0x20 || c == '"' || c == '\\' || c == 0x7f {
			dst = appendEscape(append(dst, s[start:i]...), c)
			start = i + 1
		}
		i++
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
