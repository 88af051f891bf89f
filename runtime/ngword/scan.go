package ngword

import "unicode"

// letter is one folded letter of a line and where it comes from.
type letter struct {
	r          rune
	start, end int32 // bytes of the original, marks that follow included
	longEnd    int32 // after the long-vowel marks that follow, 0: there is none
	gap        bool  // separators stand before it
}

// run is the same letter some times in a row, whatever stands between.
type run struct {
	r           rune
	first, last int32 // letters
}

// span is a place in the line, in letters, last included.
type span struct {
	first, last int32
	pattern     int32
	list        int32 // of the filter
	suffix      bool  // ends before the ending of a longer word
}

// scratch is the memory of one Check.
type scratch struct {
	letters []letter
	runs    []run
	found   []span
	allowed []int32 // per letter: the last letter of the longest allowed span that begins at it or before, -1
	joins   []uint8 // per letter: joinsBefore, joinsAfter
}

// fold reads a line into letters and runs.
func (s *scratch) fold(text string, isSymbol func(rune) bool) {
	s.letters, s.runs = s.letters[:0], s.runs[:0]
	gap := false
	for i, r := range text {
		c := int32(r)
		if r < 'a' || r > 'z' {
			c = classify(r)
		}
		end := int32(i) + size(text, i, r)
		if c < 0 {
			if c = s.special(c, r, end, gap, isSymbol); c == 0 {
				continue
			}
			if c == isSeparator {
				gap = true
				continue
			}
		}
		if c > isSeveral {
			s.letters = append(s.letters, letter{r: c, start: int32(i), end: end, gap: gap})
		} else {
			for n, r := range expansions[isSeveral-c] {
				s.letters = append(s.letters, letter{r: r, start: int32(i), end: end, gap: gap && n == 0})
			}
		}
		gap = false
	}
	for i, l := range s.letters {
		if n := len(s.runs); n > 0 && s.runs[n-1].r == l.r {
			s.runs[n-1].last = int32(i)
		} else {
			s.runs = append(s.runs, run{r: l.r, first: int32(i), last: int32(i)})
		}
	}
}

// size is the length of the code point at i; invalid UTF-8 comes as a rune of one byte.
func size(text string, i int, r rune) int32 {
	switch {
	case r < 0x80:
		return 1
	case r < 0x800:
		return 2
	case r == unicode.ReplacementChar && text[i] != 0xef:
		return 1
	case r < 0x10000:
		return 3
	}
	return 4
}

// special deals with what is no letter by itself. It returns 0 when there is nothing more to do, isSeparator, or the letter
// (or letters) after all. gap tells that separators stand before it.
func (s *scratch) special(c int32, r rune, end int32, gap bool, isSymbol func(rune) bool) int32 {
	if isSymbol(r) {
		return r
	}
	if (c == isLong || c == isSeparator && isWave(r)) && len(s.letters) > 0 {
		// It belongs to the vowel before it, however far that is: no word begins with it.
		if l := &s.letters[len(s.letters)-1]; isKana(l.r) {
			l.longEnd = end
		}
	}
	var last *letter
	if n := len(s.letters); n > 0 && !gap {
		last = &s.letters[n-1]
	}
	switch c {
	case isTransparent:
		return 0
	case isLong:
		if last != nil && last.longEnd == end {
			return 0
		}
		return isSeparator
	case isVoiced, isHalfVoiced:
		if last == nil {
			return 0
		}
		last.end = end
		table := &voicedKana
		if c == isHalfVoiced {
			table = &halfVoiced
		}
		if isKana(last.r) && table[last.r-0x3000] != 0 {
			last.r = table[last.r-0x3000]
		}
		return 0
	case isScriptMark:
		if last != nil && hasVowelSigns(last.r) {
			return r
		}
		fallthrough
	case isMark:
		if last != nil {
			last.end = end
		}
		return 0
	}
	return c // several letters
}

// isWave reports what people write for a long-vowel mark.
func isWave(r rune) bool {
	switch r {
	case '〜', '～', '~', '-', '－', '―', '─', '−':
		return true
	}
	return false
}

// keepSymbols notes the symbols that a word is made of: in a word without letters every one, else only pictures, since the
// hyphens of `son-of-a-bitch` are separators.
func (m *Matcher) keepSymbols(word string) {
	letters := false
	for _, r := range word {
		if c := classify(r); c >= 0 || c <= isSeveral {
			letters = true
		}
	}
	for _, r := range word {
		switch c := classify(r); {
		case unicode.IsSpace(r) || c != isSeparator && c != isLong:
		case !letters || c == isSeparator && r >= 0x80 && unicode.Is(unicode.So, r):
			m.symbols[r] = true
		}
	}
}

func (m *Matcher) isSymbol(r rune) bool { return m.symbols[r] }
