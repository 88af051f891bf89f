package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

const (
	// commandEvery is how many warm swaps are timed as a whole command: starting a program costs the others.
	commandEvery = 5
	// driftTenant is pinned to this build and that.
	driftTenant = "drift"
	driftUsers  = 10
)

// addDrifters makes the tenant that pins move about, with users who talk to each other.
func (b *deploys) addDrifters(ctx context.Context) error {
	if _, err := b.must(ctx, nil, "tenant", "add", driftTenant); err != nil {
		return err
	}
	var key struct {
		Secret string `json:"secret"`
	}
	if _, err := b.must(ctx, &key, "key", "add", driftTenant, "--label", "bench"); err != nil {
		return err
	}
	game := &gameServer{front: b.front, version: "2.0", tenant: driftTenant, key: key.Secret}
	if err := game.call(ctx, "PUT", "channels/"+lobby, map[string]any{"kind": "world"}, nil); err != nil {
		return err
	}
	for i := range driftUsers { // users of their own: a canary's share is by user
		id := fmt.Sprintf("drifter-%d", i)
		token, err := game.token(ctx, id, "Drifter")
		if err != nil {
			return err
		}
		b.drifters = append(b.drifters, light(newResuming(user{b.front, "2.0", driftTenant, id, lobby, token})))
	}
	return b.drifters.awaitOpen(ctx)
}

// alternate deploys the other build, then goes back and forth between the two warm sets.
func (b *deploys) alternate(ctx context.Context) (err error) {
	if b.pair[0], err = b.serving(ctx, "2.0"); err != nil {
		return err
	}
	other, err := b.anotherBuild("kms-2.0")
	if err != nil {
		return err
	}
	defer os.Remove(other)
	var r controlplane.Release
	if _, err := b.must(ctx, &r, "deploy", other, "--message", "bench"); err != nil {
		return err
	}
	b.pair[1], b.beyond = r.Build, r.FinishedAt.Sub(r.StartedAt)-stepTook(r, "start")
	for n := 1; n < b.swaps; n++ {
		if err := b.rearrange(ctx, n); err != nil {
			return err
		}
		if n%commandEvery == 0 {
			took, err := b.must(ctx, &r, "rollback", "2.0", "--message", "bench")
			if err != nil {
				return err
			}
			b.whole = append(b.whole, took)
			continue
		}
		if err := b.swapBack(ctx); err != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// rearrange lets pins and canaries come and go before the n-th swap, which goes to the build that does not serve now. A canary is
// withdrawn, or promoted by that swap.
func (b *deploys) rearrange(ctx context.Context, n int) error {
	next := b.pair[(n+1)%2]
	canary := controlplane.CanaryRequest{Version: "2.0", Build: next, Percent: 30, Message: "bench"}
	switch n % 10 {
	case 1:
		_, err := b.control.Pin(ctx, controlplane.PinRequest{Version: "2.0", Tenant: driftTenant, Build: next, Message: "bench"})
		return err
	case 4:
		return b.control.Unpin(ctx, "2.0", driftTenant)
	case 6:
		_, err := b.control.StartCanary(ctx, canary)
		return err
	case 8:
		_, err := b.control.StartCanary(ctx, canary)
		return errors.Join(err, b.control.WithdrawCanary(ctx, "2.0"))
	}
	return nil
}

// swapBack times a warm rollback from its receipt by the control plane until a request is served that found the slot led to the other
// set.
func (b *deploys) swapBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	before, err := os.Readlink(b.slot())
	if err != nil {
		return err
	}
	begun, err := b.control.Start(ctx, controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0", Message: "bench"})
	if err != nil {
		return err
	}
	r, err := b.control.Follow(ctx, begun.ID, func(controlplane.Event) {})
	if err != nil {
		return err
	}
	if r.State != controlplane.ReleaseDone {
		return fmt.Errorf("rollback %d is %s: %v", r.ID, r.State, r.Error)
	}
	for _, step := range r.Steps {
		switch step.Name {
		case "start":
			return errors.New("a rollback started a set: the one before was not warm")
		case "swap":
			renamed, err := time.ParseDuration(strings.TrimPrefix(step.Message, "link renamed in "))
			if err != nil {
				return err
			}
			b.steps, b.renames = append(b.steps, step.Took), append(b.renames, renamed)
		}
	}
	at, err := b.witness.served(ctx, before, r.StartedAt)
	if err != nil {
		return err
	}
	took := at.Sub(r.StartedAt)
	if took > 50*time.Millisecond {
		b.say(slow(r, at))
	}
	b.effects = append(b.effects, took)
	return nil
}

// slow tells where a rollback's time went, since it was received.
func slow(r *controlplane.Release, served time.Time) string {
	text := fmt.Sprintf("rollback %d:", r.ID)
	for _, step := range r.Steps {
		text += fmt.Sprintf(" %s after %s,", step.Name, step.At.Add(step.Took).Sub(r.StartedAt).Round(time.Millisecond/10))
	}
	return text + " served after " + served.Sub(r.StartedAt).Round(time.Millisecond/10).String()
}

// slot is where nginx finds the set that serves 2.0: it reads the link at each request.
func (b *deploys) slot() string { return filepath.Join(b.runDir(), "slots", "2.0", "s") }
