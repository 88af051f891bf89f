package supervise

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tailLines   = 10
	tailBytes   = 64 << 10
	maxLineShow = 400 // bytes of one line before escaping
)

// TailLog returns the last n lines of a log, from its last 64 KiB, safe to print on a terminal: control characters and bytes that
// are no text are escaped, long lines clipped. A log that is not there has no lines.
func TailLog(path string, n int) ([]string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-tailBytes)
	b, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if err != nil {
		return nil, err
	}
	if from > 0 { // most likely the middle of a line
		if _, rest, ok := bytes.Cut(b, []byte("\n")); ok {
			b = rest
		}
	}
	return lastLines(b, n), nil
}

func lastLines(b []byte, n int) []string {
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" || n <= 0 {
		return nil
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, l := range lines {
		l = strings.TrimSuffix(l, "\r")
		if len(l) > maxLineShow {
			l = strings.TrimRightFunc(l[:maxLineShow], func(r rune) bool { return r == utf8.RuneError }) + "…"
		}
		lines[i] = Printable(l)
	}
	return lines
}

// Printable escapes what would move a cursor, colour a terminal or reorder a line; a tab becomes a space.
func Printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[0])|0x100, 16)[1:])
		case r == '\t':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
	return b.String()
}
