package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// step is one thing that is done to a running KMS: after a pause, for a while. The schedule of a seed is always the same.
type step struct {
	pause  time.Duration
	what   string // kill, freeze, hang (frozen for so long that the control plane kills it), hold, reload, purge, backup, restore, deploy, rollback
	victim string // "2.0 ua", "irc", "nginx", "worker", "control", "store", a channel, or a version
	lasts  time.Duration
}

func (s step) String() string {
	if s.lasts == 0 {
		return s.what + " " + s.victim
	}
	return fmt.Sprintf("%s %s for %s", s.what, s.victim, s.lasts.Round(time.Millisecond))
}

// deck is everything that may happen; a schedule goes through it in ever new orders, so that even a short one has each.
func deck(mysql bool) []string {
	all := []string{
		"kill 1.0 ua", "kill 2.0 ua", "kill 1.0 api", "kill 2.0 api", "kill irc", "kill nginx", "kill worker", "kill control",
		"freeze 1.0 ua", "freeze 2.0 ua", "freeze 1.0 api", "freeze irc", "freeze nginx", "freeze worker", "freeze control", "hang 2.0 ua",
		"reload nginx", "purge plaza", "deploy 1.0", "deploy 2.0", "rollback 2.0", "deploy 2.0",
	}
	if mysql {
		return append(all, "kill store", "freeze store", "stop store")
	}
	return append(all, "hold store")
}

// schedule draws what happens in about the given time.
func schedule(seed uint64, within time.Duration, deck []string) []step {
	r := rand.New(rand.NewPCG(seed, 4))
	var all []step
	for at := time.Duration(0); at < within; {
		for _, i := range r.Perm(len(deck)) {
			s := draw(r, deck[i])
			at += s.pause
			if at >= within {
				break
			}
			all = append(all, s)
		}
	}
	return all
}

func draw(r *rand.Rand, card string) step {
	what, victim, _ := strings.Cut(card, " ")
	s := step{pause: between(r, 600*time.Millisecond, 2200*time.Millisecond), what: what, victim: victim}
	switch {
	case what == "hang":
		s.lasts = between(r, 6*time.Second, 8*time.Second)
	case what == "freeze" || what == "hold":
		s.lasts = between(r, 500*time.Millisecond, 3*time.Second)
	case victim == "control" || victim == "store": // which nobody but we starts again
		s.lasts = between(r, 200*time.Millisecond, 2*time.Second)
	}
	return s
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return (from + time.Duration(r.Int64N(int64(to-from)))).Round(time.Millisecond)
}
