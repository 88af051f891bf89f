// Package ngword finds forbidden words in chat lines, in Japanese and in languages with spaces. Lines and words are compared
// in a folded form: compatibility and width variants, case, accents, hiragana and katakana are one, small kana are large,
// zero-width characters and stray combining marks are gone. Separators, repeats and long-vowel marks between letters do not
// hide a word; voicing marks of kana do count (か is not が). Every position leads back to the original text. One pass over
// a compact automaton serves any number of words.
package ngword

import (
	"fmt"
	"sync"

	"github.com/kmsctl/kms/runtime/store"
)

// maxLine bounds what Check looks at, in bytes; a frame is far smaller. A longer line is rejected unread.
const maxLine = 1 << 20

// maxHits bounds what Check reports of one line; it masks all.
const maxHits = 64

// maxWord bounds a word, in folded letters. The store's bound in code points is lower, but some fold to several letters.
const maxWord = 2000

// Result is the verdict on a line. Action is the strongest of the hits': reject, shadow, mask, flag, or empty. Text is the
// line with the hits of action mask replaced, one `*` for each code point.
type Result struct {
	Action string
	Text   string
	Hits   []Hit
}

// Hit is one place where a word of a list was found: Word as it stands there, Start and End in bytes of the original line,
// always on code points. Hits come in order of Start, 64 at most.
type Hit struct {
	List, Word string
	Action     string
	Start, End int
}

// severity is an action as a number: the larger one wins.
type severity uint8

const (
	flagged severity = iota
	masked
	shadowed
	rejected
)

var actionNames = [...]string{store.NGFlag, store.NGMask, store.NGShadow, store.NGReject}

// severityOf takes an action of a newer version as the strictest.
func severityOf(action string) severity {
	for s, name := range actionNames {
		if name == action {
			return severity(s)
		}
	}
	return rejected
}

// mode decides what must stand around a word.
type mode uint8

const (
	substring mode = iota // anything
	wordOnly              // nothing that belongs to a word
	auto                  // that for scripts with spaces between words, anything for the others
)

// modeOf takes a mode of a newer version as the strictest.
func modeOf(name string) mode {
	switch name {
	case store.NGModeAuto, "":
		return auto
	case store.NGModeWord:
		return wordOnly
	}
	return substring
}

// pattern is one entry of the list. Its runs stand in Matcher.runs.
type pattern struct {
	word     string
	offset   uint32 // of its first run
	runs     uint16
	letters  uint16
	severity severity
	mode     mode
	allow    bool
	next     int32  // another pattern with the same letters, -1: none
	gaps     []bool // of an allow entry: whether a separator stands before a letter
}

// Matcher is a compiled list. It does not change and is safe for concurrent use.
type Matcher struct {
	list     string // its name
	patterns []pattern
	runs     []patternRun
	auto     automaton
	symbols  map[rune]bool // symbols that words are made of, and that therefore separate nothing
	skipped  []string
}

// scratches serve all matchers: a process has thousands of lists, and few lines at a time.
var scratches = sync.Pool{New: func() any { return &scratch{} }}

// Skipped returns the words of the list that hold nothing to look for.
func (m *Matcher) Skipped() []string { return m.skipped }

// Compile makes a Matcher of a list. An entry that holds nothing to look for (a zero-width space) is left out, since one
// bad entry must not end the filtering; see Skipped. It is an error only for a word beyond all bounds of the store.
func Compile(list store.NGList) (*Matcher, error) {
	m := &Matcher{list: list.Name, symbols: map[rune]bool{}}
	foldTables() // before anything reads them
	for _, e := range list.Entries {
		m.keepSymbols(e.Word)
	}
	b := newBuilder()
	s := &scratch{}
	for _, e := range list.Entries {
		if err := m.add(b, s, e); err != nil {
			return nil, fmt.Errorf("cannot compile NG list %q: word %.80q: %v", list.Name, e.Word, err)
		}
	}
	m.auto = b.finish()
	return m, nil
}

func (m *Matcher) add(b *builder, s *scratch, e store.NGEntry) error {
	s.fold(e.Word, m.isSymbol)
	if len(s.letters) == 0 {
		m.skipped = append(m.skipped, e.Word)
		return nil
	}
	if len(s.letters) > maxWord {
		return fmt.Errorf("it has %d letters, at most %d are allowed", len(s.letters), maxWord)
	}
	p := pattern{word: e.Word, offset: uint32(len(m.runs)), letters: uint16(len(s.letters)), severity: severityOf(e.Action),
		mode: modeOf(e.Mode), allow: e.Kind == store.NGAllow}
	if p.allow {
		for _, l := range s.letters {
			p.gaps = append(p.gaps, l.gap)
		}
	}
	node := int32(0)
	for _, r := range s.runs {
		m.runs = append(m.runs, patternRun{r: r.r, count: uint16(r.last - r.first + 1), long: s.anyLong(r)})
		node = b.child(node, r.r)
	}
	p.runs = uint16(len(s.runs))
	p.next = b.out[node]
	b.out[node] = int32(len(m.patterns))
	m.patterns = append(m.patterns, p)
	return nil
}

// patternRun is a letter of a word with how often it stands there in a row.
type patternRun struct {
	r     rune
	count uint16
	long  bool // a long-vowel mark follows
}
