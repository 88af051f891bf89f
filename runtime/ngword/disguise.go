package ngword

import "unicode"

// sub is a character that is read as a letter in a further reading of the line.
type sub struct {
	at     int32 // byte
	letter rune
	look   look
}

// char is a character of a token.
type char struct {
	at   int32
	r    rune
	kind kind
}

// Bounds of what is taken for disguised: the fewest letters of the word (`5m` is no SM), the longest token.
const (
	minDisguised = 3
	maxDisguised = 64
)

// disguise collects what the digits and symbols of a line stand for, token by token: in s.subs, and in s.others with the
// second choice where there are two. A token is a piece of Latin letters, digits and symbols.
func (s *scratch) disguise(text string) {
	s.subs, s.others, s.token = s.subs[:0], s.others[:0], s.token[:0]
	for i, r := range text {
		k := kindOf(r)
		if k == otherKind || k == nativeKind || k == vowelKind || k == blankKind && r != '×' {
			s.endToken(text)
			continue
		}
		s.token = append(s.token, char{int32(i), r, k})
	}
	s.endToken(text)
}

func (s *scratch) endToken(text string) {
	if n := len(s.token); n > 0 && n <= maxDisguised && s.isDisguised(text) {
		for i, c := range s.token {
			if first, second := s.standsFor(i); first != 0 {
				s.subs = append(s.subs, sub{c.at, first, disguised})
				s.others = append(s.others, sub{c.at, second, disguised})
			}
		}
	}
	s.token = s.token[:0]
}

// letterOf is the letter that a digit or ASCII symbol mostly stands for, secondChoice what some of them stand for otherwise.
var (
	letterOf     = pairs("0o1i2z3e4a5s6g7t8b9g$s@a+t#h!i(c|i")
	secondChoice = pairs("1l!l|l7l6b")
)

func pairs(text string) (table [128]rune) {
	for i := 0; i < len(text); i += 2 {
		table[text[i]] = rune(text[i+1])
	}
	return table
}

// choices returns the letter that a character stands for in the first reading and in the second. They differ for digits and
// symbols that stand for two letters, and for a Greek letter with two looks.
func choices(r rune) (first, second rune) {
	if r >= 0x80 {
		if r == 'η' {
			return 'n', 'h'
		}
		if letter := glyphs[r]; letter != 0 {
			return letter, letter
		}
		if r = classify(r) & (1<<lookShift - 1); r < '0' || r > '9' {
			return 0, 0
		}
	}
	first, second = letterOf[r], secondChoice[r]
	if second == 0 {
		second = first
	}
	return first, second
}

// maxBangs is how many exclamation marks may stand for one letter.
const maxBangs = 8

// standsFor returns the letters that the token's character i stands for, 0: itself.
func (s *scratch) standsFor(i int) (first, second rune) {
	c := s.token[i]
	isLetter := func(i int) bool { return i >= 0 && i < len(s.token) && s.token[i].kind != bangKind }
	switch c.r {
	case '(', '#':
		if !isLetter(i-1) || !isLetter(i+1) {
			return 0, 0
		}
	case '!', '|':
		for last := i + maxBangs; i < len(s.token) && i < last && s.token[i].r == c.r; {
			i++
		}
		if !isLetter(i) {
			return 0, 0
		}
	case '+':
		if i == 0 {
			return 0, 0
		}
	}
	return choices(c.r)
}

// isDisguised reports a token whose digits and symbols may be letters. Numbers with a unit, prices, sums and identifiers of
// hexadecimal digits are not.
func (s *scratch) isDisguised(text string) bool {
	var counts [blankKind + 1]int
	loud := false // has a symbol that no number has
	for _, c := range s.token {
		counts[c.kind]++
		loud = loud || c.r == '#' || c.r == '@' || c.r == '!' || c.r == '('
	}
	letters, digits, symbols := counts[latinKind], counts[digitKind], counts[symbolKind]+counts[bangKind]+counts[blankKind]
	first := s.token[0]
	switch {
	case digits+symbols == 0 && counts[latinKind] > 0:
		return s.hasSecondChoice()
	case len(s.token) == 1:
		return isAlone(text, int(first.at))
	case letters == 0:
		return symbols >= 2 && loud && first.kind != bangKind && len(s.token) >= minDisguised
	case symbols == 0 && digits >= 2 && letters <= 2 && s.beginsWithDigits(digits):
		return false // 45s, 10cm
	case symbols == 0 && letters == 2 && s.beginsWithDigits(digits) && s.isOrdinal():
		return false
	case symbols == 0 && digits >= 3 && letters == 1 && first.kind == latinKind:
		return false // B006
	case letters == 1 && first.kind == symbolKind && s.token[1].kind == digitKind && digits > 0 && symbols == 1:
		return false // $5k
	}
	return !isIdentifier(text, int(first.at))
}

func (s *scratch) beginsWithDigits(n int) bool {
	for _, c := range s.token[:n] {
		if c.kind != digitKind {
			return false
		}
	}
	return true
}

// isOrdinal reports a token that ends as 1st does.
func (s *scratch) isOrdinal() bool {
	switch n := len(s.token); unicode.ToLower(s.token[n-2].r)<<8 | unicode.ToLower(s.token[n-1].r) {
	case 's'<<8 | 't', 'n'<<8 | 'd', 'r'<<8 | 'd', 't'<<8 | 'h':
		return true
	}
	return false
}

func (s *scratch) hasSecondChoice() bool {
	for _, c := range s.token {
		if c.r == 'η' {
			return true
		}
	}
	return false
}

// identifierReach bounds how far around a letter an identifier is looked for, in bytes.
const identifierReach = 40

// isIdentifier reports hexadecimal digits and hyphens around a byte of the text that are too many for a word: ten with two
// digits, or eight with four.
func isIdentifier(text string, at int) bool {
	first, end := at, min(at+identifierReach, len(text))
	for first > max(at-identifierReach, 0) && isHex(text[first-1]) {
		first--
	}
	digits, n := 0, 0
	for ; first+n < end && isHex(text[first+n]); n++ {
		if asciiKinds[text[first+n]] == digitKind {
			digits++
		}
	}
	return n >= 10 && digits >= 2 || n >= 8 && digits >= 4
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' || b == '-'
}
