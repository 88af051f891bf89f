package main

import (
	"context"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	guilds       = 200
	guildMembers = 25
	guildRate    = 1000.0
	tornadoShare = 0.4 // of the guilds' rate: one process of CPython has no room for more
)

// guild is many small channels that talk at once: each delivery is a write of its own to somebody who was asleep.
func (b *bench) guild(ctx context.Context) error {
	families := []channels{{"n", guilds, store.KindGuild, store.HistoryNone}, {"g", guilds, store.KindGuild, store.HistoryLog}}
	return b.inKMS(ctx, guilds*guildMembers, families, func(k *kms) error {
		peers, closePeers, err := b.startPeers(ctx)
		if err != nil {
			return err
		}
		defer closePeers()
		none, logged := k.direct("n"), k.direct("g")
		none.name, logged.name = "kms none", "kms logged"
		rs, err := b.recorded(ctx, k, "guild", guilds, guildMembers, guildRate, none, peers["floor"], peers["nchan"], peers["tornado"], logged)
		if err != nil {
			return err
		}
		return b.tellGuild(rs)
	})
}

func (b *bench) tellGuild(rs map[string]*result) error {
	none, logged := ratio(rs, "kms none", "floor"), ratio(rs, "kms logged", "floor")
	share := rs["kms logged"].per(rs["kms logged"].cpu) - rs["kms none"].per(rs["kms none"].cpu)
	belowNchan := rs["nchan"].failed == nil && ratio(rs, "kms none", "nchan") < 1
	err := b.costs("guild.none.cpu", "<= 1.6 x floor, < nchan", rs, "kms none", none <= 1.6 && belowNchan,
		map[string]any{"x_floor": figure.Round(none)})
	if err == nil {
		err = b.delays("guild.none.p99", 30e6, rs, "kms none")
	}
	if err == nil {
		err = b.costs("guild.logged.cpu", "<= 2.3 x floor", rs, "kms logged", logged <= 2.3,
			map[string]any{"x_floor": figure.Round(logged), "log_us": figure.Round(share)})
	}
	if err == nil {
		err = b.delays("guild.logged.p99", 30e6, rs, "kms logged")
	}
	return err
}

// startPeers starts the floor, Nchan and tornado; close ends them.
func (b *bench) startPeers(ctx context.Context) (peers map[string]*server, closeAll func(), err error) {
	var started []*peer
	closeAll = func() {
		for _, p := range started {
			p.close()
		}
	}
	peers = map[string]*server{}
	for _, start := range []func(context.Context) (*peer, error){startFloor, startNchan, startTornado} {
		p, err := start(ctx)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		started = append(started, p)
		peers[p.name] = &p.server
		if p.tcp != "" {
			s := p.overTCP()
			peers[s.name] = s
		}
	}
	peers["tornado"].slow = tornadoShare
	return peers, closeAll, nil
}
