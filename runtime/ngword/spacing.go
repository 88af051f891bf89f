package ngword

// spacing is a list's setting: when letters with separators between them are a word of a script with spaces.
type spacing uint8

const (
	wordSpacing spacing = iota // where the whole begins and ends as words do: `s hit` is one, `push it` is not
	anySpacing
	noSpacing
)

// isSpaced reports separators within a place where the word has none.
func (s *scratch) isSpaced(at span, want []patternRun, have []run) bool {
	for i, r := range have {
		first, last := max(r.first, at.first), min(r.last, at.last)
		if i > 0 && s.letters[first].gap != noGap && !want[i].gap() {
			return true
		}
		for _, l := range s.letters[first+1 : last+1] {
			if l.gap != noGap && !want[i].inner() {
				return true
			}
		}
	}
	return false
}

// maySpace decides whether separators in a place are there to hide the word.
func (s *scratch) maySpace(m *Matcher, at span) bool {
	head, tail := s.letters[at.first], s.letters[at.last]
	if classOf(head) == otherClass && classOf(tail) == otherClass {
		return !s.isPause(at)
	}
	switch m.spacing {
	case anySpacing:
		return true
	case noSpacing:
		return false
	}
	if classOf(head) != otherClass && !s.beginsWord(at.first) || classOf(tail) != otherClass && !s.endsWord(at.last) {
		return false // pieces of several words: pu(sh it)
	}
	return !s.beginsContracted(at) && !s.isOrdinary(at)
}

// beginsContracted reports a place that begins with the end of a contraction: can'(t, it).
func (s *scratch) beginsContracted(at span) bool {
	if at.first == 0 || s.letters[at.first].gap != apostrophe {
		return false
	}
	end := at.first + 1
	for s.letters[end].gap == noGap {
		end++
	}
	return s.isOneOf(at.first, end-1, contractions[:])
}

// isPause reports a short word of a script without spaces that ends one word of the line and begins the next: そ(ば、か)に.
// Whoever hides a word takes other symbols, or puts space around it too.
func (s *scratch) isPause(at span) bool {
	n := at.last - at.first + 1
	if n > 3 {
		return false
	}
	pauses := int32(0)
	for _, l := range s.letters[at.first+1 : at.last+1] {
		switch l.gap {
		case symbolic:
			return false
		case pause:
			pauses++
		}
	}
	inside := func(i int32) bool { return s.letters[i].gap == noGap && classOf(s.letters[i-1]) == otherClass }
	return pauses > 0 && (n == 2 || pauses < n-1) && at.first > 0 && at.last+1 < int32(len(s.letters)) && inside(at.first) &&
		s.letters[at.last+1].gap == noGap && classOf(s.letters[at.last+1]) == otherClass
}

// isOrdinary reports two pieces that people write next to each other and mean so: he'll, `an us citizen`.
func (s *scratch) isOrdinary(at span) bool {
	cut := int32(0)
	for i := at.first + 1; i <= at.last; i++ {
		if s.letters[i].gap != noGap {
			if cut > 0 {
				return false
			}
			cut = i
		}
	}
	first, second := at.first, cut
	switch gap := s.letters[cut].gap; gap {
	case apostrophe:
		return s.isOneOf(second, at.last, contractions[:])
	case pause:
		return at.last > second && s.isOneOf(first, cut-1, smallWords[:])
	}
	return false
}

// contractions follow an apostrophe in English.
var contractions = [...]string{"s", "t", "d", "m", "ll", "re", "ve", "em"}

// smallWords are the words of English that stand before any other.
var smallWords = [...]string{"an", "as", "at", "be", "by", "do", "go", "he", "if", "in", "is", "it", "me", "my", "no", "of", "on", "or", "so", "to",
	"up", "us", "we", "and", "the", "who", "was", "has", "for", "not", "you"}

// isOneOf compares the letters from first to last with words.
func (s *scratch) isOneOf(first, last int32, words []string) bool {
	for _, w := range words {
		if int(last-first)+1 == len(w) && stands(s.letters[first:last+1], w, first == 0 || s.letters[first].gap != noGap) {
			return true
		}
	}
	return false
}
