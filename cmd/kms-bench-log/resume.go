package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

const (
	said       = 400 // messages of the hall
	missed     = 200 // of them, at least, by everybody who resumes
	resumeGoal = time.Second
	readsGoal  = 2
)

// resume has a crowd, each at its own place, resume one channel at once on a process that knows nothing of it yet.
func (b *bench) resume(ctx context.Context) error {
	h, err := newHost(ctx, b.builds, "sqlite", b.crowd, 0)
	if err != nil {
		return err
	}
	return errors.Join(b.resumeOn(ctx, h), h.close())
}

func (b *bench) resumeOn(ctx context.Context, h *host) error {
	servers, err := h.startIRC(1, nil)
	if err != nil {
		return err
	}
	before, err := h.startUA(ctx, servers[0])
	if err != nil {
		return err
	}
	epoch, err := fillHall(ctx, before)
	if err != nil {
		return err
	}
	if err := before.stop(); err != nil {
		return err
	}
	u, err := h.startUA(ctx, servers[0])
	if err != nil {
		return err
	}
	clients, err := b.gather(ctx, u)
	defer leaveAll(clients)
	if err != nil {
		return err
	}
	reads := u.value(ctx, "log_reads_total")
	times, err := resumeAll(clients, epoch)
	if err != nil {
		return err
	}
	reads = u.value(ctx, "log_reads_total") - reads
	p99 := figure.Quantile(0.99, times)
	return errors.Join(
		b.figures.Tell(figure.Figure{Name: "resume_log_reads", Value: reads, Unit: "reads", Goal: "<= 2", OK: reads <= readsGoal, Details: map[string]any{"clients": len(clients)}}),
		b.figures.Tell(figure.Figure{Name: "resume_p99", Value: figure.Millis(p99), Unit: "ms", Goal: "<= 1000", OK: p99 <= resumeGoal,
			Details: map[string]any{"clients": len(clients), "p50_ms": figure.Millis(figure.Quantile(0.5, times)), "messages_each_at_least": missed}}),
	)
}

// fillHall says what will be missed and returns the channel's epoch.
func fillHall(ctx context.Context, u *ua) (epoch string, err error) {
	c, err := u.enter(ctx, 0, "hall")
	if err != nil {
		return "", err
	}
	defer c.ws.Close()
	for acked := 0; acked < said; {
		if err := c.send(window / 2); err != nil {
			return "", err
		}
		for range window / 2 {
			text, err := c.await("ack")
			if err != nil {
				return "", err
			}
			epoch = string(field(text, `"epoch":"`))
			acked++
		}
	}
	return epoch, nil
}

// gather logs the crowd in.
func (b *bench) gather(ctx context.Context, u *ua) ([]*client, error) {
	clients := make([]*client, b.crowd)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range clients {
		g.Go(func() error {
			c, err := u.dial(ctx, i)
			if err != nil {
				return err
			}
			clients[i] = c
			if err := c.write(`[{"op":"hello","token":"` + tokenOf(i) + `"}]`); err != nil {
				return err
			}
			_, err = c.await("welcome")
			return err
		})
	}
	return clients, g.Wait()
}

// resumeAll has everybody resume at the same moment and returns how long each waited for the newest message.
func resumeAll(clients []*client, epoch string) ([]time.Duration, error) {
	times := make([]time.Duration, len(clients))
	begin := make(chan struct{})
	var start atomic.Pointer[time.Time]
	var g errgroup.Group
	for i, c := range clients {
		g.Go(func() error {
			<-begin
			from := int64(i % (said - missed))
			err := c.write(`[{"op":"sub","ch":"hall","resume":{"epoch":"` + epoch + `","seq":` + strconv.FormatInt(from, 10) + `}}]`)
			if err != nil {
				return err
			}
			err = c.follow(from)
			times[i] = time.Since(*start.Load())
			return err
		})
	}
	now := time.Now()
	start.Store(&now)
	close(begin)
	return times, g.Wait()
}

// follow reads everything after a position and holds it to have no hole.
func (c *client) follow(at int64) error {
	_ = c.ws.SetReadDeadline(time.Now().Add(60 * time.Second))
	for at < said {
		err := c.read(func(o op) error {
			if string(o.name) != "msg" {
				return unlessRefused(o)
			}
			if at++; o.seq != at {
				return fmt.Errorf("message %d came in the place of %d", o.seq, at)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
