package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/nginx"
)

// figure is one line of the bench: ok says whether value is within the goal, an upper bound.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  float64 `json:"goal"`
	OK    bool    `json:"ok"`
}

func atMost(name string, value float64, unit string, goal float64) figure {
	return figure{name, round(value), unit, goal, value <= goal}
}

// commandEvery is how many warm swaps are timed as a whole command: starting a program costs the others.
const commandEvery = 5

// deploys swaps 2.0 between two builds under chatting WebSockets of both versions and steady API calls.
type deploys struct {
	*story
	swaps, clients int
	effects, whole []time.Duration
	steps          []time.Duration // of the swaps
	beyond         time.Duration
}

// bench brings a KMS up, measures, tears it down, and returns what was measured.
func (b *deploys) bench(ctx context.Context) (figures []figure, err error) {
	defer b.leave()
	if err := b.bringUp(ctx); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	for len(b.everyone()) < b.clients {
		b.crowd = append(b.crowd, newSimple(b.aki.user), newResuming(b.ben.user))
		pause(ctx, 2*time.Millisecond)
	}
	if err := b.awaitOpen(ctx); err != nil {
		return nil, err
	}
	workers, err := b.workers(ctx)
	if err != nil {
		return nil, err
	}
	chat, calls := startChatter(b.aki, b.ben), startCalls(b.game, lobby)
	defer chat.stop()
	defer calls.stop()
	err = b.alternate(ctx)
	chat.stop()
	posted, failed, _ := calls.stop()
	if err != nil {
		return nil, err
	}
	after, err := b.workers(ctx)
	if err != nil {
		return nil, err
	}
	return append(b.timed(), b.counted(ctx, posted, failed, slices.Equal(workers, after))...), nil
}

// workers are nginx's: a reload makes others.
func (b *deploys) workers(ctx context.Context) ([]int, error) {
	status, err := b.awaitHealthy(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(nginx.Workers(pidOf(status, "nginx")))), nil
}

func pidOf(s *controlplane.Status, component string) int {
	for _, c := range s.Components {
		if c.Name == component {
			return c.PID
		}
	}
	return 0
}

// alternate deploys the other build, then goes back and forth between the two warm sets.
func (b *deploys) alternate(ctx context.Context) error {
	other, err := b.anotherBuild("kms-2.0")
	if err != nil {
		return err
	}
	defer os.Remove(other)
	var r controlplane.Release
	if _, err := b.must(ctx, &r, "deploy", other, "--message", "bench"); err != nil {
		return err
	}
	b.beyond = r.FinishedAt.Sub(r.StartedAt) - stepTook(r, "start")
	k := api.Dial(b.path("run", "kms.sock"))
	defer k.Close()
	for n := 1; n < b.swaps; n++ {
		if n%commandEvery == 0 {
			took, err := b.must(ctx, &r, "rollback", "2.0", "--message", "bench")
			if err != nil {
				return err
			}
			b.whole = append(b.whole, took)
			continue
		}
		if err := b.swapBack(ctx, k); err != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// swapBack times a warm rollback from before it is sent until the slot leads to the other set.
func (b *deploys) swapBack(ctx context.Context, k *api.Client) error {
	began := time.Now()
	begun, err := k.Start(ctx, controlplane.ReleaseRequest{Kind: controlplane.KindRollback, Version: "2.0", Message: "bench"})
	if err != nil {
		return err
	}
	r, err := k.Follow(ctx, begun.ID, func(controlplane.Event) {})
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
			b.steps = append(b.steps, step.Took)
			b.effects = append(b.effects, step.At.Add(step.Took).Sub(began))
		}
	}
	return nil
}

func (b *deploys) timed() []figure {
	rename, whole := renames(b.home)
	return []figure{
		atMost("warm rollback, receipt to effect, p99", ms(percentile(b.effects, 99)), "ms", 50),
		atMost("warm rollback, whole command, p99", ms(percentile(b.whole, 99)), "ms", 150),
		atMost("deploy beyond the build's own start", b.beyond.Seconds(), "s", 2),
		atMost("slot swap: the rename, p99", ms(rename), "ms", 1),
		atMost("slot swap: with its routing directory, median", ms(whole), "ms", 5),
		atMost("slot swap: the step with its durable intent, median", ms(percentile(b.steps, 50)), "ms", 50),
	}
}

// counted waits until all that was acknowledged has arrived, and counts what should not be.
func (b *deploys) counted(ctx context.Context, posted []receipt, failed int, sameWorkers bool) []figure {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	receipts := append(append(posted, b.aki.acks()...), b.ben.acks()...)
	wrong := 0
	if err := b.chie.exactlyOnce(ctx, receipts); err != nil {
		wrong = max(1, b.chie.missing(receipts))
	}
	unasked := 0
	for _, c := range b.everyone() {
		n, _ := c.seen().counts()
		unasked += n
		if c.seen().violations() != nil {
			wrong++
		}
	}
	reloads := 0
	if !sameWorkers {
		reloads = 1
	}
	return []figure{
		atMost("connections closed unasked", float64(unasked), "", 0),
		atMost("API requests failed", float64(failed), "", 0),
		atMost("messages lost, doubled or out of order", float64(wrong), "", 0),
		atMost("nginx reloads", float64(reloads), "", 0),
	}
}

// renames times what nginx sees of a swap: the rename alone, and the slot's new directory with it, without the durable intent before.
// What cannot be measured is an hour.
func renames(home string) (rename, whole time.Duration) {
	run := filepath.Join(home, "bench")
	defer os.RemoveAll(run)
	router, err := nginx.NewRouter(run)
	var renamed, swapped []time.Duration
	link, beside := filepath.Join(run, "link"), filepath.Join(run, "beside")
	for range 500 {
		if err == nil {
			began := time.Now()
			_, err = router.Swap("2.0", nginx.Route{Stable: run})
			swapped = append(swapped, time.Since(began))
		}
		err = errors.Join(err, os.Symlink(run, beside))
		began := time.Now()
		err = errors.Join(err, os.Rename(beside, link))
		renamed = append(renamed, time.Since(began))
	}
	if err != nil {
		return time.Hour, time.Hour
	}
	return percentile(renamed, 99), percentile(swapped, 50)
}

func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return time.Hour // nothing was measured: no goal is met
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// benchDeploys prints a line per figure and returns an exit code.
func benchDeploys(ctx context.Context, o options, swaps, clients int, stdout, stderr io.Writer) int {
	r, err := newRig(o)
	if err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error:", err)
		return 1
	}
	b := &deploys{story: &story{rig: r, out: &report{}, progress: stderr}, swaps: swaps, clients: clients}
	figures, err := b.bench(ctx)
	code := 0
	for _, f := range figures {
		line, _ := json.Marshal(f)
		fmt.Fprintf(stdout, "%s\n", line)
		if !f.OK {
			code = 1
		}
	}
	if err = errors.Join(err, r.close()); err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error:", err)
		code = 1
	}
	return code
}
