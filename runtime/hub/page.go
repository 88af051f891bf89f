package hub

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

// page is a stretch of the log, encoded: what a thousand clients that resume together all need. Its place is fixed, so
// that clients with different positions share it.
type page struct {
	done chan struct{}
	err  error
	upTo int64
	envs []*envelope.Envelope
	ends []int // where each message's frames end in data
	data []byte
}

const (
	pageSeqs  = 512
	pageLife  = 5 * time.Second
	maxPages  = 16 // kept for one room
	stepBytes = 64 << 10
)

// page returns the page with the message after pos, read once for all who want it at the same time or soon after.
func (r *room) page(ctx context.Context, pos int64) (*page, error) {
	key := pos / pageSeqs
	r.mu.Lock()
	p := r.pages[key]
	if p == nil || p.upTo <= pos {
		p = &page{done: make(chan struct{}), upTo: min((key+1)*pageSeqs, r.sent)}
		if !r.h.spawn(func() { r.fill(key, p) }) {
			r.mu.Unlock()
			return nil, errEvicted
		}
		if r.pages == nil || len(r.pages) >= maxPages {
			r.pages = make(map[int64]*page)
		}
		r.pages[key] = p
	}
	r.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.err != nil {
		return nil, fmt.Errorf("cannot read missed messages: %w", p.err)
	}
	return p, nil
}

// fill reads and encodes a page, and forgets it after its life, or at once when it could not be read.
func (r *room) fill(key int64, p *page) {
	p.envs, p.err = r.h.read(r.ch, key*pageSeqs, p.upTo, pageSeqs)
	if p.err == nil {
		p.encode(r.h.o.Codec)
		time.AfterFunc(pageLife, func() { r.forgetPage(key, p) })
	} else {
		r.forgetPage(key, p)
	}
	close(p.done)
}

func (r *room) forgetPage(key int64, p *page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pages[key] == p {
		delete(r.pages, key)
	}
}

func (p *page) encode(codec Codec) {
	p.ends = make([]int, len(p.envs))
	for i, e := range p.envs {
		if e.Known() {
			p.data = codec.AppendBatch(p.data, p.envs[i:i+1])
		}
		p.ends[i] = len(p.data)
	}
}

// next is the first seq of the page after pos; past its end when there is none.
func (p *page) next(pos int64) int64 {
	if i := p.index(pos + 1); i < len(p.envs) {
		return p.envs[i].Seq
	}
	return p.upTo + 1
}

func (p *page) index(seq int64) int {
	return sort.Search(len(p.envs), func(i int) bool { return p.envs[i].Seq >= seq })
}

func (p *page) start(i int) int {
	if i == 0 {
		return 0
	}
	return p.ends[i-1]
}

// collect returns the frames of what user may see after pos, about limit bytes of them, and how far they reach. Without
// a shadowed message of somebody else among them they are the page's own bytes.
func (p *page) collect(user string, pos int64, limit int) ([]byte, int64) {
	begin := p.index(pos + 1)
	at := p.start(begin)
	end, hidden := begin, false
	for end < len(p.envs) && (end == begin || p.ends[end]-at <= limit) {
		hidden = hidden || p.envs[end].Shadow && p.envs[end].User != user
		end++
	}
	reach := p.upTo
	if end < len(p.envs) {
		reach = p.envs[end-1].Seq
	}
	if !hidden {
		return p.data[at:p.start(end):p.start(end)], reach
	}
	var out []byte
	for i := begin; i < end; i++ {
		if e := p.envs[i]; !e.Shadow || e.User == user {
			out = append(out, p.data[p.start(i):p.ends[i]]...)
		}
	}
	return out, reach
}
