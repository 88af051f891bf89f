package main

import (
	"context"
	"fmt"
	"net/rpc"
	"os"
	"time"

	"github.com/kmsctl/kms/cmd/internal/role"
)

// phonesEnv makes this program the bench's many clients.
const phonesEnv = "KMS_SMOKE_PHONES"

// Phones are the many clients of the bench, in a process of their own: in the bench's, what it measures would wait for their turns.
type Phones struct {
	ctx     context.Context
	clients crowd
}

// Newcomers are so many connections of one user.
type Newcomers struct {
	Count                                       int
	Base, Version, Tenant, User, Channel, Token string
}

// Join opens connections, a few hundred a second, and returns when all are open.
func (p *Phones) Join(n Newcomers, _ *bool) error {
	at := newFront(n.Base, nil)
	for range n.Count {
		u := user{at, n.Version, n.Tenant, n.User, n.Channel, n.Token}
		if n.Version == "1.0" {
			p.clients = append(p.clients, light(newSimple(u)))
		} else {
			p.clients = append(p.clients, light(newResuming(u)))
		}
		pause(p.ctx, 2*time.Millisecond)
	}
	return p.clients.awaitOpen(p.ctx)
}

// Drained asks who was told to leave a version since then.
type Drained struct {
	Version string
	Since   time.Time
}

// Told is crowd.told, for a minute at most.
func (p *Phones) Told(d Drained, times *[]time.Time) (err error) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	*times, err = p.clients.told(ctx, d.Version, d.Since)
	return err
}

// Count tallies when the clients of 2.0 have come to a message, or 15 seconds later.
func (p *Phones) Count(last int64, t *Tally) error {
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	behind := p.clients.behind(ctx, last)
	*t = p.clients.count()
	t.Behind = behind
	return nil
}

// bePhones is the life of that process.
func bePhones() int {
	p := &Phones{ctx: context.Background()}
	defer p.clients.close()
	if err := role.Serve(p); err != nil {
		fmt.Fprintln(os.Stderr, "kms-smoke: error:", err)
		return 1
	}
	return 0
}

// farCrowd are the phones as the bench sees them.
type farCrowd struct {
	process *role.Process
	client  *rpc.Client
}

// startPhones starts the process; polite, it takes what CPU time the others leave.
func startPhones(ctx context.Context, polite bool) (*farCrowd, error) {
	start := role.Start
	if polite {
		start = role.StartPolite
	}
	process, err := start(ctx, phonesEnv+"=1")
	if err != nil {
		return nil, err
	}
	return &farCrowd{process, process.Client()}, nil
}

func (f *farCrowd) join(n Newcomers) error { return f.client.Call("Phones.Join", n, new(bool)) }

func (f *farCrowd) told(version string, since time.Time) (times []time.Time, err error) {
	err = f.client.Call("Phones.Told", Drained{version, since}, &times)
	return times, err
}

func (f *farCrowd) count(last int64) (t Tally, err error) {
	err = f.client.Call("Phones.Count", last, &t)
	return t, err
}

func (f *farCrowd) stop() error { return f.process.End() }
