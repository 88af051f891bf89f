package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/cmd/internal/role"
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

// noiseEnv makes this program a Noise.
const noiseEnv = "KMS_BENCH_LOG_NOISE"

// Noise is a tenant that sends ten times its quota, in a process of its own: what its clients cost is no fault of KMS.
type Noise struct {
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

// Loudness is how many quotas were sent, and how many of them were taken.
type Loudness struct {
	Sent  float64 `json:"quotas_sent"`
	Taken float64 `json:"quotas_taken"`
}

func (s *sent) loudness(lasted time.Duration) Loudness {
	quotas := func(count *atomic.Int64) float64 {
		return figure.Round(float64(count.Load()) / lasted.Seconds() / noisyQuota)
	}
	return Loudness{quotas(&s.answered), quotas(&s.taken)}
}

// Heard is the loudness of all runs, by way.
type Heard struct {
	WebSocket Loudness `json:"websocket"`
	Post      Loudness `json:"post"`
}

// Sockets are those of the UA and the API process.
type Sockets struct{ UA, API string }

// beNoise is the life of that process.
func beNoise(stderr io.Writer) int {
	n := &Noise{}
	defer func() { leaveAll(n.clients) }()
	if err := role.Serve(n); err != nil {
		fmt.Fprintln(stderr, "kms-bench-log: error:", err)
		return 1
	}
	return 0
}

// Join logs the noisy users in.
func (n *Noise) Join(at Sockets, _ *bool) error {
	n.api = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: noisyPosts,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", at.API)
		},
	}}
	as := &ua{socket: at.UA, tenant: noisy}
	for i := range noisyUsers {
		c, err := as.enter(context.Background(), noisyFirst+i, "hall")
		if err != nil {
			return err
		}
		n.clients = append(n.clients, c)
	}
	readAll(n.clients, func(_ *client, o op) error {
		if name := string(o.name); name == "ack" || name == "nack" {
			n.sends.count(name == "ack")
		}
		return nil
	})
	return nil
}

// Run sends for a while after it has begun to, and tells how loud it all was so far.
func (n *Noise) Run(length time.Duration, heard *Heard) error {
	start := time.Now()
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return pace(ctx, n.clients, settled, length) })
	g.Go(func() error { return n.post(ctx, length) })
	err := g.Wait()
	n.lasted += time.Since(start)
	*heard = Heard{n.sends.loudness(n.lasted), n.posts.loudness(n.lasted)}
	return err
}

func (n *Noise) post(ctx context.Context, length time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(noisyPosts)
	err := evenly(ctx, settled+length, func(int) error {
		g.Go(n.postOne)
		return nil
	})
	return errors.Join(g.Wait(), err)
}

func (n *Noise) postOne() error {
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
func (h Heard) judge(f figure.Figure) figure.Figure {
	f.Details["noise"] = h
	if min(h.WebSocket.Sent, h.Post.Sent) < 9 {
		f.OK, f.Problem = false, "the noise was too low"
	}
	return f
}

// startNoise makes the noisy tenant, and a process that is it.
func (h *host) startNoise(ctx context.Context, u, api *ua) (*rpc.Client, error) {
	if err := h.addNoisy(ctx); err != nil {
		return nil, err
	}
	process, err := role.StartPolite(ctx, noiseEnv+"=1")
	if err != nil {
		return nil, err
	}
	h.later(process.End)
	n := process.Client()
	return n, n.Call("Noise.Join", Sockets{u.socket, api.socket}, new(bool))
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
