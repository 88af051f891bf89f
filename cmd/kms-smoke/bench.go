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

	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/nginx"
)

// figure is one line of the bench: ok says whether value is within the goal.
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

func atLeast(name string, value float64, unit string, goal float64) figure {
	return figure{name, round(value), unit, goal, value >= goal}
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
func (b *deploys) bench(ctx context.Context) (figures []figure, err error) {
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

func (b *deploys) timed() []figure {
	return []figure{
		atMost("warm rollback, receipt to first request served, p99", ms(percentile(b.effects, 99)), "ms", 50),
		atMost("warm rollback, receipt to first request served, median", ms(percentile(b.effects, 50)), "ms", 50),
		atMost("warm rollback, whole command, p99", ms(percentile(b.whole, 99)), "ms", 150),
		atMost("warm rollback, whole command, median", ms(percentile(b.whole, 50)), "ms", 150),
		atMost("deploy beyond the build's own start", b.beyond.Seconds(), "s", 2),
		atMost("slot swap, p99", ms(percentile(b.renames, 99)), "ms", 1),
		atMost("slot swap with its durable intent, median", ms(percentile(b.steps, 50)), "ms", 50),
	}
}

// counted waits until all that was acknowledged has arrived, and counts what should not be.
func (b *deploys) counted(ctx context.Context, posted []receipt, failed int, sameWorkers bool) []figure {
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
	return []figure{
		atMost("connections closed unasked", float64(unasked), "", 0),
		atMost("API requests failed", float64(failed), "", 0),
		atMost("messages lost, doubled or out of order", float64(wrong), "", 0),
		atMost("nginx reloads", float64(reloads), "", 0),
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
func (b *deploys) comesBack(ctx context.Context) ([]figure, error) {
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
	return []figure{
		atMost(fmt.Sprintf("control plane back with %d versions", len(after.Versions)), took.Seconds(), "s", 1),
		atMost("processes that are others then", float64(others), "", 0),
	}, nil
}

func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return time.Hour // nothing was measured: no goal is met
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
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
