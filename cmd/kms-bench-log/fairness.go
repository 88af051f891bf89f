package main

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/plugin"
)

const (
	pairs     = 5
	settled   = warmTime / 4 // after the noise begins or ends
	fairShare = 5            // a p99 may become longer by this part of it,
	fairTime  = 5 * time.Millisecond
)

// fairness measures how much longer a tenant's users wait while another tenant sends ten times its quota to the same processes, by
// WebSocket and by POST: in pairs of runs, alone and beside it.
func (b *bench) fairness(ctx context.Context) error {
	h, err := newHost(ctx, b.builds, "sqlite", b.senders, b.senders)
	if err != nil {
		return err
	}
	return errors.Join(b.fairnessOn(ctx, h), h.close())
}

func (b *bench) fairnessOn(ctx context.Context, h *host) error {
	servers, err := h.startIRC(1, nil)
	if err != nil {
		return err
	}
	u, err := h.startUA(ctx, servers[0])
	if err != nil {
		return err
	}
	api, err := h.startRole(ctx, plugin.RoleAPI, servers[0])
	if err != nil {
		return err
	}
	v, err := h.joinVictim(ctx, u, b.senders)
	if err != nil {
		return err
	}
	n, err := h.startNoise(ctx, u, api)
	if err != nil {
		return err
	}
	return b.compare(ctx, v, n)
}

// compare tells the figures. There are ten runs, each half as long as what is measured once.
func (b *bench) compare(ctx context.Context, v *victim, noise *rpc.Client) error {
	if err := pace(ctx, v.talkers, warmTime, 0); err != nil { // recorded by nobody
		return err
	}
	var heard Heard
	acks, deliveries := contest{name: "fairness_ack"}, contest{name: "fairness_delivery"}
	for pair := range pairs {
		ack, delivery, err := v.run(ctx, b.length/2)
		if err != nil {
			return err
		}
		making := noise.Go("Noise.Run", b.length/2, &heard, nil)
		besideAck, besideDelivery, err := v.run(ctx, b.length/2)
		if err := errors.Join(err, (<-making.Done).Error); err != nil {
			return err
		}
		b.say("fairness: pair %d: p99 of acknowledgements %v alone, %v beside; of deliveries %v, %v", pair+1, ack, besideAck, delivery, besideDelivery)
		acks.add(ack, besideAck)
		deliveries.add(delivery, besideDelivery)
	}
	return errors.Join(b.figures.Tell(heard.judge(acks.figure())), b.figures.Tell(heard.judge(deliveries.figure())))
}

// contest gathers a p99 from the pairs.
type contest struct {
	name         string
	alone, moves []time.Duration
}

func (c *contest) add(alone, beside time.Duration) {
	c.alone, c.moves = append(c.alone, alone), append(c.moves, beside-alone)
}

func (c *contest) figure() figure.Figure {
	var moves []float64
	for _, d := range c.moves {
		moves = append(moves, figure.Millis(d))
	}
	alone, moved := figure.Quantile(0.5, c.alone), figure.Quantile(0.5, c.moves)
	most := max(alone/fairShare, fairTime)
	return figure.Figure{
		Name: c.name, Value: figure.Millis(moved), Unit: "ms", Goal: fmt.Sprintf("<= %g beside ten times a quota", figure.Millis(most)), OK: moved <= most,
		Details: map[string]any{"p99_alone_ms": figure.Millis(alone), "moves_ms": moves},
	}
}

// victim is a tenant within its quota: users who talk, each to one who listens.
type victim struct {
	talkers          []*client
	acked, delivered recorder
}

func (h *host) joinVictim(ctx context.Context, u *ua, talkers int) (*victim, error) {
	v := &victim{}
	var err error
	if v.talkers, err = h.enterFor(ctx, u, talkers, timing(answers, &v.acked)); err == nil {
		_, err = h.enterFor(ctx, u, talkers, timing(isMessage, &v.delivered))
	}
	return v, err
}

// enterFor is enterAll of clients that are read until the host is closed.
func (h *host) enterFor(ctx context.Context, u *ua, n int, each func(*client, op) error) ([]*client, error) {
	clients, err := enterAll(ctx, u, n)
	if err != nil {
		leaveAll(clients)
		return nil, err
	}
	h.readUntilClosed(clients, each)
	return clients, nil
}

// run has the talkers talk, and returns the p99 of both.
func (v *victim) run(ctx context.Context, length time.Duration) (ack, delivery time.Duration, err error) {
	if err := pace(ctx, v.talkers, settled, length, &v.acked, &v.delivered); err != nil {
		return 0, 0, err
	}
	acked, delivered := v.acked.take(), v.delivered.take()
	if len(acked) == 0 || len(delivered) == 0 {
		return 0, 0, fmt.Errorf("%d acknowledgements and %d messages came", len(acked), len(delivered))
	}
	return figure.Quantile(0.99, acked), figure.Quantile(0.99, delivered), nil
}
