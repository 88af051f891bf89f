package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	noisy      = "noisy"
	noisyKey   = "bench-key-of-the-noisy-game"
	noisyQuota = steady / 10 // messages a second, and API requests
	noisyUsers = 20          // all in one channel
	noisyFirst = 1_000_000   // the number of the first: a token is one user's
	noisyPosts = 8           // that are under way at a time
)

// noise is a tenant that sends ten times its quota.
type noise struct {
	clients      []*client
	api          http.Client
	sends, posts sent
	lasted       time.Duration
}

// sent is how many messages were answered, and how many of them were taken.
type sent struct{ answered, taken atomic.Int64 }

func (s *sent) count(taken bool) {
	s.answered.Add(1)
	if taken {
		s.taken.Add(1)
	}
}

func (h *host) joinNoise(ctx context.Context, u, api *ua) (*noise, error) {
	if err := h.addNoisy(ctx); err != nil {
		return nil, err
	}
	n := &noise{api: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: noisyPosts,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", api.socket)
		},
	}}}
	as := &ua{socket: u.socket, tenant: noisy}
	for i := range noisyUsers {
		c, err := as.enter(ctx, noisyFirst+i, "hall")
		if err != nil {
			leaveAll(n.clients)
			return nil, err
		}
		n.clients = append(n.clients, c)
	}
	h.readUntilClosed(n.clients, func(_ *client, o op) error {
		if name := string(o.name); name == "ack" || name == "nack" {
			n.sends.count(name == "ack")
		}
		return nil
	})
	return n, nil
}

func (h *host) addNoisy(ctx context.Context) error {
	st, err := store.Open(ctx, h.url, store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	quotas := map[string]int{"messages_per_second": noisyQuota, "api_requests_per_second": noisyQuota}
	if err := addTenant(ctx, st, noisy, quotas, noisyFirst, noisyUsers, "hall"); err != nil {
		return err
	}
	_, err = st.CreateKey(ctx, noisy, "", auth.Hash(noisyKey))
	return err
}

// run sends as long as pace does.
func (n *noise) run(ctx context.Context, length time.Duration) error {
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pace(ctx, n.clients, settled, length) })
	g.Go(func() error { return n.post(ctx, length) })
	err := g.Wait()
	n.lasted += time.Since(start)
	return err
}

func (n *noise) post(ctx context.Context, length time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(noisyPosts)
	err := evenly(ctx, settled+length, func(int) error {
		g.Go(n.postOne)
		return nil
	})
	return errors.Join(g.Wait(), err)
}

func (n *noise) postOne() error {
	r, err := http.NewRequest(http.MethodPost, "http://kms/api/2.0/"+noisy+"/channels/hall/messages", strings.NewReader(`{"text":"`+text+`"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+noisyKey)
	answer, err := n.api.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	switch answer.StatusCode {
	case http.StatusCreated, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		n.posts.count(answer.StatusCode == http.StatusCreated)
		return nil
	}
	return fmt.Errorf("the noisy tenant's POST was answered %s: %s", answer.Status, said)
}

// judge adds how loud the noise was. A figure with too little of it shows nothing.
func (n *noise) judge(f figure.Figure) figure.Figure {
	for name, s := range map[string]*sent{"websocket": &n.sends, "post": &n.posts} {
		quotas := func(count *atomic.Int64) float64 {
			return figure.Round(float64(count.Load()) / n.lasted.Seconds() / noisyQuota)
		}
		f.Details[name] = map[string]float64{"quotas_sent": quotas(&s.answered), "quotas_taken": quotas(&s.taken)}
		if quotas(&s.answered) < 9 {
			f.OK, f.Problem = false, "the noise was too low"
		}
	}
	return f
}
