package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// chatter keeps users talking until it is stopped, each at ten messages a second: half of what a user may.
type chatter struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func startChatter(users ...client) *chatter { return chatEvery(100*time.Millisecond, users...) }

// chatEvery is startChatter at a pace of its own.
func chatEvery(every time.Duration, users ...client) *chatter {
	ctx, cancel := context.WithCancel(context.Background())
	c := &chatter{cancel: cancel}
	for i, u := range users {
		c.work.Go(func() {
			for n := 0; pause(ctx, every); n++ {
				u.say(fmt.Sprintf("おしゃべり %d-%d", i, n))
			}
		})
	}
	return c
}

// stop may be called twice.
func (c *chatter) stop() {
	c.cancel()
	c.work.Wait()
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// calls are a game server's steady API calls.
type calls struct {
	cancel   context.CancelFunc
	work     sync.WaitGroup
	receipts []receipt
	wrong    int
	last     error
}

func startCalls(g *gameServer, channel string) *calls {
	return callEvery(50*time.Millisecond, g, channel)
}

// callEvery is startCalls at a pace of its own.
func callEvery(every time.Duration, g *gameServer, channel string) *calls {
	ctx, cancel := context.WithCancel(context.Background())
	c := &calls{cancel: cancel}
	c.work.Go(func() {
		for pause(ctx, every) {
			// Not under ctx: a call that has begun is seen to its end.
			r, err := g.post(context.WithoutCancel(ctx), channel, fmt.Sprintf("お知らせ %d", len(c.receipts)))
			if err != nil {
				c.wrong++
				c.last = err
				continue
			}
			c.receipts = append(c.receipts, r)
		}
	})
	return c
}

// stop returns what was posted, how many calls were refused, and the last refusal. It may be called twice.
func (c *calls) stop() (posted []receipt, wrong int, last error) {
	c.cancel()
	c.work.Wait()
	return c.receipts, c.wrong, c.last
}
