// Package ngword finds forbidden words in chat lines, in Japanese and in languages with spaces. Lines and words are compared
// in a folded form: compatibility and width variants, case, accents, hiragana and katakana are one, small kana are large,
// zero-width characters and stray combining marks are gone. Separators, repeats and long-vowel marks between letters do not
// hide a word; voicing marks of kana do count (か is not が). Every position leads back to the original text.
//
// A line is read once: fold.go and scan.go make letters of it and runs of equal letters, index.go finds the entries of a list
// that begin at each run, check.go, spacing.go and boundary.go decide whether one really stands there. A line in which digits,
// symbols or blanks touch letters (signs.go) is read again with what those may stand for: disguise.go, blank.go, vowel.go.
// Letters that look like others are folded to them, and looks.go decides in the end. filter.go puts the lists together, and
// allow.go takes away what allow entries cover.
package ngword

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/kmsctl/kms/runtime/store"
)

// maxLine bounds what Check looks at, in bytes; a frame is far smaller. A longer line is rejected unread.
const maxLine = 1 << 20

// maxHits bounds what Check reports of one line; it masks all.
const maxHits = 64

// maxWord bounds a word, in folded letters. The store's bound in code points is lower, but some fold to several letters.
const maxWord = 2000

// Bounds of a list, beyond which a process would suffer: it takes some 90 bytes of memory for an entry.
const (
	maxEntries = 1_000_000
	maxLetters = 1 << 24
)

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

// Matcher is a compiled list. It does not change and is safe for concurrent use.
type Matcher struct {
	list       string // its name
	shipped    bool   // KMS brings it along
	spacing    spacing
	lookAlikes bool
	hasWords   bool // not only allow entries
	patterns   []pattern
	runs       []patternRun
	words      []byte // of all entries
	index      index
	symbols    map[rune]bool // symbols that words are made of, and that therefore separate nothing
	skipped    []string
}

// scratches serve all matchers: a process has thousands of lists, and few lines at a time.
var scratches = sync.Pool{New: func() any { return &scratch{} }}

// Skipped returns the words of the list that hold nothing to look for.
func (m *Matcher) Skipped() []string { return m.skipped }

// Compile makes a Matcher of a list. An entry that holds nothing to look for (a zero-width space) is left out, since one
// bad entry must not end the filtering; see Skipped. It is an error only for what is beyond all bounds of the store: a word
// too long, or a list of more than maxEntries entries or maxLetters letters.
func Compile(list store.NGList) (*Matcher, error) {
	if n := len(list.Entries); n > maxEntries {
		return nil, fmt.Errorf("cannot compile NG list %q: it has %d entries, at most %d are allowed", list.Name, n, maxEntries)
	}
	m := &Matcher{list: list.Name, shipped: list.Tenant == store.NGBase && strings.HasPrefix(list.Name, shippedPrefix),
		spacing: spacingOf(list.Settings.Spacing), lookAlikes: list.Settings.LookAlikes != store.NGOff, symbols: map[rune]bool{}}
	foldTables() // before anything reads them
	for _, e := range list.Entries {
		m.keepSymbols(e.Word)
	}
	s := &scratch{}
	m.patterns = make([]pattern, 0, len(list.Entries))
	for _, e := range list.Entries {
		if err := m.add(s, e); err != nil {
			return nil, fmt.Errorf("cannot compile NG list %q: word %.80q: %v", list.Name, e.Word, err)
		}
	}
	m.runs, m.words = slices.Clip(m.runs), slices.Clip(m.words)
	m.build()
	return m, nil
}

// spacingOf takes a setting of a newer version as the strictest.
func spacingOf(name string) spacing {
	switch name {
	case "", store.NGSpacingWord:
		return wordSpacing
	case store.NGSpacingOff:
		return noSpacing
	}
	return anySpacing
}

func (m *Matcher) add(s *scratch, e store.NGEntry) error {
	s.fold(e.Word, m.isSymbol, nil)
	switch n := len(s.letters); {
	case n == 0:
		m.skipped = append(m.skipped, e.Word)
		return nil
	case n > maxWord:
		return fmt.Errorf("it has %d letters, at most %d are allowed", n, maxWord)
	case len(m.runs)+n > maxLetters:
		return fmt.Errorf("with it the list has more than %d letters", maxLetters)
	case len(e.Word) > math.MaxUint16:
		return fmt.Errorf("it has %d bytes", len(e.Word))
	}
	p := pattern{runs: uint32(len(m.runs)), word: uint32(len(m.words)), bytes: uint16(len(e.Word)), runCount: uint16(len(s.runs)),
		letters: uint16(len(s.letters)), severity: severityOf(e.Action), mode: modeOf(e.Mode), allow: e.Kind == store.NGAllow,
		odd: s.looks > 1<<plain}
	m.words = append(m.words, e.Word...)
	for _, r := range s.runs {
		m.runs = append(m.runs, s.packRun(r))
	}
	m.patterns = append(m.patterns, p)
	m.hasWords = m.hasWords || !p.allow
	return nil
}
