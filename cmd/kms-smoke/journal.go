package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// message is one that a client received.
type message struct {
	kind, id, user, text string
	seq                  int64
	at                   time.Time // when it came
}

// receipt is the server's word that a message is in the log.
type receipt struct {
	id   string
	seq  int64 // 0 in 1.0
	text string
}

// journal is what one client has seen, in the order in which it came. Its methods may be called from any goroutine.
type journal struct {
	mu       sync.Mutex
	news     chan struct{} // closed at the next entry
	got      []message
	receipts []receipt
	refused  map[string]string // by text: the code
	wrong    []string          // what the protocol's page does not allow
	unasked  int               // connections that ended without a word before and without our replacement
	moved    int               // connections that the server asked us to leave
	open     bool              // joined on a live connection
	gone     bool              // the server said that there is nothing to come back to
	told     []time.Time       // when the server asked us to leave
	framed   int               // connections that ended with a close frame
	bare     int               // and without

	light bool  // keeps no messages, in a crowd of a thousand
	lost  int64 // messages of the channel that did not come, by their seqs
	last  int64 // seq of the last one that came
}

// closed notes how a connection ended.
func (j *journal) closed(err error) {
	var frame *websocket.CloseError
	framed := errors.As(err, &frame) && frame.Code != websocket.CloseAbnormalClosure
	j.note(func() {
		if framed {
			j.framed++
		} else {
			j.bare++
		}
	})
}

func (j *journal) isLight() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.light
}

func (j *journal) note(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
	if j.news != nil {
		close(j.news)
		j.news = nil
	}
}

// await returns when cond holds; cond runs with the journal locked.
func (j *journal) await(ctx context.Context, what string, cond func() bool) error {
	for {
		j.mu.Lock()
		if cond() {
			j.mu.Unlock()
			return nil
		}
		if j.news == nil {
			j.news = make(chan struct{})
		}
		news := j.news
		j.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("did not see %s: %w", what, ctx.Err())
		case <-news:
		}
	}
}

// find returns the first message with this text; the journal is locked.
func (j *journal) find(text string) (message, bool) {
	for _, m := range j.got {
		if m.text == text {
			return m, true
		}
	}
	return message{}, false
}

// receive waits for a message with this text.
func (j *journal) receive(ctx context.Context, text string) (m message, err error) {
	err = j.await(ctx, fmt.Sprintf("the message %q", text), func() (ok bool) {
		m, ok = j.find(text)
		return ok
	})
	return m, err
}

// acknowledged waits for the receipt of a text.
func (j *journal) acknowledged(ctx context.Context, text string) (r receipt, err error) {
	var code string
	err = j.await(ctx, fmt.Sprintf("the receipt of %q", text), func() (ok bool) {
		code, ok = j.refused[text]
		for _, r = range j.receipts {
			if r.text == text {
				return true
			}
		}
		return ok
	})
	if err == nil && code != "" {
		err = fmt.Errorf("%q is refused: %s", text, code)
	}
	return r, err
}

// all is a copy of what was received.
func (j *journal) all() []message {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]message{}, j.got...)
}

func (j *journal) acks() []receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]receipt{}, j.receipts...)
}

// counts is how often the connection was lost, and moved.
func (j *journal) counts() (unasked, moved int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unasked, j.moved
}

// violations are the promises that were seen broken.
func (j *journal) violations() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations, the first: %s", len(j.wrong), j.wrong[0])
}

// missing is how many of the receipts have not come as messages yet.
func (j *journal) missing(receipts []receipt) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	seen := make(map[string]bool, len(j.got))
	for _, m := range j.got {
		seen[m.id] = true
	}
	n := 0
	for _, r := range receipts {
		if !seen[r.id] {
			n++
		}
	}
	return n
}

// exactlyOnce holds a resuming receiver against what was acknowledged to the senders: each once, at its place, all in order.
func (j *journal) exactlyOnce(ctx context.Context, receipts []receipt) error {
	for j.missing(receipts) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d acknowledged messages never came", j.missing(receipts), len(receipts))
		case <-time.After(20 * time.Millisecond):
		}
	}
	places := map[string]int64{}
	last := int64(0)
	for _, m := range j.all() {
		if m.seq <= last {
			return fmt.Errorf("message %q at %d came after %d", m.text, m.seq, last)
		}
		if _, twice := places[m.id]; twice {
			return fmt.Errorf("message %q came twice", m.text)
		}
		last, places[m.id] = m.seq, m.seq
	}
	for _, r := range receipts {
		if r.seq != 0 && places[r.id] != r.seq {
			return fmt.Errorf("message %q was acknowledged at %d and came at %d", r.text, r.seq, places[r.id])
		}
	}
	return j.violations()
}
