package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/controlplane"
)

// release deploys and rolls back while both versions chat and the game server calls, and holds what was seen against what is promised.
func (s *story) release(ctx context.Context) error {
	other, err := s.anotherBuild("kms-2.0")
	if err != nil {
		return err
	}
	defer os.Remove(other)
	before, err := s.serving(ctx, "2.0")
	if err != nil {
		return err
	}
	chat := startChatter(s.aki, s.ben)
	calls := startCalls(s.game, lobby)
	defer chat.stop()
	defer calls.stop()

	if err := s.deploy(ctx, other, before); err != nil {
		return err
	}
	if err := s.rollback(ctx, before); err != nil {
		return err
	}
	chat.stop()
	posted, failed, err := calls.stop()
	s.out.APICalls, s.out.APIFailed = len(posted)+failed, failed
	if err != nil {
		return fmt.Errorf("%d of %d API calls were refused, the last: %v", s.out.APIFailed, s.out.APICalls, err)
	}
	return s.account(ctx, posted)
}

// anotherBuild copies a build with some bytes at its end, which an ELF file does not mind: another digest, the same program.
func (s *story) anotherBuild(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.builds, name))
	if err != nil {
		return "", err
	}
	path := s.path(name + "-other")
	return path, os.WriteFile(path, append(text, "another build"...), 0o755)
}

func (s *story) serving(ctx context.Context, version string) (build string, err error) {
	var list []controlplane.VersionInfo
	if _, err := s.must(ctx, &list, "list"); err != nil {
		return "", err
	}
	for _, v := range list {
		if v.Name == version && v.State == controlplane.Live {
			return v.Build, nil
		}
	}
	return "", fmt.Errorf("version %s is not live", version)
}

func (s *story) deploy(ctx context.Context, path, before string) error {
	_, moved := s.ben.counts()
	var r controlplane.Release
	took, err := s.must(ctx, &r, "deploy", path, "--message", "smoke")
	if err != nil {
		return err
	}
	began := time.Now()
	if now, err := s.serving(ctx, "2.0"); err != nil || now == before {
		return fmt.Errorf("2.0 serves %q after the deploy, as before: %v", now, err)
	}
	s.out.DeployMS = figure.Millis(took)
	s.out.DeployBeyondMS = figure.Millis(r.FinishedAt.Sub(r.StartedAt) - stepTook(r, "start"))
	s.out.SwapMS = figure.Millis(stepTook(r, "swap"))
	err = s.ben.await(ctx, "the drain of the old build", func() bool { return s.ben.moved > moved })
	if err == nil {
		err = s.awaitMoved(ctx, r.Build)
	}
	s.out.MovedMS = figure.Millis(time.Since(began))
	return err
}

// awaitMoved waits until all clients of 2.0 are on one build.
func (s *story) awaitMoved(ctx context.Context, build string) error {
	for {
		status, err := s.status(ctx)
		if err != nil {
			return err
		}
		elsewhere, there := 0, 0
		for _, v := range status.Versions {
			for _, set := range v.Sets {
				for _, in := range set.Instances {
					if v.Name == "2.0" && set.Build == build {
						there += in.Connections
					} else if v.Name == "2.0" {
						elsewhere += in.Connections
					}
				}
			}
		}
		if elsewhere == 0 && there == idle+2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d clients stay on the old build, %d are on the new one", elsewhere, there)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func stepTook(r controlplane.Release, name string) time.Duration {
	for _, step := range r.Steps {
		if step.Name == name {
			return step.Took
		}
	}
	return 0
}

func (s *story) rollback(ctx context.Context, before string) error {
	var r controlplane.Release
	took, err := s.must(ctx, &r, "rollback", "2.0", "--message", "smoke")
	if err != nil {
		return err
	}
	if r.Build != before {
		return fmt.Errorf("rolled back to %q, want %q", r.Build, before)
	}
	s.out.RollbackMS = figure.Millis(took)
	for _, step := range r.Steps {
		if step.Name == "start" {
			return errors.New("the rollback started a set: the one before was not warm")
		}
		if step.Name == "swap" {
			s.out.RollbackEffectMS = figure.Millis(step.At.Add(step.Took).Sub(r.StartedAt))
		}
	}
	return s.awaitMoved(ctx, before)
}

// account holds what was received against what was acknowledged.
func (s *story) account(ctx context.Context, receipts []receipt) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	receipts = append(append(receipts, s.aki.acks()...), s.ben.acks()...)
	s.out.Acknowledged = len(receipts)
	err := s.chie.exactlyOnce(ctx, receipts)
	s.out.Lost = s.chie.missing(receipts)
	for _, c := range s.everyone() {
		unasked, _ := c.seen().counts()
		s.out.ClosedUnasked += unasked
		err = errors.Join(err, c.seen().violations())
	}
	if s.out.ClosedUnasked > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections were closed unasked", s.out.ClosedUnasked))
	}
	return err
}

func (s *story) list(ctx context.Context) error {
	var times []time.Duration
	for range 9 {
		took, err := s.must(ctx, nil, "list")
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	s.out.ListMS = figure.Millis(figure.Quantile(0.5, times))
	return nil
}

// retire takes 1.0 away: refused while somebody is on it, then by force, and nginx says so.
func (s *story) retire(ctx context.Context) error {
	said, err := s.refused(ctx, 6, "retire", "1.0", "--yes")
	if err != nil {
		return err
	}
	if !strings.Contains(said, tenant) {
		return fmt.Errorf("the refusal to retire does not name the holder %q: %s", tenant, said)
	}
	took, err := s.must(ctx, nil, "retire", "1.0", "--force", "--yes", "--message", "smoke")
	if err != nil {
		return err
	}
	s.out.RetireMS = figure.Millis(took)
	if err := s.aki.await(ctx, "that 1.0 is gone", func() bool { return s.aki.gone && s.aki.moved == 1 }); err != nil {
		return err
	}
	if unasked, _ := s.aki.counts(); unasked > 0 {
		return errors.New("the retirement closed a connection without a word")
	}
	status, body, err := s.front.get(ctx, "/ua/1.0/"+tenant)
	if err != nil || status != 410 || !strings.Contains(string(body), "2.0") {
		return fmt.Errorf("1.0 answers %d %s, want 410 naming 2.0: %v", status, body, err)
	}
	if status, _, err = s.front.get(ctx, "/ua/3.0/"+tenant); err != nil || status != 404 {
		return fmt.Errorf("3.0 answers %d, want 404: %v", status, err)
	}
	if err := s.onlyVersion(ctx, "2.0"); err != nil {
		return err
	}
	s.ben.say("まだここ")
	_, err = s.chie.receive(ctx, "まだここ")
	return err
}

// onlyVersion reads /versions.
func (s *story) onlyVersion(ctx context.Context, want string) error {
	_, body, err := s.bare.get(ctx, "/versions")
	if err != nil {
		return err
	}
	var answer struct {
		Versions []struct {
			Version string `json:"version"`
		} `json:"versions"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("cannot read /versions: %v", err)
	}
	if len(answer.Versions) != 1 || answer.Versions[0].Version != want {
		return fmt.Errorf("/versions says %s, want only %s", body, want)
	}
	return nil
}
