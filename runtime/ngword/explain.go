package ngword

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// Explanation is a verdict with its reasons.
type Explanation struct {
	Action  string  // as Check returns it
	Text    string  // as Check returns it
	Hits    []Found // as Check returns them
	Allowed []Found // words that are there, but within an allow entry, and therefore do not count; maxHits at most
}

// Found is a hit and why it is one.
type Found struct {
	Hit
	Found    string   // the line from Start to End
	Foldings []string // what made the word of it, such as FoldKana; none when it stands there letter by letter
	By       Allow    // the allow entry that took the hit away; empty in Hits
}

// Allow names an allow entry.
type Allow struct{ List, Word string }

// What Foldings may hold.
const (
	FoldCase       = "case"         // DAMN
	FoldWidth      = "width"        // ｄａｍｎ, ﾊﾞｶ
	FoldKana       = "kana"         // ばか for バカ
	FoldSmallKana  = "small kana"   // ちよつと for ちょっと
	FoldLong       = "long vowels"  // バーカ, ばぁか
	FoldMarks      = "marks"        // accents, zalgo, voicing marks of their own
	FoldInvisible  = "invisible"    // zero-width characters, controls of direction
	FoldVariants   = "variants"     // circled and styled letters, old and simplified ideographs
	FoldSeparators = "separators"   // d.a m-n
	FoldRepeats    = "repeats"      // daaamn
	FoldLookAlikes = "look-alikes"  // Cyrillic а, digits and symbols for letters
	FoldBlanks     = "blanks"       // d*mn
	FoldEnding     = "ending"       // damned
	FoldJoined     = "joined words" // one that is joined to another
)

// Explain judges a line as Check does and says why. It is for people, and slower.
func (f *Filter) Explain(text string) Explanation {
	r := f.Check(text)
	e := Explanation{Action: r.Action, Text: r.Text}
	if len(r.Hits) == 0 && f.words == 0 || len(text) > maxLine {
		return e
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	f.scan(s, text)
	for _, at := range s.places {
		h := f.hit(at)
		found := Found{Hit: h, Found: text[h.Start:h.End], Foldings: foldings(text, h)}
		if c, ok := f.allowedBy(s, at); ok {
			if len(e.Allowed) < maxHits {
				m := f.lists[c.list]
				found.By = Allow{m.list, m.wordOf(&m.patterns[c.pattern])}
				e.Allowed = append(e.Allowed, found)
			}
			continue
		}
		if len(e.Hits) < len(r.Hits) && h == r.Hits[len(e.Hits)] {
			e.Hits = append(e.Hits, found)
		}
	}
	return e
}

// foldings compares what was found with the word, letter by letter.
func foldings(text string, h Hit) []string {
	c := &comparison{}
	c.compare([]rune(h.Word), []rune(text[h.Start:h.End]))
	before, _ := utf8.DecodeLastRuneInString(text[:h.Start])
	after, _ := utf8.DecodeRuneInString(text[h.End:])
	first, _ := utf8.DecodeRuneInString(h.Word)
	last, _ := utf8.DecodeLastRuneInString(h.Word)
	if isLatinLetter(before) && isLatinLetter(first) {
		c.add(FoldJoined)
	}
	if isLatinLetter(after) && isLatinLetter(last) {
		if rest := strings.ToLower(text[h.End:]); startsWithEnding(rest) {
			c.add(FoldEnding)
		} else {
			c.add(FoldJoined)
		}
	}
	return c.foldings
}

func isLatinLetter(r rune) bool {
	return unicode.IsLetter(r) && classOfRune(unicode.ToLower(r)) == alphabet
}

func startsWithEnding(rest string) bool {
	end := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) })
	if end >= 0 {
		rest = rest[:end]
	}
	for _, e := range append([]string{"y"}, endings[:]...) {
		if strings.HasSuffix(rest, e) && len(rest) <= len(e)+1 {
			return true
		}
	}
	return false
}

// comparison collects the foldings between a word and the text that was found for it.
type comparison struct{ foldings []string }

func (c *comparison) add(folding string) {
	for _, f := range c.foldings {
		if f == folding {
			return
		}
	}
	c.foldings = append(c.foldings, folding)
}

// compare walks along both. A character of the text that the word does not have tells by itself what it is there for.
func (c *comparison) compare(word, text []rune) {
	last := rune(0) // the letter of the word that was met last
	for _, r := range text {
		switch {
		case len(word) > 0 && r == word[0]:
			last, word = word[0], word[1:]
		case len(word) > 0 && c.letter(word[0], r):
			last, word = word[0], word[1:]
		case len(word) > 1 && classify(word[0]) == isSeparator && c.letter(word[1], r):
			last, word = word[1], word[2:] // the word's own separator was left out
		default:
			c.extra(last, r)
		}
	}
}

// letter notes what makes the letter of the word of the one in the text, if anything does.
func (c *comparison) letter(want, r rune) bool {
	a, b := classify(want), classify(r)
	if a < 0 && a > isSeveral {
		return false
	}
	kind := kindOf(r)
	switch {
	case want == r:
	case a == b && a > 0:
		c.add(foldingOf(want, r))
	case b < 0 && b > isSeveral:
		if kind == symbolKind || kind == bangKind {
			c.add(FoldLookAlikes)
			return true
		}
		if kind == blankKind {
			c.add(FoldBlanks)
			return true
		}
		return false
	case a <= isSeveral || b <= isSeveral:
		c.add(FoldVariants)
	case voiced(b, isVoiced) == a || voiced(b, isHalfVoiced) == a:
		c.add(foldingOf(want, r))
		c.add(FoldMarks)
	case isKana(a) && isKana(b):
		return false
	case kind == latinKind && isKana(a):
		c.add(FoldBlanks)
	case a&(1<<lookShift-1) == b&(1<<lookShift-1) || kind == digitKind || kind == symbolKind || r == 'η':
		c.add(FoldLookAlikes)
	default:
		return false
	}
	return true
}

// foldingOf names what lies between two characters that fold to the same letter.
func foldingOf(want, r rune) string {
	narrow := func(r rune) rune { n, _ := utf8.DecodeRuneInString(width.Fold.String(string(r))); return n }
	switch {
	case unicode.ToLower(want) == unicode.ToLower(r):
		return FoldCase
	case narrow(want) != want || narrow(r) != r:
		return FoldWidth
	case isKana(classify(r)) && (r-want == 0x60 || want-r == 0x60):
		return FoldKana
	case isKana(classify(r)):
		return FoldSmallKana
	case len([]rune(norm.NFD.String(string(r)))) != len([]rune(norm.NFD.String(string(want)))):
		return FoldMarks
	}
	return FoldVariants
}

// extra notes what a character is there for that stands between the letters of the word.
func (c *comparison) extra(last, r rune) {
	switch class := classify(r); {
	case class == isLong || isWave(r) && isKana(classify(last)) || isSmallVowel(r):
		c.add(FoldLong)
	case class == isTransparent:
		c.add(FoldInvisible)
	case class == isMark || class == isScriptMark || class == isVoiced || class == isHalfVoiced:
		c.add(FoldMarks)
	case class == isSeparator:
		c.add(FoldSeparators)
	default:
		c.add(FoldRepeats)
	}
}
