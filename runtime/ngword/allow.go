package ngword

import "slices"

// cover is what an allow entry covers, in bytes.
type cover struct {
	start, end int32
	pattern    int32
	list       int32
}

// placeAllow notes what an allow entry covers. It must stand there as it is written, separators and repeats included, or
// it would be a hole for the words in it; a Latin one may also be spaced out as a whole (`h e l l o`).
func (s *scratch) placeAllow(m *Matcher, at span, want []patternRun, have []run) {
	p := &m.patterns[at.pattern]
	if len(want) == 1 {
		for first := have[0].first; first+int32(p.letters)-1 <= have[0].last; first += int32(p.letters) {
			at.first, at.last = first, first+int32(p.letters)-1
			s.allow(m, at, want, have)
		}
		return
	}
	for i := 1; i < len(have)-1; i++ {
		if have[i].last-have[i].first+1 != want[i].count() {
			return
		}
	}
	at.first, at.last = have[0].last-want[0].count()+1, have[len(have)-1].first+want[len(want)-1].count()-1
	s.allow(m, at, want, have)
}

func (s *scratch) allow(m *Matcher, at span, want []patternRun, have []run) {
	p := &m.patterns[at.pattern]
	if (s.isSpaced(at, want, have) || !s.hasGaps(at, want, have)) && !s.isSpacedOut(at) {
		return
	}
	if (s.looks > 1<<plain || p.odd) && !s.looksFit(m, p, at) {
		return
	}
	s.allowed = append(s.allowed, cover{s.offset + s.letters[at.first].start, s.offset + s.endOf(m, at), at.pattern, at.list})
}

// hasGaps reports that the separators of the entry are there.
func (s *scratch) hasGaps(at span, want []patternRun, have []run) bool {
	for i := 1; i < len(want); i++ {
		if want[i].gap() && s.letters[have[i].first].gap == noGap {
			return false
		}
	}
	return true
}

// isSpacedOut reports a place of Latin letters with a separator between any two, that begins and ends as words do.
func (s *scratch) isSpacedOut(at span) bool {
	for i := at.first; i <= at.last; i++ {
		if classOf(s.letters[i]) != alphabet || i > at.first && s.letters[i].gap == noGap {
			return false
		}
	}
	return s.beginsWord(at.first) && s.endsWord(at.last)
}

// endOf is where a place ends in the line, in bytes: with the long-vowel marks that the word ends with.
func (s *scratch) endOf(m *Matcher, at span) int32 {
	p := &m.patterns[at.pattern]
	l := s.letters[at.last]
	if m.runs[p.runs+uint32(p.runCount)-1].long() {
		return max(l.end, l.longEnd)
	}
	return l.end
}

// sortAllowed makes isAllowed fast: covers stand in order, longer ones first.
func (s *scratch) sortAllowed() {
	slices.SortFunc(s.allowed, func(a, b cover) int {
		if a.start != b.start {
			return int(a.start - b.start)
		}
		return int(b.end - a.end)
	})
	longest := s.allowed[:0]
	for _, c := range s.allowed {
		if n := len(longest); n == 0 || c.end > longest[n-1].end || c.start == longest[n-1].start && c.end == longest[n-1].end {
			longest = append(longest, c)
		}
	}
	s.allowed = longest
}

// allowedBy returns the allow entry that covers a place. Those that KMS brings along yield to a word that is spelled like
// the entry: who forbids `cocky` means it.
func (f *Filter) allowedBy(s *scratch, at place) (cover, bool) {
	i, _ := slices.BinarySearchFunc(s.allowed, at.end, func(c cover, end int32) int { return int(c.end - end) })
	for ; i < len(s.allowed) && s.allowed[i].start <= at.start; i++ {
		c := s.allowed[i]
		if !f.lists[c.list].shipped || c.start < at.start || c.end > at.end {
			return c, true
		}
	}
	return cover{}, false
}
