package main

import (
	"fmt"
	"os"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/runtime/ngword/ngeval"
)

// quality measures what is found and let through, on the own cases and on those of others.
func (b *bench) quality() error {
	for _, set := range []struct{ name, file string }{{"own", b.own}, {"outside", b.outside}} {
		if set.file == "" {
			continue
		}
		if err := b.qualityOn(set.name, set.file); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) qualityOn(set, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	cases, err := ngeval.Read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	ours, err := ngeval.Ours()
	if err != nil {
		return err
	}
	r, err := ngeval.Run(cases, ours)
	if err != nil {
		return err
	}
	peers, err := b.peerReports(cases)
	if err != nil {
		return err
	}
	return b.tellQuality(set, r, peers)
}

// peerReports judges the cases by each of the others.
func (b *bench) peerReports(cases []ngeval.Case) (map[string]ngeval.Report, error) {
	reports := map[string]ngeval.Report{}
	if !b.peers {
		return reports, nil
	}
	for _, p := range peers {
		r, err := ngeval.Run(cases, func(c *ngeval.Case) ([]ngeval.Place, error) {
			if p.build(c.Words, c.Allow)(c.Text) {
				return []ngeval.Place{{}}, nil
			}
			return nil, nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		reports[p.name] = r
	}
	return reports, nil
}

func (b *bench) tellQuality(set string, r ngeval.Report, reports map[string]ngeval.Report) error {
	for _, q := range []struct {
		name string
		goal float64 // 0: reported
		of   func(ngeval.Report) float64
		ours bool // the others do not tell places
	}{
		{"core_recall", 0.99, func(r ngeval.Report) float64 { return r.Core.Recall }, false},
		{"core_clean", 0.98, func(r ngeval.Report) float64 { return r.Core.Clean }, false},
		{"core_ja_recall", 0.98, func(r ngeval.Report) float64 { return r.CoreJA.Recall }, false},
		{"core_ja_clean", 0.95, func(r ngeval.Report) float64 { return r.CoreJA.Clean }, false},
		{"core_spans", 0.97, func(r ngeval.Report) float64 { return r.Core.Spans }, true},
		{"extra_recall", 0, func(r ngeval.Report) float64 { return r.Classes["extra"].Recall }, false},
		{"policy_recall", 0, func(r ngeval.Report) float64 { return r.Classes["policy"].Recall }, false},
	} {
		f := figure.Figure{Name: "ngword_" + set + "_" + q.name, Value: q.of(r), Unit: "share", OK: true}
		if !q.ours {
			f.Peers = map[string]float64{}
			for name, report := range reports {
				f.Peers[name] = q.of(report)
			}
		}
		if q.goal > 0 {
			f = f.AtLeast(q.goal)
		}
		if err := b.figures.Tell(f); err != nil {
			return err
		}
	}
	return nil
}
