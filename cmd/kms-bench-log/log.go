package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	window   = 64 // unanswered messages of one: as many as a connection may have
	refill   = 8  // answers that are waited for before more is sent
	steady   = 1000
	warmTime = 2 * time.Second
	ackGoal  = 20 * time.Millisecond
)

// log measures acknowledged messages a second, and how soon they are acknowledged at a steady rate.
func (b *bench) log(ctx context.Context, kind string, goal float64) error {
	h, err := newHost(ctx, b.builds, kind, b.senders, b.senders)
	if err != nil {
		return err
	}
	err = b.logOn(ctx, h, kind, goal)
	return errors.Join(err, h.close())
}

func (b *bench) logOn(ctx context.Context, h *host, kind string, goal float64) error {
	servers, err := h.startIRC(1, nil)
	if err != nil {
		return err
	}
	u, err := h.startUA(ctx, servers[0])
	if err != nil {
		return err
	}
	clients, err := enterAll(ctx, u, b.senders)
	if err != nil {
		return err
	}
	defer leaveAll(clients)
	p99, median, err := b.steadily(ctx, clients)
	if err != nil {
		return err
	}
	err = b.figures.Tell(figure.Figure{
		Name: "ack_p99_" + kind, Value: figure.Millis(p99), Unit: "ms", Goal: "<= 20 at 1000/s", OK: p99 <= ackGoal,
		Details: map[string]any{"p50_ms": figure.Millis(median)},
	})
	if err != nil {
		return err
	}
	return b.flatOut(ctx, u, clients, kind, goal)
}

// enterAll connects users 0 to n-1, each to its own channel.
func enterAll(ctx context.Context, u *ua, n int) ([]*client, error) {
	clients := make([]*client, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range clients {
		g.Go(func() (err error) {
			clients[i], err = u.enter(ctx, i, channelName(i))
			return err
		})
	}
	return clients, g.Wait()
}

func leaveAll(clients []*client) {
	for _, c := range clients {
		if c != nil {
			c.ws.Close()
		}
	}
}

// recorder gathers times from many goroutines while it is on.
type recorder struct {
	on    atomic.Bool
	mu    sync.Mutex
	times []time.Duration
}

func (r *recorder) add(d time.Duration) {
	if r.on.Load() {
		r.mu.Lock()
		r.times = append(r.times, d)
		r.mu.Unlock()
	}
}

// take returns what was gathered and begins anew.
func (r *recorder) take() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := r.times
	r.times = nil
	return times
}

// steadily sends 1,000 messages a second, evenly spread over the clients, and returns how soon they were acknowledged.
func (b *bench) steadily(ctx context.Context, clients []*client) (p99, p50 time.Duration, err error) {
	var got recorder
	reading, stop := readAll(clients, timing(answers, &got))
	err = pace(ctx, clients, warmTime, b.length, &got)
	stop()
	err = errors.Join(err, reading())
	return figure.Quantile(0.99, got.times), figure.Quantile(0.5, got.times), err
}

// timing records how long the operations that are meant took to come.
func timing(meant func(op) bool, r *recorder) func(*client, op) error {
	return func(_ *client, o op) error {
		if !meant(o) {
			return unlessRefused(o)
		}
		d, err := age(o.id)
		r.add(d)
		return err
	}
}

func isMessage(o op) bool { return string(o.name) == "msg" }

// answers reports whether an operation ends the waiting for a message: acknowledged, or too late to be committed and to be sent again,
// which was waited for as long.
func answers(o op) bool {
	return string(o.name) == "ack" || string(o.name) == "nack" && bytes.Contains(o.whole, []byte(`"retry":true`)) && len(o.id) > 0
}

func unlessRefused(o op) error {
	if string(o.name) == "nack" && !answers(o) {
		return fmt.Errorf("refused: %s", o.whole)
	}
	return nil
}

