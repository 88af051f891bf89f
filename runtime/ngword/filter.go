package ngword

// Filter judges lines by several lists together: an allow entry of any of them wins over the words of any of them, and the
// strongest action wins. It does not change and is safe for concurrent use.
type Filter struct {
	lists []*Matcher
}

// NewFilter joins matchers; nil ones are skipped. It costs next to nothing: matchers are shared, not copied.
func NewFilter(lists ...*Matcher) *Filter {
	f := &Filter{}
	for _, m := range lists {
		if m != nil && len(m.patterns) > 0 {
			f.lists = append(f.lists, m)
		}
	}
	return f
}

func (f *Filter) pattern(at span) *pattern { return &f.lists[at.list].patterns[at.pattern] }

func (f *Filter) isSymbol(r rune) bool {
	for _, m := range f.lists {
		if m.symbols[r] {
			return true
		}
	}
	return false
}

// Check judges a line. A line without hits costs no allocation. It takes time in proportion to the line.
func (f *Filter) Check(text string) Result {
	res := Result{Text: text}
	if len(f.lists) == 0 {
		return res
	}
	if len(text) > maxLine {
		res.Action = actionNames[rejected]
		return res
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	f.scan(s, text)
	worst := severity(0)
	masking := masker{text: text}
	for _, at := range s.found {
		p := f.pattern(at)
		if p.allow || s.isAllowed(at) {
			continue
		}
		h := f.hit(s, at)
		worst = max(worst, p.severity)
		if p.severity == masked {
			masking.hide(h.Start, h.End)
		}
		if n := len(res.Hits); n == maxHits || n > 0 && res.Hits[n-1].End >= h.End && severityOf(res.Hits[n-1].Action) >= p.severity {
			continue // told already, by the hit around it
		}
		res.Hits = append(res.Hits, h)
	}
	if len(res.Hits) > 0 {
		res.Action = actionNames[worst]
		res.Text = masking.String()
	}
	return res
}

// scan finds the places at which words stand, in order, and what allow entries cover.
func (f *Filter) scan(s *scratch, text string) {
	s.fold(text, f.isSymbol)
	s.found, s.allowed = s.found[:0], s.allowed[:0]
	for i, m := range f.lists {
		m.find(s, int32(i))
	}
	if len(s.found) > 0 {
		f.dropUnjoined(s)
		s.order()
	}
}

func (f *Filter) hit(s *scratch, at span) Hit {
	m, p := f.lists[at.list], f.pattern(at)
	h := Hit{List: m.list, Word: p.word, Action: actionNames[p.severity], Start: int(s.letters[at.first].start), End: int(s.letters[at.last].end)}
	if m.runs[p.offset+uint32(p.runs)-1].long {
		h.End = max(h.End, int(s.letters[at.last].longEnd))
	}
	return h
}
