package bus

import (
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/envelope"
)

const (
	maxParts     = 2048
	partialLife  = 10 * time.Second
	manyPartials = 256 // from here on, what never became whole is looked for and thrown away

	// Beyond these everything unfinished is thrown away, and read from the log.
	maxPartials  = 4096
	partialBytes = 16 << 20
)

// split cuts data into pieces of at most size bytes that end where a character ends: a server that checks UTF-8 passes them.
// It returns nil when there would be too many.
func split(data []byte, size int) [][]byte {
	if size < utf8.UTFMax {
		return nil
	}
	var pieces [][]byte
	for len(data) > size {
		n := size
		for n > size-utf8.UTFMax && !utf8.RuneStart(data[n]) {
			n--
		}
		pieces = append(pieces, data[:n])
		data = data[n:]
	}
	pieces = append(pieces, data)
	if len(pieces) > maxParts {
		return nil
	}
	return pieces
}

// assembler puts the parts of long envelopes together. A sender's parts on one IRC channel arrive in order or not at all, so
// one unfinished envelope a sender and channel is enough. One goroutine uses it.
type assembler struct {
	partials map[string]*partial
	bytes    int // of all
	pruned   time.Time
}

type partial struct {
	data  []byte
	next  int
	parts int
	since time.Time
}

// add takes a part and returns the envelope's bytes when it was the last one.
func (a *assembler) add(from string, it *item) []byte {
	if a.partials == nil {
		a.partials = map[string]*partial{}
	}
	p := a.partials[from]
	if it.part == 1 {
		a.prune()
		a.forget(from)
		p = &partial{next: 1, parts: it.parts, since: time.Now()}
		a.partials[from] = p
	}
	if p == nil {
		return nil // its beginning was sent before we listened
	}
	if it.part != p.next || it.parts != p.parts || p.parts > maxParts || len(p.data)+len(it.data) > envelope.MaxBytes {
		a.forget(from)
		return nil
	}
	if a.bytes += len(it.data); a.bytes > partialBytes || len(a.partials) > maxPartials {
		a.partials, a.bytes = nil, 0
		return nil
	}
	p.data = append(p.data, it.data...)
	p.next++
	if it.part < it.parts {
		return nil
	}
	a.forget(from)
	return p.data
}

func (a *assembler) forget(from string) {
	if p := a.partials[from]; p != nil {
		a.bytes -= len(p.data)
		delete(a.partials, from)
	}
}

func (a *assembler) prune() {
	now := time.Now()
	if len(a.partials) < manyPartials || now.Sub(a.pruned) < partialLife/10 {
		return
	}
	a.pruned = now
	for from, p := range a.partials {
		if now.Sub(p.since) > partialLife {
			a.forget(from)
		}
	}
}
