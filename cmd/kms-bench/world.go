package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/store"
)

const worldMembers = 1000

// worldRates are messages a second in the one channel, with their goals: of the CPU time in floors (0: none) and of p99.
var worldRates = []struct {
	rate   float64
	floors float64
	p99    time.Duration
}{
	{100, 1.5, 30 * time.Millisecond},
	{400, 1.5, 80 * time.Millisecond},
	{800, 0, 150 * time.Millisecond},
}

// world is one channel that everybody is in: what counts is how many writes a message takes.
func (b *bench) world(ctx context.Context) error {
	families := []channels{{"w", 1, store.KindWorld, store.HistoryLog}}
	return b.inKMS(ctx, worldMembers, families, func(k *kms) error {
		peers, closePeers, err := b.startPeers(ctx)
		if err != nil {
			return err
		}
		defer closePeers()
		for i := range worldRates {
			if err := b.worldAt(ctx, k, peers, i); err != nil {
				return err
			}
		}
		return b.worldProxied(ctx, k.proxied("w"), peers["nchan tcp"])
	})
}

func (b *bench) worldAt(ctx context.Context, k *kms, peers map[string]*server, i int) error {
	w := worldRates[i]
	servers := []*server{k.direct("w"), peers["floor"]}
	goal := ""
	if w.floors > 0 {
		servers = append(servers, peers["nchan"])
		goal = fmt.Sprintf("<= %.1f x floor", w.floors)
	}
	name := fmt.Sprintf("world.%.0f", w.rate)
	rs, err := b.recorded(ctx, k, name, 1, worldMembers, w.rate, servers...)
	if err != nil {
		return err
	}
	x := ratio(rs, "kms", "floor")
	if err := b.costs(name+".cpu", goal, rs, "kms", w.floors == 0 || x <= w.floors, map[string]any{"x_floor": figure.Round(x)}); err != nil {
		return err
	}
	return b.delays(name+".p99", w.p99, rs, "kms")
}

const (
	proxiedRate = 400
	proxiedP99  = 250 * time.Millisecond
)

// worldProxied is the same through nginx, whose CPU counts, over TCP, beside Nchan, which is inside its nginx.
func (b *bench) worldProxied(ctx context.Context, s, nchan *server) error {
	rs, err := b.contest(ctx, 1, worldMembers, proxiedRate, s, nchan)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("world.nginx.%d", proxiedRate)
	if err := b.costs(name+".cpu", "", rs, s.name, true, nil); err != nil {
		return err
	}
	return b.delays(name+".p99", proxiedP99, rs, s.name)
}
