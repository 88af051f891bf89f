package hub

import (
	"sort"

	"github.com/kmsctl/kms/runtime/envelope"
)

// ring holds a room's newest messages, everything after seq `after`, within a bound of bytes. Their frames are made when
// somebody first asks for them. The room's lock guards it.
type ring struct {
	after   int64
	entries []ringEntry
	bytes   int
}

type ringEntry struct {
	e      *envelope.Envelope
	frames []byte
}

// entryBytes is what a message costs beside its strings.
const entryBytes = 256

func (en *ringEntry) size() int {
	return entryBytes + len(en.e.Text) + len(en.e.Name) + len(en.frames)
}

func (g *ring) add(e *envelope.Envelope, limit int) {
	g.entries = append(g.entries, ringEntry{e: e})
	g.bytes += g.entries[len(g.entries)-1].size()
	n := 0
	for n < len(g.entries) && g.bytes > limit {
		g.bytes -= g.entries[n].size()
		g.after = g.entries[n].e.Seq
		n++
	}
	g.drop(n)
}

// forget drops what is before first.
func (g *ring) forget(first int64) {
	n := g.index(first)
	for i := range n {
		g.bytes -= g.entries[i].size()
	}
	g.drop(n)
	g.after = max(g.after, first-1)
}

func (g *ring) drop(n int) {
	clear(g.entries[:n])
	g.entries = g.entries[n:]
}

// restart empties the ring: it is complete from after on.
func (g *ring) restart(after int64) { *g = ring{after: after} }

func (g *ring) covers(pos int64) bool { return pos >= g.after }

func (g *ring) index(seq int64) int {
	return sort.Search(len(g.entries), func(i int) bool { return g.entries[i].e.Seq >= seq })
}

// keepFrames stores frames that were made for a message on its own.
func (g *ring) keepFrames(e *envelope.Envelope, frames []byte) {
	if i := g.index(e.Seq); i < len(g.entries) && g.entries[i].e == e && g.entries[i].frames == nil && !e.Shadow {
		g.entries[i].frames = frames
		g.bytes += len(frames)
	}
}

// change gives the message that an edit or a deletion is about its new text, or none, and takes the text out of earlier edits of it.
// What is shadowed changes only what is shadowed too. Others may be encoding the envelopes, so they give way to copies.
func (g *ring) change(by *envelope.Envelope) {
	for i := range g.entries {
		en := &g.entries[i]
		text := ""
		switch {
		case by.Shadow && !en.e.Shadow:
			continue
		case en.e.ID == by.Target:
			text = by.Text
		case en.e.Kind != envelope.Edit || en.e.Target != by.Target || en.e.Shadow != by.Shadow:
			continue
		}
		g.bytes -= en.size()
		e := *en.e
		e.Text = text
		en.e, en.frames = &e, nil
		g.bytes += en.size()
	}
}

// collect returns frames for what user may see after pos up to upTo, about limit bytes of them, and how far they reach.
func (g *ring) collect(codec Codec, user string, pos, upTo int64, limit int) ([]byte, int64) {
	var out []byte
	for i := g.index(pos + 1); i < len(g.entries); i++ {
		en := &g.entries[i]
		if en.e.Seq > upTo {
			break
		}
		if len(out) >= limit {
			return out, en.e.Seq - 1
		}
		if !en.e.Known() || en.e.Shadow && en.e.User != user {
			continue
		}
		if en.frames == nil {
			en.frames = encode(codec, []*envelope.Envelope{en.e})
			g.bytes += len(en.frames)
		}
		out = append(out, en.frames...)
	}
	return out, upTo
}
