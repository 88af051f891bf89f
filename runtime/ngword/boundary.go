package ngword

import "unicode"

// isWordy reports whether a word with this letter at its end needs a boundary there.
func isWordy(m mode, l letter) bool {
	if m == auto {
		return l.r >= 'a' && l.r <= 'z' || classOf(l) != otherClass
	}
	return m == wordOnly
}

// The classes of letters: where they change, a word ends.
const (
	otherClass = iota // scripts without spaces between words, and symbols
	alphabet
	digit
)

func classOf(l letter) int {
	if l.look == numeral {
		return otherClass
	}
	return classOfRune(l.r)
}

func classOfRune(r rune) int {
	switch {
	case r >= 'a' && r <= 'z':
		return alphabet
	case unicode.IsDigit(r):
		return digit
	case r < 0x0e00 || r >= 0x10a0 && r < 0x1100 || r >= 0x1e00 && r < 0x2000:
		if unicode.IsLetter(r) {
			return alphabet
		}
	}
	return otherClass
}

func (s *scratch) beginsWord(i int32) bool {
	return i == 0 || s.letters[i].gap != noGap || classOf(s.letters[i-1]) != classOf(s.letters[i])
}

func (s *scratch) endsWord(i int32) bool {
	return i+1 == int32(len(s.letters)) || s.beginsWord(i+1)
}

// endings are what a Latin word may carry and still be the same word. Short words take the first two only (`ass` is not in
// `assed`), and `y` follows a doubled letter (`shitty`, not `cocky`).
var endings = [...]string{"s", "es", "ed", "er", "ers", "ing", "ings"}

func isEnding(rest []letter, letters int, doubled bool) bool {
	switch rest[0].r {
	case 's', 'e', 'i', 'y':
	default:
		return false
	}
	for i, e := range endings {
		if letters < 4 && i > 1 {
			return false
		}
		if endsWith(rest, e) {
			return true
		}
	}
	return doubled && endsWith(rest, "y")
}

// endsWith reports a word that ends with these letters, which are the next ones.
func endsWith(rest []letter, ending string) bool {
	if len(rest) < len(ending) || !stands(rest, ending, false) {
		return false
	}
	n := len(ending)
	return n == len(rest) || rest[n].gap != noGap || classOf(rest[n]) != alphabet
}

// stands reports that the letters begin with the word, in one piece; before tells whether a separator may stand before it.
func stands(letters []letter, word string, before bool) bool {
	for i := range len(word) {
		if letters[i].r != rune(word[i]) || letters[i].gap != noGap && (i > 0 || !before) {
			return false
		}
	}
	return true
}
