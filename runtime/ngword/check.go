package ngword

import (
	"slices"
	"unicode"
)

const (
	joinsBefore = 1 << iota // the letter begins a word, or follows one that was found
	joinsAfter              // the letter ends a word, or another that was found follows
)

// find collects the places at which a pattern stands, and what the allow entries cover.
func (m *Matcher) find(s *scratch, list int32) {
	node := int32(0)
	for i, r := range s.runs {
		node = m.auto.step(node, r.r)
		for n := node; n != 0; n = m.auto.dict[n] {
			for p := m.auto.out[n]; p >= 0; p = m.patterns[p].next {
				m.place(s, span{pattern: p, list: list}, i)
			}
		}
	}
}

// place checks that the pattern of f really stands in the runs that end with run e: enough of each letter, long vowels where the
// word has them, and nothing around it that makes it part of another word.
func (m *Matcher) place(s *scratch, f span, e int) {
	pat := &m.patterns[f.pattern]
	want := m.runs[pat.offset : pat.offset+uint32(pat.runs)]
	have := s.runs[e-len(want)+1 : e+1]
	for i, w := range want {
		if have[i].last-have[i].first+1 < int32(w.count) || w.long && !s.anyLong(have[i]) {
			return
		}
	}
	switch {
	case pat.allow:
		s.placeAllow(pat, want, have)
	case len(want) == 1:
		s.placeSingle(pat, f, have[0])
	default:
		s.placeWord(pat, f, want, have)
	}
}

func (s *scratch) anyLong(r run) bool {
	for _, l := range s.letters[r.first : r.last+1] {
		if l.longEnd > 0 {
			return true
		}
	}
	return false
}

// placeAllow notes what an allow entry covers. It must stand there as it is written, separators and repeats included, or
// it would be a hole for the words in it.
func (s *scratch) placeAllow(pat *pattern, want []patternRun, have []run) {
	first := have[0].last - int32(want[0].count) + 1
	if len(want) == 1 {
		first = have[0].first
	}
	for i := 1; i < len(have)-1; i++ {
		if have[i].last-have[i].first+1 != int32(want[i].count) {
			return
		}
	}
	for ; first+int32(pat.letters)-1 <= have[len(have)-1].last; first += int32(pat.letters) {
		for i := range int32(pat.letters) {
			if i > 0 && s.letters[first+i].gap != pat.gaps[i] {
				return
			}
		}
		s.allow(first, first+int32(pat.letters)-1)
		if len(want) > 1 {
			return
		}
	}
}

func (s *scratch) allow(first, last int32) {
	for len(s.allowed) < len(s.letters) {
		s.allowed = append(s.allowed, -1)
	}
	s.allowed[first] = max(s.allowed[first], last)
}

// isAllowed reports whether the place lies within an allowed one. order has made allowed rise.
func (s *scratch) isAllowed(f span) bool { return len(s.allowed) > 0 && s.allowed[f.first] >= f.last }

// placeSingle places a word of one letter, or of one letter repeated: as often as it fits into the run.
func (s *scratch) placeSingle(pat *pattern, f span, have run) {
	n := int32(pat.letters)
	for first := have.first; first+n-1 <= have.last; first += n {
		last := first + n - 1
		if pat.mode != substring && isWordy(pat.mode, have.r) {
			// Within a run of letters of a script with spaces only the whole of it is a word.
			for last < have.last && !s.letters[last+1].gap {
				last++
			}
			if !s.beginsWord(first) || !s.endsWord(last) {
				first = last + 1 - n
				continue
			}
			f.first, f.last = first, last
			s.found = append(s.found, f)
			first = last + 1 - n
			continue
		}
		f.first, f.last = first, last
		s.found = append(s.found, f)
	}
}

// placeWord chooses how much of the first and of the last run belongs to the word: in `this shit` only the second s does.
func (s *scratch) placeWord(pat *pattern, f span, want []patternRun, have []run) {
	head, tail := have[0], have[len(have)-1]
	f.first, f.last = head.last-int32(want[0].count)+1, tail.first+int32(want[len(want)-1].count)-1
	if isWordy(pat.mode, head.r) {
		for f.first > head.first && !s.beginsWord(f.first) {
			f.first--
		}
		if !s.beginsWord(f.first) && pat.mode == wordOnly {
			return
		}
	} else {
		for f.first > head.first && !s.letters[f.first].gap {
			f.first-- // ババカ
		}
	}
	if isWordy(pat.mode, tail.r) {
		exact := f.last
		for f.last < tail.last && !s.endsWord(f.last) {
			f.last++
		}
		if !s.endsWord(f.last) {
			if pat.mode == wordOnly {
				return
			}
			f.suffix = isEnding(s.letters[f.last+1:], int(pat.letters), f.last > exact)
			if f.suffix && f.last == exact+1 {
				f.last = exact // shitty: the second t belongs to the ending
			}
		}
	}
	if pat.mode == auto && s.hasGap(f) && (!s.fits(f.first, true, head.r) || !s.fits(f.last, false, tail.r)) {
		return // pieces of several words: pu(sh it)
	}
	s.found = append(s.found, f)
}

