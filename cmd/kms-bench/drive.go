package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pace is how a crowd talks.
type pace struct {
	rate     float64       // messages a second, over all channels
	length   time.Duration // of what is measured; a warm-up comes before
	warm     time.Duration
	speakers int    // of each channel, 0: all of its clients in turn
	warmed   func() // called when what is measured begins, nil for nothing
}

// server is what a crowd talks to.
type server struct {
	name             string
	wire             wire
	network, address string
	peer             bool             // may fail, without the figures of KMS being lost
	pids             []int            // whose CPU is the server's
	others           map[string][]int // whose CPU is told beside it
	slow             float64          // the share of the rate that it is asked for, 0 for all: a peer that cannot keep up measures nothing
}

// result is what one run, or several of the same, measured.
type result struct {
	sent       int
	seconds    float64
	deliveries int64
	lost       int64
	doubled    int64
	refused    int64
	cpu        time.Duration
	load       time.Duration
	others     map[string]time.Duration
	latency    latencies
	failed     error // of a peer: there is no result
}

// per is CPU time in microseconds a delivery.
func (r *result) per(cpu time.Duration) float64 {
	if r.deliveries == 0 {
		return 0
	}
	return float64(cpu) / float64(time.Microsecond) / float64(r.deliveries)
}

func (r *result) add(other *result) {
	r.sent += other.sent
	r.seconds += other.seconds
	r.deliveries += other.deliveries
	r.lost += other.lost
	r.doubled += other.doubled
	r.refused += other.refused
	r.cpu += other.cpu
	r.load += other.load
	r.latency.merge(&other.latency)
	r.failed = errors.Join(r.failed, other.failed)
	if r.others == nil {
		r.others = map[string]time.Duration{}
	}
	for name, cpu := range other.others {
		r.others[name] += cpu
	}
}

// whole reports whether every delivery came, once.
func (r *result) whole() bool {
	return r.deliveries > 0 && r.lost == 0 && r.doubled == 0 && r.refused == 0
}

// measure has a new crowd talk to a server.
func measure(ctx context.Context, s *server, channels, members int, p pace) (*result, error) {
	c, err := newCrowd(s.wire, s.network, s.address, channels, channels*members)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.join(ctx, 0, channels*members); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	time.Sleep(settle)
	r, err := c.drive(ctx, s, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return r, nil
}

// settle is a moment for what a server does behind a handshake.
const settle = 500 * time.Millisecond

// drive talks, first to warm up, then to be measured: from a quiet moment to a quiet moment, so that all CPU belongs to deliveries
// that were counted.
func (c *crowd) drive(ctx context.Context, s *server, p pace) (*result, error) {
	if s.slow > 0 {
		p.rate *= s.slow
	}
	if _, err := c.talk(ctx, p, p.warm); err != nil {
		return nil, err
	}
	if p.warmed != nil {
		p.warmed()
	}
	before, err := readUsage(s)
	if err != nil {
		return nil, err
	}
	received := c.received.Load()
	r := &result{}
	c.latency.Store(&r.latency)
	began := time.Now()
	if r.sent, err = c.talk(ctx, p, p.length); err != nil {
		return nil, err
	}
	r.seconds = time.Since(began).Seconds()
	after, err := readUsage(s)
	if err != nil {
		return nil, err
	}
	after.since(before, r)
	r.deliveries = c.received.Load() - received
	r.lost, r.doubled, r.refused = c.missing(), c.doubled.Load(), c.refused.Load()
	return r, nil
}

// usage is the CPU time of everybody concerned.
type usage struct {
	server, load time.Duration
	others       map[string]time.Duration
}

func readUsage(s *server) (*usage, error) {
	u := &usage{load: ownCPU(), others: map[string]time.Duration{}}
	var err error
	if u.server, err = cpuOf(s.pids); err != nil {
		return nil, err
	}
	for name, pids := range s.others {
		if u.others[name], err = cpuOf(pids); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func (u *usage) since(before *usage, r *result) {
	r.cpu, r.load, r.others = u.server-before.server, u.load-before.load, map[string]time.Duration{}
	for name, cpu := range u.others {
		r.others[name] = cpu - before.others[name]
	}
}

// talk sends at a pace and waits until everything has come, or nothing more comes.
func (c *crowd) talk(ctx context.Context, p pace, length time.Duration) (sent int, err error) {
	if sent, err = c.chatter(ctx, p, length); err != nil {
		return sent, err
	}
	return sent, c.awaitAll()
}

// chatter sends at a pace.
func (c *crowd) chatter(ctx context.Context, p pace, length time.Duration) (sent int, err error) {
	every := time.Duration(float64(time.Second) / p.rate)
	began := time.Now()
	for due := began; due.Before(began.Add(length)); due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if err := c.say(sent%c.channels, p.speakers); err != nil {
			return sent, err
		}
		sent++
		if ctx.Err() != nil {
			return sent, ctx.Err()
		}
	}
	return sent, nil
}

// say has the next client of a channel send a message.
func (c *crowd) say(channel, speakers int) error {
	number := int(c.sent[channel].Load())
	members := len(c.clients) / c.channels
	if speakers == 0 {
		speakers = members
	}
	cl := c.clients[number%speakers*c.channels+channel]
	text := appendStamped(make([]byte, 0, textSize), number, c.clock())
	frame := c.wire.appendSay(make([]byte, 0, 512), channel, text)
	c.sent[channel].Add(1)
	return writeAll(cl.fd, frame)
}

// patience is how long nothing may come before what is missing counts as lost.
const patience = 5 * time.Second

func (c *crowd) awaitAll() error {
	last, at := int64(-1), time.Now()
	for {
		if err := c.failure(); err != nil {
			return err
		}
		received := c.received.Load()
		if received >= c.expected() || time.Since(at) > patience {
			return nil
		}
		if received != last {
			last, at = received, time.Now()
		}
		time.Sleep(time.Millisecond)
	}
}

// expected is how many deliveries have to come in all.
func (c *crowd) expected() (n int64) {
	for _, cl := range c.clients {
		if cl != nil && cl.ready {
			n += c.sent[cl.channel].Load() - int64(cl.from)
		}
	}
	return n
}

func (c *crowd) missing() int64 { return c.expected() - c.received.Load() }
