package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/controlplane"
)

// drainRate is how many clients a second the drains of the bench tell to move.
const drainRate = 200

// drains makes all clients of 2.0, as many as the bench has in all, and then those of 1.0 reconnect.
func (b *deploys) drains(ctx context.Context) ([]figure.Figure, error) {
	if err := b.phones.join(b.newcomers("2.0", b.clients-b.clients/2)); err != nil {
		return nil, err
	}
	if err := b.awaitStill(ctx); err != nil {
		return nil, err
	}
	before, err := b.count(0)
	if err != nil {
		return nil, err
	}
	most := 0
	for _, version := range []string{"2.0", "1.0"} {
		told, err := b.drain(ctx, version)
		if err != nil {
			return nil, err
		}
		most = max(most, inOneSecond(told))
	}
	after, err := b.count(0)
	framed, bare := after.Framed-before.Framed, after.Bare-before.Bare
	return []figure.Figure{
		measured(fmt.Sprintf("drain at %d/s: most told in one second", drainRate), float64(most), "").AtMost(1.1 * drainRate),
		measured("drain: connections that ended with a close frame", 100*float64(framed)/float64(max(1, framed+bare)), "%").AtLeast(99.9),
		measured("drain: messages lost by clients of 2.0", float64(after.Lost-before.Lost), "").AtMost(0),
	}, err
}

// awaitStill waits until nobody is told to leave any more.
func (b *deploys) awaitStill(ctx context.Context) error {
	for {
		drains, err := b.control.Drains(ctx, "")
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(drains, func(d controlplane.Drain) bool { return d.Left > 0 }) {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("drains go on: %+v", drains)
		}
	}
}

// drain has all clients of a version reconnect, and tells when each of them was told.
func (b *deploys) drain(ctx context.Context, version string) (told []time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	set, err := b.servingSet(ctx, version)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := b.control.Drain(ctx, controlplane.DrainRequest{Target: set, Rate: drainRate, Message: "bench"}); err != nil {
		return nil, err
	}
	near, err := slices.Concat(b.everyone(), b.drifters).told(ctx, version, began)
	if err != nil {
		return nil, err
	}
	far, err := b.phones.told(version, began)
	return append(near, far...), err
}

func (b *deploys) servingSet(ctx context.Context, version string) (id string, err error) {
	status, err := b.control.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range status.Versions {
		for _, s := range v.Sets {
			if v.Name == version && s.State == controlplane.SetServing {
				return s.ID, nil
			}
		}
	}
	return "", fmt.Errorf("no set of %s serves", version)
}

// inOneSecond is the most that lie within any second.
func inOneSecond(times []time.Time) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for last, at := range times {
		for at.Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
