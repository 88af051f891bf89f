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
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

const (
	tenant  = "smoke"
	lobby   = "lobby"
	idle    = 10 // more sockets per version under the deploy
	samples = 25 // messages each way across versions
)

// story is what kms-smoke lives through, act by act; each act takes what the ones before have made.
type story struct {
	*rig
	out      *report
	progress io.Writer

	front *front // TLS
	bare  *front // plain HTTP
	game  *gameServer
	aki   *simple   // on 1.0
	ben   *resuming // on 2.0
	chie  *resuming // on 2.0, only listens
	crowd []client
}

func (s *story) say(what string) { fmt.Fprintln(s.progress, "kms-smoke:", what) }

func (s *story) tell(ctx context.Context) error {
	defer s.leave()
	for _, act := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"bringing up KMS in " + s.home, s.bringUp},
		{"making tenant, key, tokens and channel", s.settle},
		{"talking across versions", s.talk},
		{"a forbidden word, a system message", s.forbid},
		{"a member comes and goes", s.member},
		{"deploying another build of 2.0 and rolling back, under open WebSockets", s.release},
		{"kmsctl list", s.list},
		{"retiring 1.0", s.retire},
	} {
		s.say(act.name)
		if err := act.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
	}
	return nil
}

// leave closes all clients.
func (s *story) leave() {
	for _, c := range s.everyone() {
		c.close()
	}
	for _, f := range []*front{s.front, s.bare} {
		if f != nil {
			f.close()
		}
	}
}

func (s *story) everyone() []client {
	all := slices.Clone(s.crowd)
	if s.aki != nil {
		all = append(all, s.aki)
	}
	if s.ben != nil {
		all = append(all, s.ben)
	}
	if s.chie != nil {
		all = append(all, s.chie)
	}
	return all
}

func (s *story) bringUp(ctx context.Context) (err error) {
	began := time.Now()
	if err := s.start(ctx, "up"); err != nil {
		return err
	}
	s.out.UpMS = ms(time.Since(began))
	status, err := s.awaitHealthy(ctx)
	if err != nil {
		return err
	}
	if len(status.Versions) != 2 {
		return fmt.Errorf("%d versions are live, want 1.0 and 2.0", len(status.Versions))
	}
	s.out.IRCD = s.ircKind()
	s.bare = s.plain()
	s.front, err = s.secure()
	return err
}

// ircKind is the IRC server that runs, by its configuration's name.
func (s *story) ircKind() string {
	files, _ := filepath.Glob(s.path("irc", "*.conf"))
	if len(files) == 0 {
		return s.ircd
	}
	return strings.TrimSuffix(filepath.Base(files[0]), ".conf")
}

// settle makes a game: what operators make with kmsctl, and what game servers make with the API.
func (s *story) settle(ctx context.Context) error {
	if _, err := s.must(ctx, nil, "tenant", "add", tenant, "--name", "煙テスト"); err != nil {
		return err
	}
	if _, err := s.must(ctx, nil, "ngword", "add", tenant, "ばか", "--action", "mask"); err != nil {
		return err
	}
	var key struct {
		Secret string `json:"secret"`
	}
	if _, err := s.must(ctx, &key, "key", "add", tenant, "--label", "smoke"); err != nil {
		return err
	}
	s.game = &gameServer{front: s.front, version: "2.0", tenant: tenant, key: key.Secret}
	if err := s.game.call(ctx, "PUT", "channels/"+lobby, map[string]any{"kind": "world", "name": "ロビー"}, nil); err != nil {
		return err
	}
	aki, err := s.game.token(ctx, "aki", "あき")
	if err != nil {
		return err
	}
	var ben struct {
		Secret string `json:"secret"`
	}
	if _, err := s.must(ctx, &ben, "token", "put", tenant, "ben", "--name", "Ben"); err != nil {
		return err
	}
	s.aki = newSimple(user{s.bare, "1.0", tenant, "aki", lobby, aki})
	s.ben = newResuming(user{s.front, "2.0", tenant, "ben", lobby, ben.Secret})
	s.chie = newResuming(user{s.front, "2.0", tenant, "ben", lobby, ben.Secret})
	for range idle {
		s.crowd = append(s.crowd, newSimple(s.aki.user), newResuming(s.ben.user))
	}
	s.out.Sockets = len(s.everyone())
	return s.awaitOpen(ctx)
}

