package ngword

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// letter is one folded letter of a line and where it comes from.
type letter struct {
	r          rune
	start, end int32 // bytes of the original, marks that follow included
	longEnd    int32 // after the long-vowel marks that follow, 0: there is none
	gap        gap   // what stands before it
	look       look
}

// gap is what separates a letter from the one before it.
type gap uint8

const (
	noGap      gap = iota
	apostrophe     // nothing else
	pause          // spaces and the punctuation of sentences, which ordinary lines have between words
	symbolic       // other symbols
)

// run is the same letter some times in a row, whatever stands between.
type run struct {
	r           rune
	first, last int32 // letters
}

// span is a place in the line, in letters, last included.
type span struct {
	first, last int32
	pattern     int32
	list        int32 // of the filter, joinersList
	begins      bool  // where the word may begin: at a boundary, after a word that is joined to it, anywhere if it needs none
	ends        bool  // the same for its end
}

// scratch is the memory of one Check.
type scratch struct {
	text    string // what is read: the line, or a window of it
	offset  int32  // where that begins in the line
	letters []letter
	runs    []run
	scripts scripts // of all letters, once they were counted
	counted bool
	symbols bool   // symbols of words were read as letters
	looks   uint16 // a bit for each look among the letters
	found   []span
	allowed []cover // of all readings
	joins   []uint8 // per letter: joinsBefore, joinsAfter
	heads   []int32 // of chain
	nexts   []int32
	places  []place
	token   []char
	subs    []sub // what the disguised letters of the line stand for
	others  []sub // the same where a symbol stands for two letters, with the second one
}

// fold reads a line into letters and runs. Where subs stand, they are read instead. Symbols that isSymbol knows are letters.
func (s *scratch) fold(text string, isSymbol func(rune) bool, subs []sub) {
	s.text, s.counted, s.symbols = text, false, false
	letters := slices.Grow(s.letters[:0], len(text))
	looks, before := uint16(0), noGap
	for i, n := 0, 1; i < len(text); i += n {
		r := rune(text[i])
		n = 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(text[i:])
		}
		c := r
		if page := foldPages[uint32(r)%tableEnd>>8]; r >= tableEnd {
			c = classify(r)
		} else if page != nil {
			c = page[r&0xff]
		}
		end := int32(i + n)
		if len(subs) > 0 && subs[0].at-s.offset == int32(i) {
			c, subs = subs[0].letter|int32(subs[0].look)<<lookShift, subs[1:]
		}
		if c < 0 {
			s.letters = letters
			if c = s.special(c, r, end, before, isSymbol); c == 0 {
				continue
			}
			if c == isSeparator {
				before = max(before, gapOf(r))
				continue
			}
		}
		if c > isSeveral {
			looks |= 1 << (c >> lookShift)
			letters = append(letters, letter{})
			l := &letters[len(letters)-1]
			l.r, l.start, l.end, l.gap, l.look = c&(1<<lookShift-1), int32(i), end, before, look(c>>lookShift)
		} else {
			for _, r := range expansions[isSeveral-c] {
				l := letter{r: r &^ longFollows, start: int32(i), end: end, gap: before}
				if r&longFollows != 0 {
					l.longEnd = end
				}
				letters, before = append(letters, l), noGap
			}
		}
		before = noGap
	}
	s.letters, s.looks = letters, looks
	s.findRuns()
}

func (s *scratch) findRuns() {
	runs := slices.Grow(s.runs[:0], len(s.letters))
	last := rune(-1)
	for i := range s.letters {
		if r := s.letters[i].r; r == last {
			runs[len(runs)-1].last = int32(i)
		} else {
			runs = append(runs, run{r: r, first: int32(i), last: int32(i)})
			last = r
		}
	}
	s.runs = runs
}

// gapOf tells what kind of gap a separator makes.
func gapOf(r rune) gap {
	switch r {
	case '\'', '’', '‘', 'ʼ':
		return apostrophe
	case ' ', '\t', '\n', '\r', ',', '.', '!', '?', ':', ';', '(', ')', '"', '、', '。', '，', '．', '！', '？', '：', '；', '（', '）', '「', '」', '『', '』', '【', '】':
		return pause
	}
	if unicode.IsSpace(r) {
		return pause
	}
	return symbolic
}

// special deals with what is no letter by itself. It returns 0 when there is nothing more to do, isSeparator, or the letter
// (or letters) after all. before is what stands before it.
func (s *scratch) special(c int32, r rune, end int32, before gap, isSymbol func(rune) bool) int32 {
	if isSymbol != nil && isSymbol(r) {
		s.symbols = true
		return r
	}
	if (c == isLong || c == isSeparator && isWave(r)) && len(s.letters) > 0 {
		// It belongs to the vowel before it, however far that is: no word begins with it.
		if l := &s.letters[len(s.letters)-1]; isKana(l.r) || l.look == blanked {
			l.longEnd = end
		}
	}
	var last *letter
	if n := len(s.letters); n > 0 && before == noGap {
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
		if last != nil {
			last.end = end
			last.r = voiced(last.r, c)
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

// voiced is the kana with the voicing mark c, or the letter as it is when it takes none.
func voiced(r rune, c int32) rune {
	table := &voicedKana
	if c == isHalfVoiced {
		table = &halfVoiced
	}
	if isKana(r) && table[r-0x3000] != 0 {
		return table[r-0x3000]
	}
	return r
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
