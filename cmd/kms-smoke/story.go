package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
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
	crowd crowd
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
		{"limits change", s.limit},
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
	s.everyone().close()
	for _, f := range []*front{s.front, s.bare} {
		if f != nil {
			f.close()
		}
	}
}

func (s *story) everyone() crowd {
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
	s.out.UpMS = figure.Millis(time.Since(began))
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
	return s.everyone().awaitOpen(ctx)
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
	s.out.AcrossVersionsMS = figure.Millis(figure.Quantile(0.5, times))
	s.out.AcrossWorstMS = figure.Millis(slices.Max(times))
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
	s.out.SystemMessageMS = figure.Millis(last.Sub(began))
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
