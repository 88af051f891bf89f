package ngword

import "sort"

// anyLetter is the letter of a blank. No entry has it.
const anyLetter rune = 1<<lookShift - 1

// Bounds of the search for words with blanks in them, per line: the patterns looked at, with an allowance for each letter;
// and how far before its first blank a word begins, in letters.
const (
	blankBudget    = 4096
	blankPerLetter = 2
	blankSearch    = 8 // what a search costs besides
	blankReach     = 12
)

// blank adds to the subs of the disguised reading, in s.others, what may stand for any letter: `f*ck`, お○んこ, おxにx. It
// reports whether there is any.
func (s *scratch) blank(text string) bool {
	s.readChars(text)
	merged, subs := s.others[:0], s.subs
	found := false
	for i := 0; i < len(s.token); {
		end := i + 1
		for isMasking(s.token[i]) && end < len(s.token) && isMasking(s.token[end]) {
			end++
		}
		blank := s.isBlank(i, end)
		found = found || blank
		for ; i < end; i++ {
			for len(subs) > 0 && subs[0].at < s.token[i].at {
				merged, subs = append(merged, subs[0]), subs[1:]
			}
			if blank {
				merged = append(merged, sub{s.token[i].at, anyLetter, blanked})
				if len(subs) > 0 && subs[0].at == s.token[i].at {
					subs = subs[1:]
				}
			}
		}
	}
	s.others = append(merged, subs...)
	return found
}

// readChars makes one token of the whole line.
func (s *scratch) readChars(text string) {
	s.token = s.token[:0]
	for i, r := range text {
		k := kindOf(r)
		if k == vowelKind {
			k = nativeKind
		}
		s.token = append(s.token, char{int32(i), r, k})
	}
}

func isMasking(c char) bool { return c.kind == blankKind || c.r == '#' }

// isBlank reports that the characters from first to end, which are one letter or masking symbols, stand within a word for any
// letters.
func (s *scratch) isBlank(first, end int) bool {
	if first == 0 {
		return false
	}
	before, next := s.token[first-1].kind, otherKind
	if end < len(s.token) {
		next = s.token[end].kind
	}
	switch c := s.token[first]; {
	case c.r == '#':
		return before == latinKind && next == latinKind
	case c.kind == blankKind && before == nativeKind:
		return true
	case c.kind == blankKind:
		return (before == latinKind || before == digitKind) &&
			(next == latinKind || next == nativeKind || next == digitKind || c.r != '*')
	case isCross(c.r):
		return before == nativeKind && next != latinKind || before == latinKind && next == nativeKind
	}
	return false
}

// findBlanked finds words with blanks. At least half of the letters must be there, and two of them.
func (m *Matcher) findBlanked(s *scratch, list int32, budget *int) {
	for i := range s.letters {
		if *budget <= 0 {
			return
		}
		if s.letters[i].look != blanked || i > 0 && s.letters[i-1].look == blanked {
			continue
		}
		for first := i - 1; first >= 0 && first > i-blankReach; first-- {
			if s.letters[first].look == blanked {
				break
			}
			m.findBlankedAt(s, list, first, budget)
			if s.letters[first].gap != noGap {
				break
			}
		}
	}
}

// findBlankedAt looks at the entries that begin with the letter, and with the one after it when that is there.
func (m *Matcher) findBlankedAt(s *scratch, list int32, first int, budget *int) {
	key := [2]rune{s.letters[first].r, -1}
	if second := s.letters[first+1]; second.look != blanked {
		key[1] = second.r
	}
	from := sort.Search(len(m.patterns), func(i int) bool { return m.compareKey(i, key) >= 0 })
	*budget -= blankSearch
	for i := from; i < len(m.patterns) && m.compareKey(i, key) == 0 && *budget > 0; i++ {
		*budget--
		p := &m.patterns[i]
		last, ok := m.standsBlanked(p, s, first)
		if !ok || p.allow {
			continue
		}
		at := span{first: int32(first), last: int32(last), pattern: int32(i), list: list}
		tail := m.runsOf(p)[p.runCount-1]
		if isWordy(p.mode, s.letters[first]) && !s.beginsWord(at.first) ||
			isWordy(p.mode, letter{r: tail.letter(), look: tail.look()}) && !s.endsBlanked(at.last) {
			continue
		}
		at.begins, at.ends = true, true
		s.found = append(s.found, at)
	}
}

func (s *scratch) endsBlanked(last int32) bool {
	rest := s.letters[last+1:]
	return s.endsWord(last) || isEnding(rest, len(rest)+4, false)
}

// compareKey orders an entry by its first run, and by the second when the key has one or the first letter is doubled.
func (m *Matcher) compareKey(i int, key [2]rune) int {
	runs := m.runsOf(&m.patterns[i])
	if runs[0].letter() != key[0] || key[1] < 0 || key[1] == key[0] {
		return int(runs[0].letter()) - int(key[0])
	}
	if len(runs) == 1 {
		return -1
	}
	return int(runs[1].letter()) - int(key[1])
}

// standsBlanked returns the last letter of the entry that stands at the letter first, if enough of it is there.
func (m *Matcher) standsBlanked(p *pattern, s *scratch, first int) (last int, ok bool) {
	at, there := first, 0
	for _, w := range m.runsOf(p) {
		for range w.count() {
			if at == len(s.letters) || at > first && s.letters[at].gap != noGap {
				return 0, false
			}
			switch l := s.letters[at]; {
			case l.r == w.letter() && l.look == w.look():
				there++
			case l.look != blanked && (l.look != disguised || l.r != w.letter()):
				return 0, false
			}
			at++
		}
		if w.long() && at < len(s.letters) && s.letters[at].look == blanked && s.letters[at-1].longEnd == 0 {
			at++ // the blank stands for the long-vowel mark
		}
	}
	n := at - first
	blanks := 0
	for _, l := range s.letters[first:at] {
		if l.look == blanked {
			blanks++
		}
	}
	return at - 1, blanks > 0 && n >= minDisguised && there >= 2 && 2*there >= n
}
