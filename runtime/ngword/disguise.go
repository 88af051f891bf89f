package ngword

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

// minDisguised is the fewest letters of a word that digits and symbols may stand in: `5m` is no SM.
const minDisguised = 3

// disguise collects what the digits and symbols of a line stand for, token by token: in s.subs, and in s.others with the
// second choice where there are two. A token is a piece of Latin letters, digits and symbols.
func (s *scratch) disguise(text string) {
	s.subs, s.others, s.token = s.subs[:0], s.others[:0], s.token[:0]
	for i, r := range text {
		k := kindOf(r)
		if k == otherKind || k == nativeKind || k == vowelKind || k == blankKind && letterOf[r] == 0 && glyphs[r] == 0 {
			s.endToken(text)
			continue
		}
		s.token = append(s.token, char{int32(i), r, k})
	}
	s.endToken(text)
}

func (s *scratch) endToken(text string) {
	if len(s.token) > 0 && s.isDisguised(text) {
		for i, c := range s.token {
			if letter := s.standsFor(i); letter != 0 {
				s.subs = append(s.subs, sub{c.at, letter, disguised})
				if second, ok := secondChoice[c.r]; ok {
					letter = second
				}
				s.others = append(s.others, sub{c.at, letter, disguised})
			}
		}
	}
	s.token = s.token[:0]
}

// letterOf is the letter that a digit or symbol mostly stands for.
var letterOf = map[rune]rune{'0': 'o', '1': 'i', '2': 'z', '3': 'e', '4': 'a', '5': 's', '6': 'g', '7': 't', '8': 'b', '9': 'g',
	'$': 's', '@': 'a', '+': 't', '#': 'h', '!': 'i', '(': 'c', '|': 'i'}

// secondChoice is what they stand for otherwise, and a Greek letter with two looks.
var secondChoice = map[rune]rune{'1': 'l', '!': 'l', '|': 'l', '7': 'l', '6': 'b', 'η': 'h', '#': 'h'}

// standsFor is the letter that the token's character i stands for, 0: itself.
func (s *scratch) standsFor(i int) rune {
	c := s.token[i]
	isLetter := func(i int) bool { return i >= 0 && i < len(s.token) && s.token[i].kind != bangKind }
	switch c.r {
	case '(', '#':
		if !isLetter(i-1) || !isLetter(i+1) {
			return 0
		}
	case '!', '|':
		for i++; i < len(s.token) && s.token[i].r == c.r; {
			i++
		}
		if !isLetter(i) {
			return 0
		}
	case '+':
		if i == 0 {
			return 0
		}
	case 'η':
		return 'n'
	}
	if c.kind == digitKind {
		letter, _ := digitOf(c.r)
		return letterOf[letter]
	}
	if letter, ok := glyphs[c.r]; ok {
		return letter
	}
	return letterOf[c.r]
}

// digitOf is the ASCII digit of any other.
func digitOf(r rune) (rune, bool) {
	d := classify(r) & (1<<lookShift - 1)
	return d, d >= '0' && d <= '9'
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

func (s *scratch) hasSecondChoice() bool {
	for _, c := range s.token {
		if c.r == 'η' {
			return true
		}
	}
	return false
}

// isIdentifier reports hexadecimal digits and hyphens around a byte of the text that are too many for a word: ten with two
// digits, or eight with four.
func isIdentifier(text string, at int) bool {
	isHex := func(i int) bool {
		b := text[i]
		return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' || b == '-'
	}
	for at > 0 && isHex(at-1) {
		at--
	}
	digits, n := 0, 0
	for ; at+n < len(text) && isHex(at+n); n++ {
		if text[at+n] >= '0' && text[at+n] <= '9' {
			digits++
		}
	}
	return n >= 10 && digits >= 2 || n >= 8 && digits >= 4
}
