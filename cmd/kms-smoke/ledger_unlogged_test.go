package main

import "fmt"

// unlogged is the channel without history. What is said there may be lost on the way and, when it is sent again, come twice; but each
// user's messages keep their order, and nothing comes that was not said.
const unlogged = "shout"

// shouts holds what came of it over one connection against what was sent.
func (a *account) shouts(s *stretch) {
	type way struct {
		who  string
		line int
	}
	last, seen := map[way]int{}, map[string]bool{}
	for _, got := range s.got {
		v := violation{at: got.at, who: s.who, channel: s.channel, id: got.id}
		sent := a.said[got.text]
		w := way{}
		if sent != nil {
			w = way{sent.who, sent.line}
		}
		switch {
		case sent == nil || sent.channel != unlogged || sent.id != "" && sent.id != got.id:
			v.what = fmt.Sprintf("received %q, which nobody said there so", got.text)
		case sent.tries > 1 || sent.line == 0: // sent again, or by processes of the game's server that take turns
			continue
		case seen[got.text]:
			v.what = fmt.Sprintf("received %q twice on connection %d", got.text, s.line)
		case last[w] > sent.order:
			v.what = fmt.Sprintf("received %q after what was said later", got.text)
		}
		if v.what != "" {
			a.wrong = append(a.wrong, v)
			return
		}
		seen[got.text], last[w] = true, sent.order
	}
}

// acknowledgedAs holds an answer against what the channel keeps.
func (b *book) acknowledgedAs(who string, o op2) {
	logged := o.Logged != nil && *o.Logged
	if logged == (o.Ch == unlogged) || logged != (o.Seq > 0) {
		b.broken(violation{who: who, channel: o.Ch, seq: o.Seq, id: o.ID, what: fmt.Sprintf("acknowledged as logged %v at %d", logged, o.Seq)})
	}
}
