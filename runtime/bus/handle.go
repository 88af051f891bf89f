package bus

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/kmsctl/kms/runtime/envelope"
)

// handlers are what we do about each command or numeric; what is not here is of no interest. They run on the reader.
var handlers map[string]func(*session, *message) error

func init() {
	handlers = map[string]func(*session, *message) error{
		"PRIVMSG": (*session).privmsg,
		"PING":    (*session).pinged,
		"PONG":    (*session).ponged,
		"JOIN":    (*session).joined,
		"PART":    (*session).parted,
		"KICK":    (*session).kicked,
		"QUIT":    (*session).peerQuit,
		"NICK":    (*session).renamed,
		"ERROR":   (*session).ended,
		"002":     (*session).software,
		"005":     (*session).isupport,
		"353":     (*session).names,
		"376":     (*session).welcomed, // the end of what a server says first
		"422":     (*session).welcomed,
		"396":     (*session).hostChanged,
		"401":     (*session).nobodyThere,
		"403":     (*session).nobodyThere,
		"481":     (*session).nobodyThere, // ngIRCd takes an unknown channel with a dot for a mask of hosts
		"404":     (*session).sendRefused,
		"432":     (*session).nickRefused,
		"433":     (*session).nickRefused,
		"436":     (*session).nickRefused,
		"437":     (*session).nickRefused,
		"405":     (*session).joinRefused,
		"471":     (*session).joinRefused,
		"473":     (*session).joinRefused,
		"474":     (*session).joinRefused,
		"475":     (*session).joinRefused,
		"476":     (*session).joinRefused,
		"477":     (*session).joinRefused,
	}
}

func (s *session) handle(m *message) error {
	if h := handlers[string(m.command)]; h != nil {
		return h(s, m)
	}
	return nil
}

// privmsg takes envelopes out of a sealed line. Anyone may have sent it.
func (s *session) privmsg(m *message) error {
	if len(m.params) != 2 {
		return nil
	}
	items, err := s.seal.open(m.params[0], m.params[1])
	if err != nil {
		s.drop(m, len(m.params[1]), err)
		return nil
	}
	for len(items) > 0 {
		it, rest, err := nextItem(items)
		if err != nil {
			s.drop(m, len(m.params[1]), err)
			return nil
		}
		items = rest
		switch it.kind {
		case 'E':
			s.deliver(m, it.data)
		case 'F':
			if whole := s.asm.add(string(m.nick())+" "+string(m.params[0]), &it); whole != nil {
				s.deliver(m, whole)
			}
		}
	}
	return nil
}

// drop counts what is not delivered.
func (s *session) drop(m *message, size int, err error) {
	if err == errSeal {
		s.n.b.count.refused.Add(1)
	} else {
		s.n.b.count.malformed.Add(1)
	}
	if s.n.b.cfg.Watch != nil {
		s.n.b.cfg.Watch(Seen{Nick: string(m.nick()), Size: size, Refused: err})
	}
}

func (s *session) deliver(m *message, data []byte) {
	e, err := envelope.Parse(data)
	if err != nil {
		s.drop(m, len(data), err)
		return
	}
	s.n.b.count.envelopesIn.Add(1)
	if s.n.b.cfg.Watch != nil {
		s.n.b.cfg.Watch(Seen{Nick: string(m.nick()), Size: len(data), Envelope: e})
	}
	if s.n.b.cfg.Receive != nil {
		s.n.b.cfg.Receive(e)
	}
}

func (s *session) pinged(m *message) error {
	s.n.command("PONG :" + string(m.last()))
	return nil
}

func (s *session) ponged(m *message) error {
	token := string(m.last())
	switch {
	case strings.HasPrefix(token, tokenBarrier):
		select {
		case s.passed <- struct{}{}:
		default:
		}
	case token == tokenLive:
		if sent := s.pingAt.Swap(0); sent != 0 {
			s.n.b.count.lag.Store(time.Now().UnixNano() - sent)
		}
	case token == tokenJoined:
		return s.ready()
	case strings.HasPrefix(token, tokenAsked):
		s.n.mu.Lock()
		if waiting := s.n.pings[token]; waiting != nil {
			delete(s.n.pings, token)
			waiting <- struct{}{}
		}
		s.n.mu.Unlock()
	}
	return nil
}

// welcomed lets the writer join our channels.
func (s *session) welcomed(*message) error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.registered {
		return nil
	}
	s.registered = true
	clear(s.n.dirty)
	s.n.dirty[0] = struct{}{}
	for index := range s.n.interest {
		s.n.dirty[index] = struct{}{}
	}
	s.n.poke()
	return nil
}

// ready follows the JOINs: the answer to our own told us how others see us.
func (s *session) ready() error {
	if s.self == "" {
		return fmt.Errorf("the server did not let us join %s", control)
	}
	s.n.mu.Lock()
	s.n.up, s.n.detail = true, ""
	s.n.sweepAt = time.Now().Add(s.n.b.t.grace)
	s.n.mu.Unlock()
	s.n.b.count.connects.Add(1)
	s.n.log.Info("the bus is connected", "server", s.server, "nick", s.nick)
	s.n.b.tellState()
	return nil
}

func (s *session) joined(m *message) error {
	if string(m.nick()) == s.nick {
		s.setSelf(string(m.prefix))
		return nil
	}
	if string(m.param(0)) == control {
		s.n.came(string(m.nick()))
	}
	return nil
}

