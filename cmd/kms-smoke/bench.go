package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/nginx"
)

// measured is a figure of the bench, without its goal.
func measured(name string, value float64, unit string) figure.Figure {
	return figure.Figure{Name: name, Value: value, Unit: unit}
}

// A thousand clients receive what aki and ben say and the game server posts: 14 messages a second each, which leaves the two cores
// of a small machine, where nginx, servers and clients share them, two thirds of their time.
const (
	chatPause = 500 * time.Millisecond
	callPause = 100 * time.Millisecond
)

// deploys swaps 2.0 between two builds under chatting WebSockets of both versions and steady API calls, while a tenant is pinned and
// canaries are tried; then it drains, and kills the control plane beside many versions.
type deploys struct {
	*story
	swaps    int
	clients  int // WebSockets
	versions int // live when the control plane is killed; 0: it is not

	control *api.Client
	pair    [2]string // the builds that 2.0 goes back and forth between
	drifter *resuming // talks to the others of the tenant that is pinned
	witness *witness

	effects, whole, renames, steps []time.Duration
	beyond                         time.Duration
}

// bench brings a KMS up, measures, tears it down, and returns what was measured.
func (b *deploys) bench(ctx context.Context) (figures []figure.Figure, err error) {
	defer b.leave()
	if err := b.bringUp(ctx); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	b.control = api.Dial(filepath.Join(b.runDir(), "kms.sock"))
	defer b.control.Close()
	if err := b.gather(ctx); err != nil {
		return nil, err
	}
	if err := b.addDrifters(ctx); err != nil {
		return nil, err
	}
	workers, err := b.workers(ctx)
	if err != nil {
		return nil, err
	}
	chat, calls := chatEvery(chatPause, b.aki, b.ben, b.drifter), callEvery(callPause, b.game, lobby)
	defer chat.stop()
	defer calls.stop()
	if b.witness, err = startWitness(ctx, question{b.slot(), b.bare.base, "2.0", tenant, b.game.key, "channels/" + lobby}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.witness.stop()) }()
	b.say(fmt.Sprintf("%d swaps under %d WebSockets", b.swaps, len(b.everyone())))
	if err := b.alternate(ctx); err != nil {
		return nil, err
	}
	figures = b.timed()
	b.say("draining")
	drained, err := b.drains(ctx)
	if err != nil {
		return figures, err
	}
	figures = append(figures, drained...)
	chat.stop()
	posted, failed, _ := calls.stop()
	after, err := b.workers(ctx)
	if err != nil {
		return figures, err
	}
	figures = append(figures, b.counted(ctx, posted, failed, slices.Equal(workers, after))...)
	if b.versions == 0 {
		return figures, nil
	}
	b.leave()
	back, err := b.comesBack(ctx)
	return append(figures, back...), err
}

// gather opens WebSockets until there are as many as asked for, half of them of each version.
func (b *deploys) gather(ctx context.Context) error {
	for len(b.everyone()) < b.clients {
		b.join(newSimple(b.aki.user))
		b.join(newResuming(b.plainBen()))
		pause(ctx, 2*time.Millisecond)
	}
	return b.awaitOpen(ctx)
}

// plainBen is ben without TLS, whose price, paid by nginx and us for each message, is not what is measured.
func (b *deploys) plainBen() user {
	u := b.ben.user
	u.front = b.bare
	return u
}

// join adds a client to the crowd, which counts what it misses and keeps nothing.
func (b *deploys) join(c client) {
	c.seen().note(func() { c.seen().light = true })
	b.crowd = append(b.crowd, c)
}

// workers are nginx's: a reload makes others.
func (b *deploys) workers(ctx context.Context) ([]int, error) {
	status, err := b.awaitHealthy(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(nginx.Workers(pids(status)["nginx"]))), nil
}

func (b *deploys) timed() []figure.Figure {
	return []figure.Figure{
		measured("warm rollback, receipt to first request served, p99", figure.Millis(figure.Quantile(0.99, b.effects)), "ms").AtMost(50),
		measured("warm rollback, receipt to first request served, median", figure.Millis(figure.Quantile(0.5, b.effects)), "ms").AtMost(50),
		measured("warm rollback, whole command, p99", figure.Millis(figure.Quantile(0.99, b.whole)), "ms").AtMost(150),
		measured("warm rollback, whole command, median", figure.Millis(figure.Quantile(0.5, b.whole)), "ms").AtMost(150),
		measured("deploy beyond the build's own start", b.beyond.Seconds(), "s").AtMost(2),
		measured("slot swap, p99", figure.Millis(figure.Quantile(0.99, b.renames)), "ms").AtMost(1),
		measured("slot swap with its durable intent, median", figure.Millis(figure.Quantile(0.5, b.steps)), "ms").AtMost(50),
	}
}

