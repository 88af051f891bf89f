package main

import (
	"context"
	"time"
)

// crowd is clients that are counted, not listened to.
type crowd []client

// Tally is what clients have seen in all.
type Tally struct {
	Lost    int      // messages of the channel that clients of 2.0 did not get
	Unasked int      // connections closed without a word before
	Framed  int      // connections that ended with a close frame
	Bare    int      // and without
	Behind  int      // clients of 2.0 that did not come to the last message in time
	Wrong   []string // what the protocols' pages do not allow
}

func (t Tally) plus(o Tally) Tally {
	return Tally{t.Lost + o.Lost, t.Unasked + o.Unasked, t.Framed + o.Framed, t.Bare + o.Bare, t.Behind + o.Behind, append(t.Wrong, o.Wrong...)}
}

func (c crowd) awaitOpen(ctx context.Context) error {
	for _, one := range c {
		j := one.seen()
		if err := j.await(ctx, "an open connection", func() bool { return j.open }); err != nil {
			return err
		}
	}
	return nil
}

// count tallies now.
func (c crowd) count() (t Tally) {
	for _, one := range c {
		j := one.seen()
		j.note(func() {
			t = t.plus(Tally{Lost: int(j.lost), Unasked: j.unasked, Framed: j.framed, Bare: j.bare, Wrong: j.wrong})
		})
	}
	return t
}

// behind is how many clients of 2.0 do not come to a message of their channel before ctx ends.
func (c crowd) behind(ctx context.Context, last int64) (n int) {
	for _, one := range c {
		j := one.seen()
		if one.on() == "2.0" && j.await(ctx, "the last message", func() bool { return j.last >= last }) != nil {
			n++
		}
	}
	return n
}

// told waits until all clients of a version were told to leave, and came back, since a drain began; and returns when each was told.
func (c crowd) told(ctx context.Context, version string, began time.Time) (times []time.Time, err error) {
	for _, one := range c {
		if one.on() != version {
			continue
		}
		j := one.seen()
		err := j.await(ctx, "the drain", func() bool {
			n := len(j.told)
			return n > 0 && j.told[n-1].After(began) && j.open
		})
		if err != nil {
			return nil, err
		}
		j.note(func() {
			for _, at := range j.told {
				if at.After(began) {
					times = append(times, at)
				}
			}
		})
	}
	return times, nil
}

// light has a client keep no messages, and count what it misses.
func light(c client) client {
	c.seen().note(func() { c.seen().light = true })
	return c
}

func (c crowd) close() {
	for _, one := range c {
		one.close()
	}
}