// setSelf computes what receivers see around our texts: `:prefix PRIVMSG channel :text` and CRLF.
func (s *session) setSelf(prefix string) {
	s.self = prefix
	s.n.mu.Lock()
	s.n.nick = s.nick
	s.n.overhead = len(":") + len(prefix) + len(" PRIVMSG ") + len(" :") + len("\r\n")
	s.n.mu.Unlock()
}

func (s *session) hostChanged(m *message) error {
	user, _, ok := strings.Cut(s.self, "@")
	if !ok || len(m.params) < 2 {
		return nil
	}
	host := string(m.params[1])
	if strings.Contains(host, "@") {
		user, _, _ = strings.Cut(s.self, "!")
		s.setSelf(user + "!" + host)
		return nil
	}
	s.setSelf(user + "@" + host)
	return nil
}

func (s *session) parted(m *message) error {
	if string(m.param(0)) == control {
		s.n.left(string(m.nick()))
	}
	return nil
}

func (s *session) peerQuit(m *message) error {
	s.n.left(string(m.nick()))
	return nil
}

// kicked joins again what somebody threw us out of.
func (s *session) kicked(m *message) error {
	index := channelIndex(m.param(0))
	if string(m.param(1)) != s.nick {
		if index == 0 {
			s.n.left(string(m.param(1)))
		}
		return nil
	}
	if index >= 0 {
		s.n.rejoin(index)
	}
	return nil
}

func (n *network) rejoin(index int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.on, index)
	n.dirty[index] = struct{}{}
	n.poke()
}

// renamed is also what InspIRCd does to nicks that collide as servers find each other. Under a name that is not ours the others
// would take us for dead.
func (s *session) renamed(m *message) error {
	from, to := string(m.nick()), string(m.last())
	if from != s.nick {
		s.n.came(to)
		s.n.left(from)
		return nil
	}
	if baseNick(to) != baseNick(from) {
		s.n.loseNick()
		return fmt.Errorf("the server renamed us to %q", printable([]byte(to)))
	}
	s.nick = to
	if _, rest, ok := strings.Cut(s.self, "!"); ok {
		s.setSelf(to + "!" + rest)
	}
	return nil
}

// printable makes a server's words fit for a log and a terminal.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(text[:min(len(text), 200)]), ""))
}

func (s *session) ended(m *message) error {
	s.reason = printable(m.last())
	if strings.Contains(strings.ToLower(s.reason), "collision") { // ngIRCd throws both out
		s.n.loseNick()
	}
	return nil
}

func (s *session) software(m *message) error {
	_, version, _ := strings.Cut(string(m.last()), "running version ")
	s.n.mu.Lock()
	s.n.software = printable([]byte(version))
	s.n.mu.Unlock()
	return nil
}

// isupport learns the length of a line where the server tells it, as InspIRCd does.
func (s *session) isupport(m *message) error {
	for _, p := range m.params {
		value, ok := bytes.CutPrefix(p, []byte("LINELEN="))
		length, err := strconv.Atoi(string(value))
		if !ok || err != nil || length < minLine {
			continue
		}
		n := s.n
		n.mu.Lock()
		if n.link.MaxLine == 0 || length < n.link.MaxLine {
			n.lineLen = min(length, maxLine)
		}
		n.mu.Unlock()
		if length < n.link.MaxLine {
			n.log.Warn("the server's lines are shorter than the link says", "server", s.server, "max_line", n.link.MaxLine, "linelen", length)
		}
	}
	return nil
}

// names tells who was on the control channel before us.
func (s *session) names(m *message) error {
	if len(m.params) < 4 || string(m.params[2]) != control {
		return nil
	}
	var nicks []string
	for _, name := range strings.Fields(string(m.last())) {
		if nick := strings.TrimLeft(name, "~&@%+!"); nick != s.nick {
			nicks = append(nicks, nick)
		}
	}
	s.n.came(nicks...)
	return nil
}

// nobodyThere: the channel does not exist, so nobody would have heard the line.
func (s *session) nobodyThere(*message) error { return nil }

// sendRefused is a server that takes no lines from outside a channel: from now on we join before we speak. What was refused is
// read from the log.
func (s *session) sendRefused(m *message) error {
	n := s.n
	n.b.count.rejected.Add(1)
	n.mu.Lock()
	first := !n.joinFirst
	n.joinFirst = true
	n.mu.Unlock()
	if first {
		n.log.Info("the server takes no lines from outside a channel; channels are joined to speak there", "server", s.server)
	}
	return nil
}

func (s *session) joinRefused(m *message) error {
	s.n.b.count.rejected.Add(1)
	s.n.log.Warn("the server refuses a channel", "server", s.server, "channel", string(m.param(1)), "reason", printable(m.last()))
	return nil
}

// nickRefused tries another: with a suffix where the nick is taken, a short one where the server finds it too long.
func (s *session) nickRefused(m *message) error {
	if s.self != "" || bytes.HasPrefix(m.param(1), []byte("#")) { // 437 also speaks of channels
		return nil
	}
	base := s.n.b.nick
	if string(m.command) == "432" {
		base = base[:min(len(base), 4)]
	}
	s.nick = otherNick(base)
	s.n.command("NICK " + s.nick)
	return nil
}
