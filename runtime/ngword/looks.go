package ngword

import "unicode/utf8"

// looksFit decides on letters that are not what they look like: whether each of them may stand for the word's letter.
func (s *scratch) looksFit(m *Matcher, p *pattern, at span) bool {
	var looks uint16
	swapped := false
	i := at.first
	for _, w := range m.runsOf(p) {
		for ; i <= at.last && s.letters[i].r == w.letter(); i++ {
			l := s.letters[i]
			looks |= 1 << l.look
			if l.look == w.look() {
				continue
			}
			if !m.lookAlikes || !s.mayStandFor(l, w.look(), p) {
				return false
			}
			swapped = swapped || l.look != numeral && w.look() != numeral && l.look != disguised
		}
	}
	switch {
	case !swapped:
		return true
	case looks == 1<<ideograph:
		return s.isApart(at)
	case looks&(1<<ideograph) != 0:
		return s.isKatakana(at)
	}
	return looks&(looks-1) != 0 || looks == 1<<cyrillic && s.isLatinLine(at) // letters of one script only are a word of that script
}

// mayStandFor reports whether the letter may be written for one of the word whose own look is given.
func (s *scratch) mayStandFor(l letter, own look, p *pattern) bool {
	switch l.look {
	case disguised:
		return own == plain && p.letters >= minDisguised
	case plain:
		return own == cyrillic || own == greek || own == numeral
	}
	return own == plain || l.look == cyrillic && own == greek || l.look == greek && own == cyrillic
}

// isApart reports a place that is no part of a word of ideographs: 工口, not 人工口.
func (s *scratch) isApart(at span) bool {
	isIdeograph := func(i int32) bool {
		if i < 0 || i >= int32(len(s.letters)) {
			return false
		}
		l := s.letters[i]
		return l.look == ideograph || l.look == numeral || l.r >= 0x3400 && l.r < 0xa000
	}
	return !isIdeograph(at.first-1) && !isIdeograph(at.last+1)
}

// isKatakana reports a place of katakana and ideographs that look like it, apart from other ideographs: バ力, not 全力す.
func (s *scratch) isKatakana(at span) bool {
	for _, l := range s.letters[at.first : at.last+1] {
		if r, _ := utf8.DecodeRuneInString(s.text[l.start:]); l.look == plain && r >= 0x3041 && r < 0x30a0 {
			return false
		}
	}
	return (s.letters[at.first].look != ideograph || s.isApart(span{first: at.first, last: at.first})) &&
		(s.letters[at.last].look != ideograph || s.isApart(span{first: at.last, last: at.last}))
}

// isLatinLine reports a line whose letters outside the place are all Latin, and that has some: nobody writes one Cyrillic word
// there.
func (s *scratch) isLatinLine(at span) bool {
	if !s.counted {
		s.scripts, s.counted = scripts{}, true
		s.scripts.count(s.letters)
	}
	var inside scripts
	inside.count(s.letters[at.first : at.last+1])
	return s.scripts.latin > inside.latin && s.scripts.others == inside.others
}

// scripts counts the letters of alphabets.
type scripts struct{ latin, others int }

func (c *scripts) count(letters []letter) {
	for _, l := range letters {
		switch {
		case l.look == plain && l.r >= 'a' && l.r <= 'z':
			c.latin++
		case classOf(l) == alphabet:
			c.others++
		}
	}
}
