package ngword

import (
	"strings"
	"unicode/utf8"
)

// masker replaces each code point of the hits by a star. Hits come in the order of their starts.
type masker struct {
	text string
	out  strings.Builder
	done int // bytes of text that are in out
}

func (k *masker) hide(start, end int) {
	if end <= k.done {
		return
	}
	start = max(start, k.done)
	k.out.WriteString(k.text[k.done:start])
	for range utf8.RuneCountInString(k.text[start:end]) {
		k.out.WriteByte('*')
	}
	k.done = end
}

func (k *masker) String() string {
	if k.done == 0 {
		return k.text
	}
	k.out.WriteString(k.text[k.done:])
	return k.out.String()
}