// counted waits until all that was acknowledged has arrived, and counts what should not be.
func (b *deploys) counted(ctx context.Context, posted []receipt, failed int, sameWorkers bool) []figure.Figure {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	receipts := append(append(posted, b.aki.acks()...), b.ben.acks()...)
	wrong := b.lost() + b.behind(ctx, receipts)
	if err := b.chie.exactlyOnce(ctx, receipts); err != nil {
		b.say(err.Error())
		wrong += max(1, b.chie.missing(receipts))
	}
	unasked := 0
	for _, c := range b.everyone() {
		n, _ := c.seen().counts()
		unasked += n
		if err := c.seen().violations(); err != nil {
			b.say(err.Error())
			wrong++
		}
	}
	reloads := 0
	if !sameWorkers {
		reloads = 1
	}
	return []figure.Figure{
		measured("connections closed unasked", float64(unasked), "").AtMost(0),
		measured("API requests failed", float64(failed), "").AtMost(0),
		measured("messages lost, doubled or out of order", float64(wrong), "").AtMost(0),
		measured("nginx reloads", float64(reloads), "").AtMost(0),
	}
}

// lost is how many messages the crowd's clients of 2.0 did not get.
func (b *deploys) lost() (n int) {
	for _, c := range b.everyone() {
		j := c.seen()
		j.note(func() { n += int(j.lost) })
	}
	return n
}

// behind is how many of the crowd on 2.0 do not come to the last message in time.
func (b *deploys) behind(ctx context.Context, receipts []receipt) (n int) {
	last := int64(0)
	for _, r := range receipts {
		last = max(last, r.seq)
	}
	for _, c := range b.crowd {
		j := c.seen()
		if r, ok := c.(*resuming); ok && r.tenant == tenant && j.await(ctx, "the last message", func() bool { return j.last >= last }) != nil {
			n++
		}
	}
	return n
}

// comesBack kills the control plane beside many versions and measures how long the next one takes until it answers.
func (b *deploys) comesBack(ctx context.Context) ([]figure.Figure, error) {
	b.say(fmt.Sprintf("deploying up to %d versions", b.versions))
	for i := range b.versions - 2 { // 1.0 and 2.0 are there
		if _, err := b.must(ctx, nil, "deploy", b.pair[0], "--as", fmt.Sprintf("4.%d", i), "--message", "bench"); err != nil {
			return nil, err
		}
	}
	before, err := b.awaitHealthy(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.up.kill(); err != nil {
		return nil, err
	}
	b.control.Close()
	began := time.Now()
	if b.up, err = b.launch("up"); err != nil {
		return nil, err
	}
	after, err := b.control.Status(ctx)
	for err != nil && pause(ctx, time.Millisecond) {
		after, err = b.control.Status(ctx)
	}
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	others := 0
	for name, pid := range pids(before) {
		if pids(after)[name] != pid {
			others++
		}
	}
	return []figure.Figure{
		measured(fmt.Sprintf("control plane back with %d versions", len(after.Versions)), took.Seconds(), "s").AtMost(1),
		measured("processes that are others then", float64(others), "").AtMost(0),
	}, nil
}

// inMemory makes a directory for sockets and slots in memory, where /run is on a real host; empty when this machine has no such place.
func inMemory() string {
	dir, err := os.MkdirTemp("/dev/shm", "kmssmoke")
	if err != nil {
		return ""
	}
	return dir
}

// benchDeploys prints a line per figure and returns an exit code.
func benchDeploys(ctx context.Context, o options, swaps, clients int, stdout, stderr io.Writer) int {
	o.run = inMemory()
	defer os.RemoveAll(o.run)
	r, err := newRig(o)
	if err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error:", err)
		return 1
	}
	b := &deploys{story: &story{rig: r, out: &report{}, progress: stderr}, swaps: swaps, clients: clients, versions: 20}
	figures, err := b.bench(ctx)
	sheet := figure.NewSheet(stdout)
	for _, f := range figures {
		err = errors.Join(err, sheet.Tell(f))
	}
	if err = errors.Join(err, r.close()); err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error:", err)
		return 1
	}
	return min(sheet.Missed(), 1)
}
