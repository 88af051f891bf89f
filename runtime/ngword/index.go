package ngword

import (
	"cmp"
	"math/bits"
	"slices"
)

// keyRuns is how many runs of a word's beginning find it; findLonger is written for it.
const keyRuns = 4

// index finds the entries that begin at a place of a line. Most places are ruled out by two bit sets that fit into the
// processor's caches; the rest costs one look into a hash table of word beginnings.
//
// An entry's key is its first keyRuns runs, or all that it has. Entries of one key stand next to each other, sorted by their
// letters: those that are in the line are, among them, the last one that does not sort after the line and what that one
// begins with. So the time for a place does not grow with the number of entries.
type index struct {
	pairs  bitset // beginnings of two letters
	keys   bitset // whole keys
	groups []group
	table  []slot // open addressing by key
	shift  uint8  // 64 less the bits of the table's size
	single bool   // there are entries of one run
}

// slot of the table: a group+1, 0 when free, and what of the key's hash is not in its place.
type slot struct {
	group int32
	tag   uint32
}

// group is the entries of one key, last included.
type group struct{ first, last int32 }

// mix takes one more letter into a key's hash; the high bits are the good ones.
func mix(hash uint64, r rune) uint64 { return (hash ^ uint64(r)) * 0x9e3779b97f4a7c15 }

const seed = 0x2545f4914f6cdd1d

// bitset is a set of hashes, which may hold more than was put in.
type bitset struct {
	words []uint64
	shift uint8 // 64 less the bits of its size
}

// newBitset has at least size bits, 64 at least.
func newBitset(size int) bitset {
	n := max(bits.Len(uint(size-1)), 6)
	return bitset{words: make([]uint64, 1<<n/64), shift: uint8(64 - n)}
}

func (b *bitset) add(hash uint64) { b.words[hash>>b.shift/64] |= 1 << (hash >> b.shift % 64) }

func (b *bitset) has(hash uint64) bool { return b.words[hash>>b.shift/64]>>(hash>>b.shift%64)&1 != 0 }

// build sorts the entries and indexes them.
func (m *Matcher) build() {
	m.sort()
	for i := 0; i < len(m.patterns); {
		g := group{first: int32(i)}
		key := m.keyOf(i)
		for i++; i < len(m.patterns) && slices.EqualFunc(m.keyOf(i), key, sameLetter); i++ {
		}
		g.last = int32(i - 1)
		m.index.groups = append(m.index.groups, g)
		m.linkPrefixes(g)
	}
	m.index.groups = slices.Clip(m.index.groups)
	m.fillTable()
}

// sort orders the entries by their letters, and those of the same letters as they stand in the list.
func (m *Matcher) sort() {
	type entry struct {
		start uint64 // its first three letters
		at    int32
	}
	order := make([]entry, len(m.patterns))
	for i := range order {
		order[i].at = int32(i)
		for k := range 3 {
			order[i].start <<= lookShift
			if runs := m.runsOf(&m.patterns[i]); k < len(runs) {
				order[i].start |= uint64(runs[k].letter())
			}
		}
	}
	slices.SortFunc(order, func(a, b entry) int {
		if a.start != b.start {
			return cmp.Compare(a.start, b.start)
		}
		return cmp.Or(compareLetters(m.runsOf(&m.patterns[a.at]), m.runsOf(&m.patterns[b.at])), int(a.at-b.at))
	})
	sorted := make([]pattern, len(order))
	for i, e := range order {
		sorted[i] = m.patterns[e.at]
	}
	m.patterns = sorted
}

func sameLetter(a, b patternRun) bool { return a.letter() == b.letter() }

func (m *Matcher) keyOf(i int) []patternRun {
	runs := m.runsOf(&m.patterns[i])
	return runs[:min(len(runs), keyRuns)]
}

// linkPrefixes notes with each entry of a group the one it begins with. What an entry begins with sorts before it, and so
// do the entries between them.
func (m *Matcher) linkPrefixes(g group) {
	m.patterns[g.first].prefix = -1
	for i := g.first + 1; i <= g.last; i++ {
		runs := m.runsOf(&m.patterns[i])
		p := i - 1
		for p >= 0 && !beginsWith(runs, m.runsOf(&m.patterns[p])) {
			p = m.patterns[p].prefix
		}
		m.patterns[i].prefix = p
	}
}

func beginsWith(runs, prefix []patternRun) bool {
	return len(runs) >= len(prefix) && slices.EqualFunc(runs[:len(prefix)], prefix, sameLetter)
}

