package bus

import (
	"math/rand/v2"
	"strings"
	"time"
)

const maxNick = 24 // with a suffix of five still a nick for servers that stop at 30

// cleanNick makes any text a nick without '_': that begins the suffix of a second connection under the same name.
func cleanNick(s string) string {
	nick := []byte(s)
	for i, c := range nick {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9')) {
			nick[i] = '-'
		}
	}
	if len(nick) == 0 || nick[0] == '-' {
		nick = append([]byte("kms"), nick...)
	}
	return string(nick[:min(len(nick), maxNick)])
}

// otherNick returns nick with a random suffix, for when the server still holds a dead connection of ours under the first.
func otherNick(nick string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	b := []byte(nick + "_")
	for range 4 {
		b = append(b, letters[rand.IntN(len(letters))])
	}
	return string(b)
}

// firstNick is what a new connection asks for: our name, or a suffixed one after a collision. Two processes of one name that both
// came back under it at the same moment, as InspIRCd lets clients in once a second, would collide again, for ever.
func (n *network) firstNick() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nickLost {
		n.nickLost = false
		return otherNick(n.b.nick)
	}
	return n.b.nick
}

// loseNick makes the next connection come under another nick.
func (n *network) loseNick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nickLost = true
}

// baseNick takes the suffix off: the name by which peers know each other.
func baseNick(nick string) string {
	base, _, _ := strings.Cut(nick, "_")
	return base
}

// peers are the nicks on the control channel. A peer is there while at least one nick of its name is.
type peers struct {
	nicks map[string]bool
	bases map[string]int
}

func (p *peers) add(nick string) {
	if p.nicks == nil {
		p.nicks, p.bases = map[string]bool{}, map[string]int{}
	}
	if !p.nicks[nick] {
		p.nicks[nick] = true
		p.bases[baseNick(nick)]++
	}
}

// remove reports whether that was the peer's last nick.
func (p *peers) remove(nick string) bool {
	if !p.nicks[nick] {
		return false
	}
	delete(p.nicks, nick)
	base := baseNick(nick)
	p.bases[base]--
	if p.bases[base] > 0 {
		return false
	}
	delete(p.bases, base)
	return true
}

// came and left keep the peers; only the network that we speak on tells of them.
func (n *network) came(nicks ...string) {
	bases := make([]string, len(nicks))
	n.mu.Lock()
	for i, nick := range nicks {
		n.peers.add(nick)
		bases[i] = baseNick(nick)
	}
	n.mu.Unlock()
	if n.b.out.Load() == n {
		n.b.tellPeers(true, bases...)
	}
}

func (n *network) left(nick string) {
	n.mu.Lock()
	last := n.peers.remove(nick)
	n.mu.Unlock()
	if last && n.b.out.Load() == n {
		n.b.tellPeers(false, baseNick(nick))
	}
}

// adopted is called when we begin to speak here: peers known from elsewhere have a while to come, too.
func (n *network) adopted() {
	n.mu.Lock()
	n.sweepAt = time.Now().Add(n.b.t.grace)
	bases := make([]string, 0, len(n.peers.bases))
	for base := range n.peers.bases {
		bases = append(bases, base)
	}
	n.mu.Unlock()
	n.b.tellPeers(true, bases...)
}

// sweep tells that those are gone who were here before we were away and have not come back in time.
func (n *network) sweep(now time.Time) {
	n.mu.Lock()
	due := n.up && !n.sweepAt.IsZero() && now.After(n.sweepAt)
	if due {
		n.sweepAt = time.Time{}
	}
	n.mu.Unlock()
	if !due || n.b.out.Load() != n {
		return
	}
	for _, nick := range n.b.toldHere() {
		n.mu.Lock()
		here := n.peers.bases[nick] > 0
		n.mu.Unlock()
		if !here {
			n.b.tellPeers(false, nick)
		}
	}
}
