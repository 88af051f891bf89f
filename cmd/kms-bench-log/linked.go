package main

import (
	"context"
	"errors"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

const linkedGoal = 30 * time.Millisecond

// linkedHere measures a message from a user of one UA to a user of another, each on its own of two linked IRC servers. quick says
// whether the route between the servers acknowledges at once.
func (b *bench) linkedHere(ctx context.Context, quick bool) error {
	h, err := newHost(ctx, b.builds, "sqlite", 2*b.senders, b.senders)
	if err != nil {
		return err
	}
	return errors.Join(b.linkedOn(ctx, h, quick), h.close())
}

func (b *bench) linkedOn(ctx context.Context, h *host, quick bool) error {
	here, there, err := h.startPair(ctx, nil)
	if err != nil {
		return err
	}
	speakers, err := enterAll(ctx, here, b.senders)
	defer leaveAll(speakers)
	if err != nil {
		return err
	}
	listeners, err := enterAll(ctx, there, b.senders)
	defer leaveAll(listeners)
	if err != nil {
		return err
	}
	var got recorder
	ignoring, hush := readAll(speakers, func(_ *client, o op) error { return unlessRefused(o) })
	listening, stop := readAll(listeners, timing(isMessage, &got))
	healed := there.value(ctx, "healed_total")
	err = pace(ctx, speakers, warmTime, b.length, &got)
	healed = there.value(ctx, "healed_total") - healed
	hush()
	stop()
	if err := errors.Join(err, ignoring(), listening()); err != nil {
		return err
	}
	p99 := figure.Quantile(0.99, got.times)
	return b.figures.Tell(figure.Figure{
		Name: "linked_p99", Value: figure.Millis(p99), Unit: "ms", Goal: "<= 30 at 1000/s", OK: p99 <= linkedGoal && len(got.times) > 0,
		Details: map[string]any{"p50_ms": figure.Millis(figure.Quantile(0.5, got.times)), "messages": len(got.times), "read_from_log": healed, "quickack": quick},
	})
}

// startPair starts two linked IRC servers with a UA on each, and returns when lines cross.
func (h *host) startPair(ctx context.Context, via func(string) (string, error)) (here, there *ua, err error) {
	servers, err := h.startIRC(2, via)
	if err != nil {
		return nil, nil, err
	}
	if here, err = h.startUA(ctx, servers[0]); err != nil {
		return nil, nil, err
	}
	if there, err = h.startUA(ctx, servers[1]); err != nil {
		return nil, nil, err
	}
	return here, there, awaitCrossing(ctx, here, there)
}

// awaitCrossing waits until what one UA publishes comes to the other over the bus.
func awaitCrossing(ctx context.Context, here, there *ua) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		crossed, err := crosses(ctx, here, there)
		if crossed || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("no line crosses the link")
		}
	}
}

func crosses(ctx context.Context, here, there *ua) (bool, error) {
	a, err := here.enter(ctx, 0, "hall")
	if err != nil {
		return false, err
	}
	defer a.ws.Close()
	b, err := there.enter(ctx, 1, "hall")
	if err != nil {
		return false, err
	}
	defer b.ws.Close()
	before := there.value(ctx, "bus_in_total")
	if err := a.send(1); err != nil {
		return false, err
	}
	if _, err := b.await("msg"); err != nil {
		return false, err
	}
	return there.value(ctx, "bus_in_total") > before, nil
}
