package ngword

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// Filter judges lines by several lists together: an allow entry of any of them wins over the words of any of them, and the
// strongest action wins. It does not change and is safe for concurrent use.
type Filter struct {
	lists      []*Matcher // those with words first
	words      int        // how many of them have words
	symbols    bool       // one of them has symbols that are letters of words
	lookAlikes bool       // one of them counts look-alikes
}

// joinersList stands for the words that may be joined to those of the lists.
const joinersList = -1

// NewFilter joins matchers; nil ones are skipped. It costs next to nothing: matchers are shared, not copied.
func NewFilter(lists ...*Matcher) *Filter {
	f := &Filter{}
	for _, hasWords := range []bool{true, false} {
		for _, m := range lists {
			if m != nil && len(m.patterns) > 0 && m.hasWords == hasWords {
				f.lists = append(f.lists, m)
				f.symbols = f.symbols || len(m.symbols) > 0
				f.lookAlikes = f.lookAlikes || m.lookAlikes && hasWords
			}
		}
		if hasWords {
			f.words = len(f.lists)
		}
	}
	return f
}

func (f *Filter) list(i int32) *Matcher {
	if i == joinersList {
		return joiners()
	}
	return f.lists[i]
}

// isSymbol reports symbols that are letters of words. It is nil when there are none.
func (f *Filter) isSymbol() func(rune) bool {
	if !f.symbols {
		return nil
	}
	return func(r rune) bool {
		for _, m := range f.lists {
			if m.symbols[r] {
				return true
			}
		}
		return false
	}
}

// place is where a word stands in the line, in bytes.
type place struct {
	start, end int32
	pattern    int32
	list       int32
}

// Check judges a line. A line without hits costs no allocation. It takes time in proportion to the line.
func (f *Filter) Check(text string) Result {
	res := Result{Text: text}
	if f.words == 0 {
		return res
	}
	if len(text) > maxLine {
		res.Action = actionNames[rejected]
		return res
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	f.scan(s, text)
	worst, told := severity(0), place{}
	masking := masker{text: text}
	for _, at := range s.places {
		if _, ok := f.allowedBy(s, at); ok {
			continue
		}
		p := f.patternOf(at)
		worst = max(worst, p.severity)
		if p.severity == masked {
			masking.hide(int(at.start), int(at.end))
		}
		if n := len(res.Hits); n == maxHits || n > 0 && told.end >= at.end && f.patternOf(told).severity >= p.severity {
			continue // told already, by the hit around it
		}
		res.Hits, told = append(res.Hits, f.hit(at)), at
	}
	if len(res.Hits) > 0 {
		res.Action = actionNames[worst]
		res.Text = masking.String()
	}
	return res
}

func (f *Filter) patternOf(at place) *pattern { return &f.lists[at.list].patterns[at.pattern] }

func (f *Filter) hit(at place) Hit {
	m, p := f.lists[at.list], f.patternOf(at)
	return Hit{List: m.list, Word: m.wordOf(p), Action: actionNames[p.severity], Start: int(at.start), End: int(at.end)}
}

// scan finds the places at which words stand, in order, and what allow entries cover. It reads the line once, and again
// where it holds what can be read in another way: words hide behind symbols that other words are made of, behind digits and
// symbols, behind blanks. Further readings tell only what the first does not.
func (f *Filter) scan(s *scratch, text string) {
	s.places, s.allowed = s.places[:0], s.allowed[:0]
	s.offset = 0
	f.read(s, text, f.isSymbol(), nil)
	f.take(s, 0)
	if s.symbols {
		f.read(s, text, nil, nil)
		f.take(s, 0)
	}
	if f.lookAlikes {
		f.readAgain(s, text, signsOf(text))
	}
	if len(s.places) > 0 {
		s.sortAllowed()
		s.sortPlaces()
	}
}

// readAgain reads what a line may be else. Only a window around what is read in another way is looked at.
func (f *Filter) readAgain(s *scratch, text string, signs signs) {
	if signs.vowels && s.lengthen(text) {
		f.read(s, s.window(text, s.subs), nil, s.subs)
		f.take(s, 0)
	}
	if !signs.disguises && !signs.blanks {
		return
	}
	s.disguise(text)
	if len(s.subs) > 0 {
		window := s.window(text, s.subs)
		f.read(s, window, nil, s.subs)
		f.take(s, 1<<disguised)
		if !slices.Equal(s.subs, s.others) {
			f.read(s, window, nil, s.others)
			f.take(s, 1<<disguised)
		}
	}
	if signs.blanks && s.blank(text) {
		f.fold(s, s.window(text, s.others), nil, s.others)
		budget := blankBudget + blankPerLetter*len(s.letters)
		for i, m := range f.lists[:f.words] {
			if m.lookAlikes {
				m.findBlanked(s, int32(i), &budget)
			}
		}
		f.take(s, 1<<blanked)
	}
}

// margin is how far around a disguised letter its word may reach, in bytes.
const margin = 36

// window is the part of the line around the subs, and sets s.offset to where it begins.
func (s *scratch) window(text string, subs []sub) string {
	first, end := max(int(subs[0].at)-margin, 0), min(int(subs[len(subs)-1].at)+margin, len(text))
	for first > 0 && !utf8.RuneStart(text[first]) {
		first--
	}
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end++
	}
	s.offset = int32(first)
	return text[first:end]
}

func (f *Filter) fold(s *scratch, text string, isSymbol func(rune) bool, subs []sub) {
	s.fold(text, isSymbol, subs)
	s.found = s.found[:0]
}

// read finds words in one reading of the line. Lists without words are asked only when there is a word.
func (f *Filter) read(s *scratch, text string, isSymbol func(rune) bool, subs []sub) {
	f.fold(s, text, isSymbol, subs)
	for i, m := range f.lists {
		if i >= f.words && len(s.found) == 0 {
			return
		}
		m.find(s.runs, func(pattern int32, at int) { f.tryPlace(s, int32(i), pattern, at) })
	}
}

// take keeps the places found in a reading, those that need one of the looks given; 0: all.
func (f *Filter) take(s *scratch, looks uint16) {
	if len(s.found) == 0 {
		return
	}
	f.dropUnjoined(s)
	for _, at := range s.found {
		if looks == 0 || s.looksOf(at)&looks != 0 {
			s.places = append(s.places, place{s.offset + s.letters[at.first].start, s.offset + s.endOf(f.list(at.list), at), at.pattern, at.list})
		}
	}
}

func (s *scratch) looksOf(at span) (looks uint16) {
	for _, l := range s.letters[at.first : at.last+1] {
		looks |= 1 << l.look
	}
	return looks
}

// sortPlaces sorts the places by where they begin, longer ones first, each once.
func (s *scratch) sortPlaces() {
	byPlace := func(a, b place) int {
		if a.start != b.start {
			return int(a.start - b.start)
		}
		return cmp.Or(int(b.end-a.end), int(a.list-b.list), int(a.pattern-b.pattern))
	}
	if !slices.IsSortedFunc(s.places, byPlace) {
		slices.SortFunc(s.places, byPlace)
	}
	s.places = slices.Compact(s.places)
}

// resize returns n zeroes, in the memory given if that is enough.
func resize(b []uint8, n int) []uint8 {
	b = slices.Grow(b[:0], n)[:n]
	clear(b)
	return b
}