// readAll reads all clients until stop. wait returns the first error that was not stop's doing.
func readAll(clients []*client, each func(*client, op) error) (wait func() error, stop func()) {
	var g errgroup.Group
	var stopped atomic.Bool
	for _, c := range clients {
		g.Go(func() error {
			for !stopped.Load() {
				err := c.read(func(o op) error { return each(c, o) })
				if err != nil && !stopped.Load() {
					return err
				}
				if err != nil {
					return nil
				}
			}
			return nil
		})
	}
	return g.Wait, func() {
		stopped.Store(true)
		for _, c := range clients { // a pong ends the last read without breaking the connection
			_ = c.write(`[{"op":"ping"}]`)
		}
	}
}

// readUntilClosed is readAll of clients that stay until the host is closed.
func (h *host) readUntilClosed(clients []*client, each func(*client, op) error) {
	wait, stop := readAll(clients, each)
	h.later(func() error {
		stop()
		defer leaveAll(clients)
		return wait()
	})
}

// pace has the clients send in turn, 1,000 messages a second in all, and switches the recorders on for length when it is warm.
func pace(ctx context.Context, clients []*client, warm, length time.Duration, recorders ...*recorder) error {
	record := func(on bool) {
		for _, r := range recorders {
			r.on.Store(on)
		}
	}
	defer record(false)
	return evenly(ctx, warm+length, func(i int) error {
		if i == int(warm*steady/time.Second) {
			record(true)
		}
		return clients[i%len(clients)].send(1)
	})
}

// evenly calls f 1,000 times a second, and counts the calls for it. What comes late is made up for.
func evenly(ctx context.Context, length time.Duration, f func(i int) error) error {
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * time.Second / steady)
		time.Sleep(time.Until(due))
		if due.Sub(start) >= length || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f(i); err != nil {
			return err
		}
	}
}

// flatOut keeps every client's window full.
func (b *bench) flatOut(ctx context.Context, u *ua, clients []*client, kind string, goal float64) error {
	var acked, refused atomic.Int64
	answered := make(map[*client]*int, len(clients))
	for _, c := range clients {
		answered[c] = new(int)
		if err := c.send(window); err != nil {
			return err
		}
	}
	var over atomic.Bool
	reading, stop := readAll(clients, func(c *client, o op) error {
		if !answers(o) {
			return unlessRefused(o)
		}
		if string(o.name) == "ack" {
			acked.Add(1)
		} else {
			refused.Add(1)
		}
		n := answered[c]
		if *n++; *n < refill || over.Load() {
			return nil
		}
		*n = 0
		return c.send(refill)
	})
	sleep(ctx, warmTime)
	profiled := b.profile(ctx, u, kind)
	from, cpu, start := acked.Load(), u.value(ctx, "cpu_seconds_total"), time.Now()
	sleep(ctx, b.length)
	n, cpu, took := float64(acked.Load()-from), u.value(ctx, "cpu_seconds_total")-cpu, time.Since(start)
	over.Store(true)
	sleep(ctx, time.Second) // the last answers
	stop()
	if err := errors.Join(ctx.Err(), reading(), profiled()); err != nil {
		return err
	}
	rate := n / took.Seconds()
	return b.figures.Tell(figure.Figure{
		Name: "acknowledged_" + kind, Value: rate, Unit: "messages/s", Goal: fmt.Sprintf(">= %.0f", goal), OK: rate >= goal,
		Details: map[string]any{"ua_cpu_us_per_message": figure.Round(cpu / n * 1e6), "ua_cores": figure.Round(cpu / took.Seconds()), "refused": refused.Load()},
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// profile records the UA's CPU while something is measured, if that is wanted; wait returns when it is written.
func (b *bench) profile(ctx context.Context, u *ua, name string) (wait func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- u.profile(ctx, b.length, filepath.Join(b.profiles, name+".pprof")) }()
	return func() error { return <-done }
}

func (u *ua) profile(ctx context.Context, length time.Duration, path string) error {
	stream, err := u.process.Client().Profile(ctx, &pb.ProfileRequest{Kind: "cpu", Seconds: int32(length / time.Second)})
	if err != nil {
		return err
	}
	var data []byte
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot record a profile: %v", err)
		}
		data = append(data, chunk.GetData()...)
	}
}
