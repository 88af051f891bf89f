package ngword

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// What a code point is, where it is not the letter that it folds to.
const (
	isTransparent = -1 - iota // not there: zero-width, controls of direction
	isMark                    // combining mark, variation selector: not there, and belongs to the letter before it
	isScriptMark              // a vowel sign of its own script, a combining mark on any other
	isSeparator               // stands between letters
	isLong                    // long-vowel mark
	isVoiced                  // makes か of が
	isHalfVoiced              // makes は of ぱ
	isSeveral                 // and below: an index into expansions
)

// tableEnd is where the table ends; beyond it folding is worked out each time. It covers what chat lines are made of.
const tableEnd = 0x20000

type foldPage [256]int32

var (
	foldOnce   sync.Once
	foldPages  [tableEnd / 256]*foldPage // nil: every code point is its own letter
	expansions [][]rune
	voicedKana [0x100]rune // of U+3000 + index
	halfVoiced [0x100]rune
)

// foldTables builds the tables, some milliseconds at the first list.
func foldTables() {
	foldOnce.Do(func() {
		for r := rune(0x30a0); r < 0x3100; r++ {
			voicedKana[r-0x3000] = composed(r, '\u3099')
			halfVoiced[r-0x3000] = composed(r, '\u309a')
		}
		odd := map[int]bool{}
		for r := range alikes {
			odd[int(r>>8)] = true
		}
		for page := range foldPages {
			first := rune(page * 256)
			if isIdentity(first) && isIdentity(first+255) && !odd[page] {
				continue
			}
			p := &foldPage{}
			for i := range p {
				p[i] = foldEntry(first + rune(i))
			}
			foldPages[page] = p
		}
	})
}

// isIdentity reports the large scripts without case or variants, whose table would be waste.
func isIdentity(r rune) bool {
	return r >= 0x3400 && r < 0x4dc0 || r >= 0x4e00 && r < 0xa000 || r >= 0xac00 && r < 0xd700 || r >= 0x17000 && r < 0x18b00
}

func composed(base, mark rune) rune {
	c := []rune(norm.NFC.String(string([]rune{base, mark})))
	if len(c) != 1 {
		return 0
	}
	return c[0]
}

// lookShift is where classify's result has the letter's look.
const lookShift = 21

// classify returns the letter that r folds to, with its look, or what it is instead.
func classify(r rune) int32 {
	if r >= 0 && r < tableEnd {
		p := foldPages[r>>8]
		if p == nil {
			return r
		}
		return p[r&0xff]
	}
	if c, special := specialClass(r); special {
		return c
	}
	if !unicode.IsLetter(r) && !unicode.IsNumber(r) {
		return isSeparator
	}
	// Compatibility ideographs of plane 2 fold to one ideograph.
	c, _ := utf8.DecodeRuneInString(norm.NFKC.String(string(r)))
	return c
}

func foldEntry(r rune) int32 {
	if c, special := specialClass(r); special {
		return c
	}
	letters := foldRune(r)
	switch {
	case len(letters) == 1:
		if a, ok := alikes[letters[0]]; ok {
			return a.letter | int32(a.look)<<lookShift
		}
		return letters[0]
	case len(letters) > 1:
		expansions = append(expansions, letters)
		return int32(isSeveral - len(expansions) + 1)
	}
	return isSeparator
}

// specialClass is everything that is no letter for a reason of its own.
func specialClass(r rune) (int32, bool) {
	switch {
	case r == '\u30fc' || r == '\uff70':
		return isLong, true
	case r == '\u3099' || r == '\u309b' || r == '\uff9e':
		return isVoiced, true
	case r == '\u309a' || r == '\u309c' || r == '\uff9f':
		return isHalfVoiced, true
	case r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\uffa0' || r == '\u2800':
		return isTransparent, true // blanks that count as letters or symbols
	case unicode.Is(unicode.Variation_Selector, r):
		return isMark, true // part of the character before it
	case unicode.Is(unicode.Cf, r):
		return isTransparent, true
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc):
		if unicode.In(r, unicode.Inherited, unicode.Common, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Hebrew, unicode.Arabic) {
			return isMark, true
		}
		return isScriptMark, true
	}
	return 0, false
}

// longFollows marks a letter of an expansion that a long-vowel mark follows (㍍).
const longFollows = 1 << 24

// foldRune folds one code point to the letters that it stands for; none for what is not a letter or digit.
func foldRune(r rune) []rune {
	if letter, ok := emblem(r); ok {
		return []rune{letter}
	}
	var out []rune
	for _, c := range norm.NFKC.String(string(r)) {
		switch {
		case c == 'ー' && len(out) > 0:
			out[len(out)-1] |= longFollows
		case c >= 0x3041 && c < 0x3100:
			if k := foldKana(c); k != 0 {
				out = append(out, k)
			}
		case c == 'ß' || c == 'ẞ':
			out = append(out, 's', 's')
		default:
			out = append(out, foldCase(c)...)
		}
	}
	return out
}

func foldCase(c rune) []rune {
	var out []rune
	for _, d := range norm.NFD.String(string(unicode.ToLower(c))) {
		if a, ok := alikes[d]; ok && a.look == plain {
			d = a.letter
		}
		if unicode.IsLetter(d) || unicode.IsNumber(d) {
			out = append(out, unicode.ToLower(d))
		}
	}
	// A syllable of Hangul comes apart as well; keep it whole.
	if len(out) > 1 && c >= 0xac00 && c < 0xd7a4 {
		return []rune{c}
	}
	return out
}

// foldKana makes katakana of hiragana and large kana of small ones. What is no kana in these blocks is left out.
func foldKana(c rune) rune {
	if c >= 0x3041 && c <= 0x3096 || c == 'ゝ' || c == 'ゞ' {
		c += 0x60
	}
	switch c {
	case 'ァ', 'ィ', 'ゥ', 'ェ', 'ォ', 'ッ', 'ャ', 'ュ', 'ョ', 'ヮ':
		return c + 1
	case 'ヵ':
		return 'カ'
	case 'ヶ':
		return 'ケ'
	}
	if !unicode.IsLetter(c) {
		return 0
	}
	return c
}

func isKana(r rune) bool { return r >= 0x30a1 && r <= 0x30ff }

// hasVowelSigns reports letters of scripts whose combining marks are letters to their readers.
func hasVowelSigns(r rune) bool { return r >= 0x0700 && r < 0x1e00 || r >= 0xa800 && r < 0xac00 }
