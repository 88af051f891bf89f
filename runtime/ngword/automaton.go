package ngword

import "math/bits"

// automaton is an Aho-Corasick automaton over runs of folded letters. Its edges stand in one open-addressed table: 100,000
// words fit in some megabytes, and a clean line costs about one probe a letter.
type automaton struct {
	keys  []uint64 // node+1 and letter, 0: free
	vals  []int32
	mask  uint64
	shift uint8 // 64 less the bits of mask
	fail  []int32
	out   []int32 // first pattern that ends at the node, -1: none
	dict  []int32 // nearest node among the suffixes at which a pattern ends, 0: none
}

func edgeKey(node int32, r rune) uint64 { return uint64(node+1)<<21 | uint64(r) }

func (a *automaton) edge(node int32, r rune) (int32, bool) {
	key := edgeKey(node, r)
	for i := key * golden >> a.shift; ; i = (i + 1) & a.mask {
		switch a.keys[i] {
		case key:
			return a.vals[i], true
		case 0:
			return 0, false
		}
	}
}

// golden spreads keys over the high bits of a product: neighbours among letters and nodes end far apart.
const golden = 0x9e3779b97f4a7c15

// step is the node after one more letter. The way back along fail links is paid for by the way there.
func (a *automaton) step(node int32, r rune) int32 {
	for {
		if next, ok := a.edge(node, r); ok {
			return next
		}
		if node == 0 {
			return 0
		}
		node = a.fail[node]
	}
}

// builder grows an automaton.
type builder struct {
	automaton
	parent []int32
	letter []rune
	depth  []int32
}

func newBuilder() *builder {
	b := &builder{}
	b.grow(64)
	b.newNode(0, 0, 0)
	return b
}

func (b *builder) newNode(parent int32, r rune, depth int32) int32 {
	b.parent, b.letter, b.depth = append(b.parent, parent), append(b.letter, r), append(b.depth, depth)
	b.out = append(b.out, -1)
	return int32(len(b.out) - 1)
}

func (b *builder) child(node int32, r rune) int32 {
	if next, ok := b.edge(node, r); ok {
		return next
	}
	next := b.newNode(node, r, b.depth[node]+1)
	if len(b.out)*4 > len(b.keys)*3 {
		b.grow(len(b.keys) * 2)
	}
	b.insert(edgeKey(node, r), next)
	return next
}

func (b *builder) insert(key uint64, val int32) {
	i := key * golden >> b.shift
	for b.keys[i] != 0 {
		i = (i + 1) & b.mask
	}
	b.keys[i], b.vals[i] = key, val
}

func (b *builder) grow(size int) {
	keys, vals := b.keys, b.vals
	b.keys, b.vals, b.mask = make([]uint64, size), make([]int32, size), uint64(size-1)
	b.shift = uint8(64 - bits.Len64(b.mask))
	for i, key := range keys {
		if key != 0 {
			b.insert(key, vals[i])
		}
	}
}

// finish sets the fail and dict links, nearest nodes first, and lets go of what only building needs.
func (b *builder) finish() automaton {
	b.fail, b.dict = make([]int32, len(b.out)), make([]int32, len(b.out))
	for _, node := range b.byDepth() {
		parent := b.parent[node]
		if parent != 0 {
			b.fail[node] = b.step(b.fail[parent], b.letter[node])
		}
		f := b.fail[node]
		if b.out[f] >= 0 {
			b.dict[node] = f
		} else {
			b.dict[node] = b.dict[f]
		}
	}
	return b.automaton
}

// byDepth is every node but the root, sorted by depth.
func (b *builder) byDepth() []int32 {
	var count []int
	for _, d := range b.depth {
		for int(d) >= len(count) {
			count = append(count, 0)
		}
		count[d]++
	}
	at := make([]int, len(count))
	for d := 2; d < len(count); d++ {
		at[d] = at[d-1] + count[d-1]
	}
	order := make([]int32, len(b.depth)-1)
	for node := 1; node < len(b.depth); node++ {
		d := b.depth[node]
		order[at[d]] = int32(node)
		at[d]++
	}
	return order
}