// hasGap reports separators inside a place.
func (s *scratch) hasGap(f span) bool {
	for _, l := range s.letters[f.first+1 : f.last+1] {
		if l.gap {
			return true
		}
	}
	return false
}

func (s *scratch) fits(i int32, begin bool, r rune) bool {
	switch {
	case !isWordy(auto, r):
		return true
	case begin:
		return s.beginsWord(i)
	}
	return s.endsWord(i)
}

// dropUnjoined keeps, of the words that need a boundary, those that have one, or that are joined to others which have.
func (f *Filter) dropUnjoined(s *scratch) {
	s.joins = slices.Grow(s.joins[:0], len(s.letters)+1)[:len(s.letters)+1]
	clear(s.joins)
	slices.SortFunc(s.found, func(a, b span) int { return int(a.first - b.first) })
	for _, at := range s.found {
		if f.begins(s, at) {
			s.joins[at.last+1] |= joinsBefore
		}
	}
	slices.SortFunc(s.found, func(a, b span) int { return int(b.last - a.last) })
	kept := s.found[:0]
	for _, at := range s.found {
		if f.begins(s, at) && f.ends(s, at) {
			s.joins[at.first] |= joinsAfter
			kept = append(kept, at)
		}
	}
	s.found = kept
}

func (f *Filter) begins(s *scratch, at span) bool {
	return !isWordy(f.pattern(at).mode, s.letters[at.first].r) || s.beginsWord(at.first) || s.joins[at.first]&joinsBefore != 0
}

func (f *Filter) ends(s *scratch, at span) bool {
	return at.suffix || !isWordy(f.pattern(at).mode, s.letters[at.last].r) || s.endsWord(at.last) || s.joins[at.last+1]&joinsAfter != 0
}

// order sorts the places by where they begin, longer ones first, and makes allowed rise along the line.
func (s *scratch) order() {
	slices.SortFunc(s.found, func(a, b span) int {
		if a.first != b.first {
			return int(a.first - b.first)
		}
		return int(b.last - a.last)
	})
	for i := 1; i < len(s.allowed); i++ {
		s.allowed[i] = max(s.allowed[i], s.allowed[i-1])
	}
}

// isWordy reports whether a word with this letter at its end needs a boundary there.
func isWordy(m mode, r rune) bool {
	switch m {
	case substring:
		return false
	case wordOnly:
		return true
	}
	return classOf(r) != otherClass
}

// The classes of letters: where they change, a word ends.
const (
	otherClass = iota // scripts without spaces between words, and symbols
	alphabet
	digit
)

func classOf(r rune) int {
	switch {
	case r >= 'a' && r <= 'z':
		return alphabet
	case unicode.IsDigit(r):
		return digit
	case r < 0x0e00 || r >= 0x10a0 && r < 0x1100 || r >= 0x1e00 && r < 0x2000:
		if unicode.IsLetter(r) {
			return alphabet
		}
	}
	return otherClass
}

func (s *scratch) beginsWord(i int32) bool {
	return i == 0 || s.letters[i].gap || classOf(s.letters[i-1].r) != classOf(s.letters[i].r)
}

func (s *scratch) endsWord(i int32) bool {
	return i+1 == int32(len(s.letters)) || s.beginsWord(i+1)
}

// endings are what a Latin word may carry and still be the same word. Short words take the first two only (`ass` is not in
// `assed`), and `y` follows a doubled letter (`shitty`, not `cocky`).
var endings = []string{"s", "es", "ed", "er", "ers", "ing", "ings"}

func isEnding(rest []letter, letters int, doubled bool) bool {
	for i, e := range endings {
		if letters < 4 && i > 1 {
			return false
		}
		if stands(rest, e) {
			return true
		}
	}
	return doubled && stands(rest, "y")
}

func stands(rest []letter, ending string) bool {
	for i := range len(ending) {
		if i >= len(rest) || rest[i].gap || rest[i].r != rune(ending[i]) {
			return false
		}
	}
	n := len(ending)
	return n == len(rest) || rest[n].gap || classOf(rest[n].r) != alphabet
}
