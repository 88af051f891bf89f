package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	idleClients = 8000
	idleGuilds  = idleClients / guildMembers
	idleKiB     = 12.0
	idleRest    = 10 * time.Second // for the collector, before memory is looked at
)

// idle is what a connection costs that is logged in and joined and says nothing, and what is left of it when it has gone.
func (b *bench) idle(ctx context.Context) error {
	families := []channels{{"g", idleGuilds, store.KindGuild, store.HistoryLog}}
	return b.inKMS(ctx, idleClients, families, func(k *kms) error {
		s := k.direct("g")
		if err := b.idleOwn(ctx, k, s); err != nil {
			return err
		}
		return b.growth(ctx, k, s)
	})
}

func (b *bench) idleOwn(ctx context.Context, k *kms, s *server) error {
	before, err := k.goroutines(ctx)
	if err != nil {
		return err
	}
	after := 0
	size, err := b.idleSize(ctx, s, func() error {
		if after, err = k.goroutines(ctx); err != nil || b.profiles == "" {
			return err
		}
		return k.profile(ctx, "heap", 0, filepath.Join(b.profiles, "idle.heap.pprof"))
	})
	if err != nil {
		return err
	}
	peers, err := b.idlePeers(ctx)
	if err != nil {
		return err
	}
	err = b.figures.Tell(figure.Figure{Name: "idle.pss", Value: size, Unit: "KiB/connection", Goal: fmt.Sprintf("<= %.0f", idleKiB), OK: size <= idleKiB,
		Peers: peers, Details: map[string]any{"connections": idleClients}})
	if err != nil {
		return err
	}
	each := float64(after-before) / idleClients
	return b.figures.Tell(figure.Figure{Name: "idle.goroutines", Value: each, Unit: "goroutines/connection", Goal: "<= 1", OK: each <= 1.001})
}

// idleSize connects everybody and returns the growth of the server's memory by each, in KiB. look is called when all are there.
func (b *bench) idleSize(ctx context.Context, s *server, look func() error) (float64, error) {
	before, err := pssOf(s.pids)
	if err != nil {
		return 0, err
	}
	c, err := newCrowd(s.wire, s.network, s.address, idleGuilds, idleClients)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.join(ctx, 0, idleClients); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	time.Sleep(idleRest)
	after, err := pssOf(s.pids)
	if err == nil {
		err = errors.Join(look(), c.failure())
	}
	size := float64(after-before) / idleClients / 1024
	b.say("%s: %.2f KiB a connection, %.1f MiB in all", s.name, size, float64(after)/(1<<20))
	return size, err
}

func (b *bench) idlePeers(ctx context.Context) (map[string]float64, error) {
	sizes := map[string]float64{}
	for _, start := range []func(context.Context) (*peer, error){startFloor, startNchan, startTornado} {
		p, err := start(ctx)
		if err != nil {
			return nil, err
		}
		sizes[p.name], err = b.idleSize(ctx, &p.server, func() error { return nil })
		p.close()
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// Of what the connects after the first fifth leave behind: the allocator's own noise is a few MiB.
const (
	growthBytes      = 32.0
	growthGoroutines = 5
)

// growth compares memory and goroutines after a fifth of the connects and leaves with those after all.
func (b *bench) growth(ctx context.Context, k *kms, s *server) error {
	first := b.churn / 5
	var pss [2]int64
	var goroutines [2]int
	began := time.Now()
	for i, n := range []int{first, b.churn - first} {
		if err := churn(ctx, s, n); err != nil {
			return err
		}
		time.Sleep(idleRest)
		var err error
		if pss[i], err = pssOf(s.pids); err != nil {
			return err
		}
		if goroutines[i], err = k.goroutines(ctx); err != nil {
			return err
		}
	}
	growth := float64(pss[1]-pss[0]) / float64(b.churn-first)
	return b.figures.Tell(figure.Figure{Name: "idle.growth", Value: growth, Unit: "bytes/connect", Goal: fmt.Sprintf("<= %.0f", growthBytes),
		OK: growth <= growthBytes && goroutines[1]-goroutines[0] <= growthGoroutines,
		Details: map[string]any{"connects": b.churn, "seconds": math.Round(time.Since(began).Seconds()),
			"pss_mib": []float64{figure.Round(float64(pss[0]) / (1 << 20)), figure.Round(float64(pss[1]) / (1 << 20))}, "goroutines": goroutines}})
}

// churn has n clients log in, join and leave, every other one without a word.
func churn(ctx context.Context, s *server, n int) error {
	var next atomic.Int64
	var g errgroup.Group
	for range connecting {
		g.Go(func() error {
			for i := int(next.Add(1)); i <= n && ctx.Err() == nil; i = int(next.Add(1)) {
				if err := visit(s, i%idleClients, i%2 == 0); err != nil {
					return fmt.Errorf("visit %d: %w", i, err)
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// visit is one client's life, on a blocking socket.
func visit(s *server, user int, goodbye bool) error {
	c := crowd{wire: s.wire, network: s.network, address: s.address}
	fd, _, err := c.handshake(user % idleGuilds)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetNonblock(fd, false); err != nil {
		return err
	}
	if err := writeAll(fd, s.wire.hello(user, user%idleGuilds)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for in := false; !in; {
		n, err := readSome(fd, buf)
		if err != nil {
			return err
		}
		if in, err = s.wire.welcomed(buf[:n]); err != nil {
			return err
		}
	}
	if !goodbye {
		return nil
	}
	if err := writeAll(fd, appendMasked(nil, opClose, []byte{3, 232})); err != nil {
		return err
	}
	for {
		if _, err := readSome(fd, buf); err != nil {
			return nil // it has closed
		}
	}
}

var errEnded = errors.New("the server closed the connection")

func readSome(fd int, buf []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil && n == 0:
			err = errEnded
		}
		return n, err
	}
}
