package ngword

import "slices"

// tryPlace checks that the entry, whose letters stand in the runs from i on, really is there: enough of each letter, long
// vowels where it has them, and nothing around it that makes it part of another word. It notes the place.
func (f *Filter) tryPlace(s *scratch, list int32, pattern int32, i int) {
	m := f.list(list)
	p := &m.patterns[pattern]
	want := m.runsOf(p)
	have := s.runs[i : i+len(want)]
	for i, w := range want {
		if have[i].last-have[i].first+1 < w.count() || w.long() && !s.anyLong(have[i]) {
			return
		}
	}
	at := span{pattern: pattern, list: list}
	switch {
	case p.allow:
		s.placeAllow(m, at, want, have)
	case len(want) == 1:
		s.placeSingle(m, at, have[0])
	default:
		s.placeWord(m, at, want, have)
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

// placeSingle places a word of one letter, or of one letter repeated: as often as it fits into the run.
func (s *scratch) placeSingle(m *Matcher, at span, have run) {
	p := &m.patterns[at.pattern]
	n := int32(p.letters)
	at.begins, at.ends = true, true // one of a script with spaces is noted only where it does
	for first := have.first; first+n-1 <= have.last; first += n {
		last := first + n - 1
		if p.mode != substring && isWordy(p.mode, s.letters[have.first]) {
			// Within a run of letters of a script with spaces only the whole of it is a word.
			for last < have.last && s.letters[last+1].gap == noGap {
				last++
			}
			next := last + 1
			if s.beginsWord(first) && s.endsWord(last) {
				at.first, at.last = first, last
				s.keep(m, at)
			}
			first = next - n
			continue
		}
		at.first, at.last = first, last
		s.keep(m, at)
	}
}

// placeWord chooses how much of the first and of the last run belongs to the word: in `this shit` only the second s does.
func (s *scratch) placeWord(m *Matcher, at span, want []patternRun, have []run) {
	p := &m.patterns[at.pattern]
	head, tail := have[0], have[len(have)-1]
	at.first, at.last = head.last-want[0].count()+1, tail.first+want[len(want)-1].count()-1
	if isWordy(p.mode, s.letters[head.last]) {
		at.begins = s.beginsWord(at.first)
		for at.first > head.first && !at.begins {
			at.first--
			at.begins = s.beginsWord(at.first)
		}
	} else {
		at.begins = true
		for at.first > head.first && s.letters[at.first].gap == noGap {
			at.first-- // ババカ
		}
	}
	if isWordy(p.mode, s.letters[tail.first]) {
		s.findEnd(&at, p, tail)
	} else {
		at.ends = true
	}
	if p.mode == wordOnly && !(at.begins && s.endsWord(at.last)) {
		return
	}
	if s.isSpaced(at, want, have) {
		if !s.maySpace(m, at) {
			return
		}
		at.begins, at.ends = at.begins || m.spacing == anySpacing, at.ends || m.spacing == anySpacing
	}
	s.keep(m, at)
}

// findEnd chooses how much of the last run belongs to a word of a script with spaces.
func (s *scratch) findEnd(at *span, p *pattern, tail run) {
	exact := at.last
	at.ends = s.endsWord(at.last)
	for at.last < tail.last && !at.ends {
		at.last++
		at.ends = s.endsWord(at.last)
	}
	if !at.ends {
		at.ends = isEnding(s.letters[at.last+1:], int(p.letters), at.last > exact)
		if at.ends && at.last == exact+1 {
			at.last = exact // shitty: the second t belongs to the ending
		}
	}
}

// keep notes a place whose letters look like those of the word, and may.
func (s *scratch) keep(m *Matcher, at span) {
	p := &m.patterns[at.pattern]
	if (s.looks > 1<<plain || p.odd) && !s.looksFit(m, p, at) || s.isInIdentifier(at) {
		return
	}
	s.found = append(s.found, at)
}

// isInIdentifier reports Latin letters that touch digits in a hexadecimal identifier.
func (s *scratch) isInIdentifier(at span) bool {
	isDigit := func(i int32) bool {
		return i >= 0 && i < int32(len(s.letters)) && s.letters[i].r >= '0' && s.letters[i].r <= '9'
	}
	return (isDigit(at.first-1) || isDigit(at.last+1)) && classOf(s.letters[at.first]) == alphabet && isIdentifier(s.text, int(s.letters[at.first].start))
}

// dropUnjoined keeps, of the words that need a boundary, those that have one, or that are joined to others which have.
func (f *Filter) dropUnjoined(s *scratch) {
	if !slices.ContainsFunc(s.found, func(at span) bool { return !at.begins || !at.ends }) {
		return
	}
	joiners().find(s.runs, func(pattern int32, at int) { f.tryPlace(s, joinersList, pattern, at) })
	s.join()
	s.found = slices.DeleteFunc(s.found, func(at span) bool { return at.list == joinersList || !at.begins || !at.ends })
}

const (
	joinsBefore = 1 << iota // the letter follows a word that was found
	joinsAfter              // the letter begins one
)

// join lets words begin and end where others that were found end and begin.
func (s *scratch) join() {
	joins := resize(s.joins, len(s.letters)+1)
	s.chain(func(at span) int32 { return at.first })
	for i, n := range s.heads {
		for ; n >= 0; n = s.nexts[n] {
			at := &s.found[n]
			at.begins = at.begins || joins[i]&joinsBefore != 0
			if at.begins {
				joins[at.last+1] |= joinsBefore
			}
		}
	}
	s.chain(func(at span) int32 { return at.last })
	for i := len(s.heads) - 1; i >= 0; i-- {
		for n := s.heads[i]; n >= 0; n = s.nexts[n] {
			at := &s.found[n]
			at.ends = at.ends || joins[i+1]&joinsAfter != 0
			if at.begins && at.ends {
				joins[at.first] |= joinsAfter
			}
		}
	}
	s.joins = joins
}

// chain lists what was found by the letter that key tells: s.heads has the first of each letter, s.nexts the one after each, -1
// is the end.
func (s *scratch) chain(key func(span) int32) {
	s.heads = slices.Grow(s.heads[:0], len(s.letters))[:len(s.letters)]
	s.nexts = slices.Grow(s.nexts[:0], len(s.found))[:len(s.found)]
	for i := range s.heads {
		s.heads[i] = -1
	}
	for n, at := range s.found {
		letter := key(at)
		s.nexts[n], s.heads[letter] = s.heads[letter], int32(n)
	}
}
