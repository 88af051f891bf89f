package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

// contest has servers carry the same load in turn, several rounds, so that what disturbs the machine disturbs all of them.
func (b *bench) contest(ctx context.Context, channels, members int, rate float64, servers ...*server) (map[string]*result, error) {
	results := map[string]*result{}
	for round := range b.rounds {
		for _, s := range servers {
			p := pace{rate: rate, length: b.length, warm: warmUp(channels*members, rate), warmed: b.warmed}
			b.warmed = nil
			r, err := measure(ctx, s, channels, members, p)
			if err != nil && s.peer && ctx.Err() == nil {
				b.say("%v: it is left out", err)
				r, err = &result{failed: err}, nil
			}
			if err != nil {
				return nil, err
			}
			b.say("%s, %.0f/s, round %d: %.2f us a delivery, p99 %v, lost %d", s.name, rate, round+1, r.per(r.cpu), r.latency.at(0.99), r.lost)
			if results[s.name] == nil {
				results[s.name] = &result{}
			}
			results[s.name].add(r)
		}
	}
	return results, nil
}

// warmUp is long enough for every client to have spoken once, which makes buffers and stacks grow, but no longer than 5 s.
func warmUp(clients int, rate float64) time.Duration {
	once := time.Duration(float64(clients) / rate * float64(time.Second))
	return min(max(once, time.Second), 5*time.Second)
}

// recorded is contest. The first round of the first server, which is KMS, has its CPU profile recorded if profiles are wanted.
func (b *bench) recorded(ctx context.Context, k *kms, name string, channels, members int, rate float64, servers ...*server) (map[string]*result, error) {
	wait := b.record(ctx, k, name)
	rs, err := b.contest(ctx, channels, members, rate, servers...)
	if err != nil {
		return nil, err
	}
	return rs, wait()
}

// record has the next measurement call b.warmed, which starts the recording; wait returns when that is written.
func (b *bench) record(ctx context.Context, k *kms, name string) (wait func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	written := make(chan error, 1)
	b.warmed = func() {
		go func() { written <- k.profile(ctx, "cpu", b.length, filepath.Join(b.profiles, name+".pprof")) }()
	}
	return func() error { return <-written }
}

// costs tells the CPU time of a delivery beside the others', and judges it.
func (b *bench) costs(name, goal string, rs map[string]*result, who string, ok bool, also map[string]any) error {
	r := rs[who]
	f := figure.Figure{Name: name, Value: r.per(r.cpu), Unit: "us CPU/delivery", Goal: goal, OK: ok, Peers: map[string]float64{}, Details: r.details()}
	for peer, other := range rs {
		if peer != who && other.failed == nil {
			f.Peers[peer] = other.per(other.cpu)
		}
	}
	if notes := faults(rs, who); len(notes) > 0 {
		f.Details["peers_failed"] = notes
	}
	for key, v := range also {
		f.Details[key] = v
	}
	r.spoil(&f)
	return b.figures.Tell(f)
}

// delays tells the 99th percentile from send to receipt beside the others', and judges it.
func (b *bench) delays(name string, goal time.Duration, rs map[string]*result, who string) error {
	r := rs[who]
	p99 := r.latency.at(0.99)
	f := figure.Figure{Name: name, Value: figure.Millis(p99), Unit: "ms", Goal: fmt.Sprintf("<= %.0f", figure.Millis(goal)), OK: p99 <= goal,
		Peers: map[string]float64{}, Details: map[string]any{"p50": figure.Millis(r.latency.at(0.5)), "worst": figure.Millis(r.latency.worst)}}
	for peer, other := range rs {
		if peer != who && other.failed == nil {
			f.Peers[peer] = figure.Millis(other.latency.at(0.99))
		}
	}
	r.spoil(&f)
	return b.figures.Tell(f)
}

// spoil makes a run that lost, doubled or refused anything no figure.
func (r *result) spoil(f *figure.Figure) {
	if !r.whole() {
		f.OK = false
		f.Problem = fmt.Sprintf("not a figure: %d lost, %d doubled, %d refused of %d", r.lost, r.doubled, r.refused, r.deliveries+r.lost)
	}
}

func (r *result) details() map[string]any {
	others := map[string]float64{}
	for name, cpu := range r.others {
		others[name] = figure.Round(r.per(cpu))
	}
	d := map[string]any{
		"deliveries": r.deliveries, "lost": r.lost, "doubled": r.doubled,
		"messages_per_second": math.Round(float64(r.sent) / r.seconds), "load_us": figure.Round(r.per(r.load)),
	}
	if len(others) > 0 {
		d["others_us"] = others
	}
	return d
}

// faults are what went wrong with others: what is told of them is no figure.
func faults(rs map[string]*result, but string) map[string]string {
	notes := map[string]string{}
	for name, r := range rs {
		switch {
		case name == but:
		case r.failed != nil:
			notes[name] = r.failed.Error()
		case !r.whole():
			notes[name] = fmt.Sprintf("%d lost, %d doubled", r.lost, r.doubled)
		}
	}
	return notes
}

// ratio is how many times a contender's delivery costs that of another.
func ratio(rs map[string]*result, who, other string) float64 {
	return rs[who].per(rs[who].cpu) / rs[other].per(rs[other].cpu)
}