func (m *Matcher) fillTable() {
	x := &m.index
	n := len(x.groups)
	x.pairs, x.keys = newBitset(min(8*n, 1<<18)), newBitset(min(16*n, 1<<22))
	size := bits.Len(uint(n*4/3 + 1))
	x.table, x.shift = make([]slot, 1<<size), uint8(64-size)
	for g := range x.groups {
		hash, key := uint64(seed), m.keyOf(int(x.groups[g].first))
		for i, r := range key {
			hash = mix(hash, r.letter())
			if i == 1 {
				x.pairs.add(hash)
			}
		}
		x.single = x.single || len(key) == 1
		x.keys.add(hash)
		at := hash >> x.shift
		for x.table[at].group != 0 {
			at = (at + 1) & uint64(len(x.table)-1)
		}
		x.table[at] = slot{int32(g + 1), uint32(hash)}
	}
}

// find tells of each entry whose letters stand in the runs, however often each: in the order of the places, longer entries first,
// and maxPlaces for one key at most.
func (m *Matcher) find(runs []run, found func(pattern int32, at int)) {
	x := &m.index
	for i := range runs {
		one := mix(seed, runs[i].r)
		if i+1 < len(runs) {
			if two := mix(one, runs[i+1].r); x.pairs.has(two) {
				m.findLonger(two, runs, i, found)
			}
		}
		if x.single && x.keys.has(one) {
			m.lookUp(one, 1, runs, i, found)
		}
	}
}

// findLonger tells of the entries of two runs and more that begin with the two at i, whose hash is given.
func (m *Matcher) findLonger(two uint64, runs []run, i int, found func(pattern int32, at int)) {
	x := &m.index
	if i+2 < len(runs) {
		three := mix(two, runs[i+2].r)
		if i+3 < len(runs) {
			if four := mix(three, runs[i+3].r); x.keys.has(four) {
				m.lookUp(four, 4, runs, i, found)
			}
		}
		if x.keys.has(three) {
			m.lookUp(three, 3, runs, i, found)
		}
	}
	if x.keys.has(two) {
		m.lookUp(two, 2, runs, i, found)
	}
}

// maxPlaces bounds the entries of one key told of one place of a line; the longest are told.
const maxPlaces = 16

// lookUp tells of the entries whose key is the n runs at i.
func (m *Matcher) lookUp(hash uint64, n int, runs []run, i int, found func(pattern int32, at int)) {
	g, ok := m.group(hash, runs[i:i+n])
	if !ok {
		return
	}
	p, same := m.lastNotAfter(g, runs[i:])
	for told := 0; p >= 0 && told < maxPlaces; p = m.patterns[p].prefix {
		if int(m.patterns[p].runCount) <= same {
			found(p, i)
			told++
		}
	}
}

func (m *Matcher) group(hash uint64, key []run) (group, bool) {
	x := &m.index
	for i := hash >> x.shift; ; i = (i + 1) & uint64(len(x.table)-1) {
		at := x.table[i]
		if at.group == 0 {
			return group{}, false
		}
		if at.tag != uint32(hash) {
			continue
		}
		g := x.groups[at.group-1]
		p := &m.patterns[g.first]
		if (len(key) == keyRuns || int(p.runCount) == len(key)) && m.sameRuns(p, key) == len(key) {
			return g, true
		}
	}
}

// lastNotAfter returns the last entry of the group that does not sort after the runs, and how many of its letters they share.
func (m *Matcher) lastNotAfter(g group, runs []run) (int32, int) {
	low, high := g.first, g.last+1 // those before low do not sort after the runs, those from high on do
	for low < high {
		middle := int32(uint32(low+high) / 2)
		if m.compare(&m.patterns[middle], runs) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == g.first {
		return -1, 0
	}
	return low - 1, m.sameRuns(&m.patterns[low-1], runs)
}

// compare orders an entry's letters against those of the line.
func (m *Matcher) compare(p *pattern, runs []run) int {
	n := m.sameRuns(p, runs)
	switch {
	case n == int(p.runCount):
		return n - len(runs)
	case n == len(runs):
		return 1
	}
	return int(m.runs[p.runs+uint32(n)].letter()) - int(runs[n].r)
}

// sameRuns is how many letters the entry and the line have in common from their beginnings on.
func (m *Matcher) sameRuns(p *pattern, runs []run) int {
	for i, w := range m.runsOf(p) {
		if i == len(runs) || w.letter() != runs[i].r {
			return i
		}
	}
	return int(p.runCount)
}
