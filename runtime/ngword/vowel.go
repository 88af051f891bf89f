package ngword

// isSmallVowel reports ぁ to ぉ and ァ to ォ, of which every second one is small.
func isSmallVowel(r rune) bool {
	return (r >= 'ぁ' && r <= 'ぉ' || r >= 'ァ' && r <= 'ォ') && r&1 == 1
}

// rows are the katakana by their vowel, in the order of the vowels.
var rows = [...]string{"アカサタナハマヤラワガザダバパ", "イキシチニヒミリギジヂビピ", "ウクスツヌフムユルグズヅブプヴ", "エケセテネヘメレゲゼデベペ",
	"オコソトノホモヨロヲゴゾドボポ"}

var vowelOf = func() map[rune]rune {
	table := map[rune]rune{}
	for i, row := range rows {
		for _, r := range row {
			table[r] = []rune("アイウエオ")[i]
		}
	}
	return table
}()

// lengthen puts into s.subs the small vowels that only lengthen the kana before them, as ばぁか has one and ファ has not.
func (s *scratch) lengthen(text string) bool {
	s.subs = s.subs[:0]
	last := rune(0)
	for i, r := range text {
		c := classify(r)
		if isSmallVowel(r) && vowelOf[last] == c {
			s.subs = append(s.subs, sub{at: int32(i), letter: isLong})
			continue
		}
		if c != isLong {
			last = c
		}
	}
	return len(s.subs) > 0
}
