package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	joinClients  = 5000
	joinSpeakers = 20
	joinRate     = 50.0
	joinWithin   = 10 * time.Second
	joinPace     = 9 * time.Second // in which they knock, evenly
	joinAfter    = 5 * time.Second // of talk when all are in
	joinP99      = 200 * time.Millisecond
	joinEvents   = 250.0 // presence events a client, on average; with one for each who comes after it, it would be half the clients
)

// joins is a storm: everybody comes into the one channel that goes on talking.
func (b *bench) joins(ctx context.Context) error {
	families := []channels{{"w", 1, store.KindWorld, store.HistoryLog}}
	return b.inKMS(ctx, joinClients, families, func(k *kms) error {
		s := k.direct("w")
		c, err := newCrowd(s.wire, s.network, s.address, 1, joinClients)
		if err != nil {
			return err
		}
		defer c.close()
		c.events = true
		if err := c.join(ctx, 0, joinSpeakers); err != nil {
			return err
		}
		p := pace{rate: joinRate, speakers: joinSpeakers}
		if _, err := c.talk(ctx, p, time.Second); err != nil {
			return err
		}
		var took time.Duration
		r := &result{}
		wait := b.record(ctx, k, "joins")
		if b.warmed != nil {
			b.warmed()
			b.warmed = nil
		}
		if took, err = c.storm(ctx, s, p, r); err != nil {
			return err
		}
		if err := wait(); err != nil {
			return err
		}
		return b.tellJoins(c, r, took)
	})
}

// storm measures from the first knock until some time after the last, and returns how long all took to come in.
func (c *crowd) storm(ctx context.Context, s *server, p pace, r *result) (took time.Duration, err error) {
	before, err := readUsage(s)
	if err != nil {
		return 0, err
	}
	received := c.received.Load()
	c.latency.Store(&r.latency)
	began := time.Now()
	var g errgroup.Group
	g.Go(func() error {
		err := c.knock(ctx, joinSpeakers, joinClients, joinPace)
		took = time.Since(began)
		return err
	})
	r.sent, err = c.chatter(ctx, p, joinPace+joinAfter)
	if joinErr := g.Wait(); joinErr != nil {
		return took, joinErr
	}
	if err != nil {
		return took, err
	}
	if err := c.awaitAll(); err != nil {
		return took, err
	}
	r.seconds = time.Since(began).Seconds()
	after, err := readUsage(s)
	if err != nil {
		return took, err
	}
	after.since(before, r)
	r.deliveries, r.lost = c.received.Load()-received, c.missing()
	r.doubled, r.refused = c.doubled.Load(), c.refused.Load()
	return took, nil
}

// knock connects users evenly over a time and waits until all are in.
func (c *crowd) knock(ctx context.Context, lo, hi int, over time.Duration) error {
	var g errgroup.Group
	g.SetLimit(connecting)
	began := time.Now()
	for user := lo; user < hi && ctx.Err() == nil; user++ {
		time.Sleep(time.Until(began.Add(over * time.Duration(user-lo) / time.Duration(hi-lo))))
		g.Go(func() error { return c.connect(user, user%c.channels) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitReady(ctx, int64(hi))
}

func (b *bench) tellJoins(c *crowd, r *result, took time.Duration) error {
	rs := map[string]*result{"kms": r}
	if err := b.delays("joins.p99", joinP99, rs, "kms"); err != nil {
		return err
	}
	if err := b.costs("joins.cpu", "", rs, "kms", true, nil); err != nil {
		return err
	}
	err := b.figures.Tell(figure.Figure{Name: "joins.time", Value: took.Seconds(), Unit: "s", Goal: fmt.Sprintf("<= %.0f", joinWithin.Seconds()),
		OK: took <= joinWithin, Details: map[string]any{"clients": joinClients}})
	if err != nil {
		return err
	}
	events := float64(c.presence.Load()) / joinClients
	return b.figures.Tell(figure.Figure{Name: "joins.events", Value: events, Unit: "presence events/client", Goal: fmt.Sprintf("<= %.0f", joinEvents),
		OK: events <= joinEvents})
}
