package ngword

// patternRun is a letter of an entry with how often it stands there in a row, packed: 21 bits for the letter, 4 for its look,
// one each for a long-vowel mark behind it, a separator before it and one within it, 4 for the count.
type patternRun uint32

const (
	longBit  = 1 << (25 + iota)
	gapBit   // a separator stands before the run
	innerBit // one stands within it
	countBit
)

// maxCount is how many of a letter in a row a run can ask for; one with more of them finds this many. An entry of one run
// has its count in pattern.letters.
const maxCount = 1<<4 - 1

// packRun packs a run of the letters of an entry.
func (s *scratch) packRun(r run) patternRun {
	first := s.letters[r.first]
	p := patternRun(r.r) | patternRun(first.look)<<21 | patternRun(min(r.last-r.first+1, maxCount))*countBit
	if s.anyLong(r) {
		p |= longBit
	}
	if first.gap != noGap {
		p |= gapBit
	}
	for _, l := range s.letters[r.first+1 : r.last+1] {
		if l.gap != noGap {
			p |= innerBit
		}
	}
	return p
}

func (p patternRun) letter() rune { return rune(p & (1<<21 - 1)) }
func (p patternRun) look() look   { return look(p >> 21 & 0xf) }
func (p patternRun) long() bool   { return p&longBit != 0 }
func (p patternRun) gap() bool    { return p&gapBit != 0 }
func (p patternRun) inner() bool  { return p&innerBit != 0 }
func (p patternRun) count() int32 { return int32(p / countBit) }

// pattern is one entry of a list: 24 bytes, since there are 100,000 of them.
type pattern struct {
	runs     uint32 // index of its first run in Matcher.runs
	word     uint32 // index of its first byte in Matcher.words
	prefix   int32  // the longest other entry that this one begins with, or one of the same letters, -1: none
	bytes    uint16 // length of the word
	runCount uint16
	letters  uint16
	severity severity
	mode     mode
	allow    bool
	odd      bool // some of its letters are not what they are folded to
}

func (m *Matcher) runsOf(p *pattern) []patternRun { return m.runs[p.runs : p.runs+uint32(p.runCount)] }

func (m *Matcher) wordOf(p *pattern) string { return string(m.words[p.word : p.word+uint32(p.bytes)]) }

// compareLetters orders runs by their letters, whatever their counts.
func compareLetters(a, b []patternRun) int {
	for i := range min(len(a), len(b)) {
		if d := int(a[i].letter()) - int(b[i].letter()); d != 0 {
			return d
		}
	}
	return len(a) - len(b)
}
