package ngword

// signs says which further readings a line needs. Ordinary lines need none.
type signs struct {
	disguises bool // digits or symbols touch Latin letters, or each other
	vowels    bool // small vowels follow letters
	blanks    bool // something that may stand for any letter follows a letter
}

// kind is what a character is to the second readings.
type kind uint8

const (
	otherKind  kind = iota
	vowelKind       // a small vowel of kana
	latinKind       // a Latin letter, or one that looks like one
	digitKind       // 0 to 9
	symbolKind      // a symbol that is often written for a letter
	bangKind        // one that is more often itself, and a letter only before one
	nativeKind      // a kana or ideograph
	blankKind       // may stand for any letter
)

// asciiKinds are the kinds of the first 128 code points.
var asciiKinds = func() (kinds [128]kind) {
	for r := range kinds {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			kinds[r] = latinKind
		case r >= '0' && r <= '9':
			kinds[r] = digitKind
		}
	}
	for _, r := range "$@+#" {
		kinds[r] = symbolKind
	}
	for _, r := range "!(|" {
		kinds[r] = bangKind
	}
	kinds['*'] = blankKind
	return kinds
}()

// firstKana begins the kana and ideographs.
const firstKana = 0x3041

// kindOf tells the kind of any character.
func kindOf(r rune) kind {
	switch {
	case r < 0x80:
		return asciiKinds[r]
	case r >= firstKana && r < 0xa000:
		if isSmallVowel(r) {
			return vowelKind
		}
		return nativeKind
	case isBlank(r):
		return blankKind
	case r >= 0x3000 && r < firstKana:
		return otherKind // punctuation
	case r < 0x2300 && glyphs[r] != 0:
		return symbolKind
	}
	c := classify(r)
	switch letter := c & (1<<lookShift - 1); {
	case c < 0:
		return otherKind
	case letter >= 'a' && letter <= 'z':
		return latinKind
	case letter >= '0' && letter <= '9':
		return digitKind
	case isKana(letter):
		return nativeKind
	}
	return otherKind
}

// isBlank reports the symbols that are put in the place of a letter.
func isBlank(r rune) bool {
	switch r {
	case '*', '＊', '○', '●', '◯', '⚪', '⚫', '□', '■', '✗', '✘', '×', '✕', '☓', '〇':
		return true
	}
	return false
}

// isCross reports the letters that are put in the place of one of another script.
func isCross(r rune) bool {
	switch r {
	case 'x', 'X', 'o', 'O', 'ｘ', 'Ｘ', 'ｏ', 'Ｏ':
		return true
	}
	return false
}

// steps are what a pair of neighbours tells, by their kinds.
const (
	tellsDisguise = 1 << iota
	tellsBlank
	tellsVowel
)

var steps = func() (table [blankKind + 1][blankKind + 1]uint8) {
	for _, pair := range [][2]kind{{latinKind, digitKind}, {digitKind, latinKind}, {latinKind, symbolKind}, {symbolKind, latinKind},
		{symbolKind, digitKind}, {digitKind, symbolKind}, {symbolKind, symbolKind}, {bangKind, latinKind}, {bangKind, digitKind},
		{bangKind, symbolKind}, {symbolKind, bangKind}} {
		table[pair[0]][pair[1]] |= tellsDisguise
	}
	for _, before := range [...]kind{latinKind, nativeKind, digitKind} {
		table[before][blankKind] |= tellsBlank
	}
	table[latinKind][symbolKind] |= tellsBlank
	table[nativeKind][vowelKind] |= tellsVowel
	return table
}()

// signsOf looks for what needs a further reading.
func signsOf(text string) (found signs) {
	var told uint8
	before := otherKind
	for i, r := range text {
		k := nativeKind
		if r < 0x80 {
			k = asciiKinds[r]
		} else if r < firstKana || r > 0xa000 || isSmallVowel(r) {
			k = kindOf(r)
		}
		told |= steps[before][k]
		if k == latinKind && before == nativeKind && isCross(r) && !latinAt(text, i+1) {
			told |= tellsBlank
		}
		if (k == digitKind || k == symbolKind) && before == otherKind && isAlone(text, i) {
			told |= tellsDisguise
		}
		before = k
	}
	return signs{disguises: told&tellsDisguise != 0, vowels: told&tellsVowel != 0, blanks: told&tellsBlank != 0}
}

// isAlone reports a character that stands between two letters which the same symbol separates from it: `f u c k 1 n g`.
func isAlone(text string, i int) bool {
	if i < 2 || i+2 >= len(text) || text[i-1] != text[i+1] || text[i-1] >= 0x80 || asciiKinds[text[i-1]] == digitKind {
		return false
	}
	return latinAt(text, i-2) && latinAt(text, i+2) && !latinAt(text, i-1) && !latinAt(text, i-3) && !latinAt(text, i+3)
}

// latinAt reports an ASCII letter at a byte, which may lie outside of the text.
func latinAt(text string, i int) bool {
	return i >= 0 && i < len(text) && text[i] < 0x80 && asciiKinds[text[i]] == latinKind
}
