package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
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
	clients  int  // WebSockets
	versions int  // live when the control plane is killed; 0: it is not
	polite   bool // the clients take what CPU time the servers leave

	control  *api.Client
	pair     [2]string // the builds that 2.0 goes back and forth between
	phones   *farCrowd
	drifters crowd // of the tenant that is pinned; one of them talks to the others
	witness  *witness

	effects, whole, renames, steps []time.Duration
	beyond                         time.Duration
}

// bench brings a KMS up, measures, tears it down, and returns what was measured.
func (b *deploys) bench(ctx context.Context) ([]figure.Figure, error) {
	defer b.leave()
	if err := b.bringUp(ctx); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	b.control = api.Dial(filepath.Join(b.runDir(), "kms.sock"))
	defer b.control.Close()
	figures, err := b.underLoad(ctx)
	if err != nil || b.versions == 0 {
		return figures, err
	}
	b.leave()
	back, err := b.comesBack(ctx)
	return append(figures, back...), err
}

// underLoad swaps and drains while everybody talks.
func (b *deploys) underLoad(ctx context.Context) (figures []figure.Figure, err error) {
	if b.phones, err = startPhones(ctx, b.polite); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.phones.stop()) }()
	if err := b.gather(); err != nil {
		return nil, err
	}
	defer func() { b.drifters.close() }()
	if err := b.addDrifters(ctx); err != nil {
		return nil, err
	}
	workers, err := b.workers(ctx)
	if err != nil {
		return nil, err
	}
	chat, calls := chatEvery(chatPause, b.aki, b.ben, b.drifters[0]), callEvery(callPause, b.game, lobby)
	defer chat.stop()
	defer calls.stop()
	if b.witness, err = startWitness(ctx, question{b.slot(), b.bare.base, "2.0", tenant, b.game.key, "channels/" + lobby}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.witness.stop()) }()
	b.say(fmt.Sprintf("%d swaps under %d WebSockets", b.swaps, b.clients))
	if err := b.alternate(ctx); err != nil {
		return nil, err
	}
	b.say("draining")
	drained, err := b.drains(ctx)
	if err != nil {
		return b.timed(), err
	}
	chat.stop()
	posted, failed, _ := calls.stop()
	after, err := b.workers(ctx)
	if err != nil {
		return b.timed(), err
	}
	kept, err := b.counted(ctx, posted, failed, slices.Equal(workers, after))
	return slices.Concat(b.timed(), drained, kept), err
}

// gather opens WebSockets, half of them of each version.
func (b *deploys) gather() error {
	return errors.Join(b.phones.join(b.newcomers("1.0", b.clients/2)), b.phones.join(b.newcomers("2.0", b.clients/2)))
}

// newcomers are more connections of aki or ben, without TLS, whose price, paid by nginx and us for each message, is not what is measured.
func (b *deploys) newcomers(version string, count int) Newcomers {
	u := b.aki.user
	if version == "2.0" {
		u = b.ben.user
	}
	return Newcomers{count, b.bare.base, u.version, u.tenant, u.id, u.channel, u.token}
}

// count tallies all clients, once those of 2.0 have come to a message of the lobby or do not in time.
func (b *deploys) count(last int64) (Tally, error) {
	far, err := b.phones.count(last)
	return b.everyone().count().plus(b.drifters.count()).plus(far), err
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
func (b *deploys) counted(ctx context.Context, posted []receipt, failed int, sameWorkers bool) ([]figure.Figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	receipts := append(append(posted, b.aki.acks()...), b.ben.acks()...)
	last := int64(0)
	for _, r := range receipts {
		last = max(last, r.seq)
	}
	all, err := b.count(last)
	if err != nil {
		return nil, err
	}
	wrong := all.Lost + all.Behind + len(all.Wrong)
	for _, what := range all.Wrong {
		b.say(what)
	}
	if err := b.chie.exactlyOnce(ctx, receipts); err != nil {
		b.say(err.Error())
		wrong += max(1, b.chie.missing(receipts))
	}
	reloads := 0
	if !sameWorkers {
		reloads = 1
	}
	return []figure.Figure{
		measured("connections closed unasked", float64(all.Unasked), "").AtMost(0),
		measured("API requests failed", float64(failed), "").AtMost(0),
		measured("messages lost, doubled or out of order", float64(wrong), "").AtMost(0),
		measured("nginx reloads", float64(reloads), "").AtMost(0),
	}, nil
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
	o.env = []string{"KMS_NGINX_WORKERS=" + strconv.Itoa(runtime.NumCPU())} // as a host that serves a thousand clients is set up
	r, err := newRig(o)
	if err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error:", err)
		return 1
	}
	b := &deploys{story: &story{rig: r, out: &report{}, progress: stderr}, swaps: swaps, clients: clients, versions: 20, polite: true}
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
