package main

import (
	"fmt"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

const (
	progressAfter = time.Second            // what is over sooner needs no progress
	redrawEvery   = 100 * time.Millisecond // on a terminal
	lineEvery     = 5 * time.Second        // in a log file
)

// progress tells how far an upload is: one line redrawn on a terminal, a plain line now and then elsewhere.
type progress struct {
	c     *cli
	what  string
	total int64
	begun time.Time
	last  time.Time
	shown bool
}

func (c *cli) progress(what string, total int64) *progress {
	now := c.now()
	return &progress{c: c, what: what, total: total, begun: now, last: now}
}

func (p *progress) at(done int64) {
	now := p.c.now()
	every := lineEvery
	if p.c.errTTY {
		every = redrawEvery
	}
	if p.c.quiet || now.Sub(p.begun) < progressAfter || p.shown && now.Sub(p.last) < every {
		return
	}
	p.last, p.shown = now, true
	text := fmt.Sprintf("%s: %s of %s, %d%%", p.what, size(done), size(p.total), 100*done/max(p.total, 1))
	if p.c.errTTY {
		fmt.Fprintf(p.c.err, "\r\x1b[K%s", clean(text))
	} else {
		fmt.Fprintln(p.c.err, clean(text))
	}
}

// end clears the redrawn line.
func (p *progress) end() {
	if p.shown && p.c.errTTY {
		fmt.Fprint(p.c.err, "\r\x1b[K")
	}
}

// steps tells a release's steps: on a terminal when one begins and again when it has ended, elsewhere once it has.
type steps struct {
	c    *cli
	open bool // the step that runs stands on a line without an end
}

func (p *steps) at(e controlplane.Event) {
	if p.c.quiet || e.Ended != nil {
		return
	}
	p.end()
	switch s := e.Step; {
	case s == nil:
		p.c.note("  %s", e.Message)
	case s.State != "running":
		mark := s.State
		if s.State == "done" {
			mark = took(s.Took)
		}
		fmt.Fprintf(p.c.err, "  %s %8s  %s\n", cells.FillRight(cells.Truncate(clean(s.Name), 32, "…"), 32), mark, clean(s.Message))
	case p.c.errTTY:
		p.open = true
		fmt.Fprintf(p.c.err, "  %s …", clean(s.Name))
	}
}

// end clears the line of the step that runs.
func (p *steps) end() {
	if p.open {
		p.open = false
		fmt.Fprint(p.c.err, "\r\x1b[K")
	}
}