func (s *story) awaitOpen(ctx context.Context) error {
	for _, c := range s.everyone() {
		j := c.seen()
		if err := j.await(ctx, "an open connection", func() bool { return j.open }); err != nil {
			return err
		}
	}
	return nil
}

// talk measures how long a message takes from a user of one version to a user of the other, both ways.
func (s *story) talk(ctx context.Context) error {
	var times []time.Duration
	for i := range samples {
		for _, way := range []struct {
			text     string
			from, to client
		}{
			{fmt.Sprintf("こんにちは、世界 %d", i), s.aki, s.ben},
			{fmt.Sprintf("good morning, 日本 %d", i), s.ben, s.aki},
		} {
			began := time.Now()
			way.from.say(way.text)
			m, err := way.to.seen().receive(ctx, way.text)
			if err != nil {
				return err
			}
			times = append(times, m.at.Sub(began))
			if _, err := way.from.seen().acknowledged(ctx, way.text); err != nil {
				return err
			}
		}
		time.Sleep(40 * time.Millisecond) // a user may send 20 a second
	}
	s.out.AcrossVersionsMS = ms(middle(times))
	s.out.AcrossWorstMS = ms(slices.Max(times))
	return nil
}

// forbid sees a forbidden word masked for users of both versions, and an API message reach both.
func (s *story) forbid(ctx context.Context) error {
	s.aki.say("この ばか もの")
	for _, c := range []client{s.aki, s.ben} {
		j := c.seen()
		err := j.await(ctx, "the masked message", func() bool {
			return slices.ContainsFunc(j.got, func(m message) bool {
				return strings.HasPrefix(m.text, "この ") && strings.HasSuffix(m.text, " もの") && !strings.Contains(m.text, "ばか")
			})
		})
		if err != nil {
			return err
		}
	}
	began := time.Now()
	posted, err := s.game.post(ctx, lobby, "メンテナンス at 3:00")
	if err != nil {
		return err
	}
	var last time.Time
	for _, c := range []client{s.aki, s.ben} {
		m, err := c.seen().receive(ctx, "メンテナンス at 3:00")
		if err != nil {
			return err
		}
		if m.id != posted.id || m.kind != "system" && m.kind != "sys" {
			return fmt.Errorf("the system message %q came as %s %q", posted.id, m.kind, m.id)
		}
		if m.at.After(last) {
			last = m.at
		}
	}
	s.out.SystemMessageMS = ms(last.Sub(began))
	return nil
}

// member lets a user into a guild through the API; who is none is refused.
func (s *story) member(ctx context.Context) error {
	if err := s.game.call(ctx, "PUT", "channels/guild-7", map[string]any{"kind": "guild"}, nil); err != nil {
		return err
	}
	if err := s.game.call(ctx, "PUT", "channels/guild-7/members/aki", nil, nil); err != nil {
		return err
	}
	u := s.aki.user
	u.channel = "guild-7"
	c := newSimple(u)
	defer c.close()
	if err := c.await(ctx, "the guild joined", func() bool { return c.open }); err != nil {
		return err
	}
	c.say("ギルドだけ")
	if _, err := c.acknowledged(ctx, "ギルドだけ"); err != nil {
		return err
	}
	if slices.ContainsFunc(s.ben.all(), func(m message) bool { return m.text == "ギルドだけ" }) {
		return errors.New("a guild's message reached another channel")
	}
	if _, err := s.must(ctx, nil, "channel", "leave", tenant, "guild-7", "aki"); err != nil {
		return err
	}
	return c.await(ctx, "that the membership ended", func() bool { return c.gone })
}

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
	s.out.DeployMS = ms(took)
	s.out.DeployBeyondMS = ms(r.FinishedAt.Sub(r.StartedAt) - stepTook(r, "start"))
	s.out.SwapMS = ms(stepTook(r, "swap"))
	err = s.ben.await(ctx, "the drain of the old build", func() bool { return s.ben.moved > moved })
	if err == nil {
		err = s.awaitMoved(ctx, r.Build)
	}
	s.out.MovedMS = ms(time.Since(began))
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
	s.out.RollbackMS = ms(took)
	for _, step := range r.Steps {
		if step.Name == "start" {
			return errors.New("the rollback started a set: the one before was not warm")
		}
		if step.Name == "swap" {
			s.out.RollbackEffectMS = ms(step.At.Add(step.Took).Sub(r.StartedAt))
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
	s.out.ListMS = ms(middle(times))
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
	s.out.RetireMS = ms(took)
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
