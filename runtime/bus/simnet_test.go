package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// simNet is an IRC network in memory, for synctest. Its servers cut long lines bytewise, rename nicks that collide, freeze, die and
// lose each other, as FACTS about real ones say.
type simNet struct {
	mu      sync.Mutex
	lineLen int
	servers map[string]*simServer
	dials   []simDial
	renamed int
}

type simDial struct {
	at     time.Time
	server string
}

type simServer struct {
	island  int // servers of one island hear each other
	down    bool
	mute    bool          // says nothing to who comes
	deaf    bool          // does not answer PING
	thaw    chan struct{} // closed unless it is frozen
	clients map[*simClient]bool
}

type simClient struct {
	net    *simNet
	server *simServer
	conn   net.Conn
	out    chan string
	nick   string
	known  bool // has said USER
	on     map[string]bool
}

func newSimNet(lineLen int, servers ...string) *simNet {
	n := &simNet{lineLen: lineLen, servers: map[string]*simServer{}}
	for _, name := range servers {
		n.servers[name] = &simServer{thaw: make(chan struct{}), clients: map[*simClient]bool{}}
		close(n.servers[name].thaw)
	}
	return n
}

func (n *simNet) dial(_ context.Context, _ Link, server string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials = append(n.dials, simDial{time.Now(), server})
	s := n.servers[server]
	if s == nil || s.down {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	c := &simClient{net: n, server: s, conn: theirs, out: make(chan string, 1<<15), on: map[string]bool{}}
	s.clients[c] = true
	go c.read()
	go c.write()
	return ours, nil
}

// set changes a server.
func (n *simNet) set(server string, change func(*simServer)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n.servers[server])
}

// kill ends a server's connections and refuses new ones until it is started again.
func (n *simNet) kill(server string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[server].down = true
	for c := range n.servers[server].clients {
		n.quitLocked(c)
	}
}

func (n *simNet) start(server string) { n.set(server, func(s *simServer) { s.down = false }) }

// freeze stops a server: it takes no line and sends none until it is thawed.
func (n *simNet) freeze(server string) {
	n.set(server, func(s *simServer) {
		select {
		case <-s.thaw:
			s.thaw = make(chan struct{})
		default:
		}
	})
}

func (n *simNet) unfreeze(server string) {
	n.set(server, func(s *simServer) {
		select {
		case <-s.thaw:
		default:
			close(s.thaw)
		}
	})
}

// split takes a server to an island; those who no longer see each other are told QUIT, those who now do JOIN.
func (n *simNet) split(server string, island int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.servers[server]
	if s.island == island {
		return
	}
	here := n.membersLocked(s.island)
	s.island = island
	for _, a := range here {
		for _, b := range here {
			if a.server.island != b.server.island {
				b.send(":%s!kms@sim QUIT :*.net *.split", a.nick)
			}
		}
	}
	n.joinLocked(s)
}

// joinLocked makes a server one of its island: nicks that two have are taken from both, and all learn who is where.
func (n *simNet) joinLocked(s *simServer) {
	all := n.membersLocked(s.island)
	for _, a := range all {
		for _, b := range all {
			if a.server == s && b.server != s && a.nick == b.nick {
				n.renameLocked(a)
				n.renameLocked(b)
			}
		}
	}
	for _, a := range all {
		for _, b := range all {
			if (a.server == s) != (b.server == s) {
				for channel := range a.on {
					if b.on[channel] {
						b.send(":%s!kms@sim JOIN %s", a.nick, channel)
					}
				}
			}
		}
	}
}

func (n *simNet) renameLocked(c *simClient) {
	n.renamed++
	before := c.nick
	c.nick = fmt.Sprintf("%dAAAAAAAB", n.renamed)
	for o := range c.server.clients {
		o.send(":%s!kms@sim NICK %s", before, c.nick)
	}
}

func (n *simNet) membersLocked(island int) (list []*simClient) {
	for _, s := range n.servers {
		for c := range s.clients {
			if s.island == island && c.known && c.nick != "" {
				list = append(list, c)
			}
		}
	}
	return list
}

func (n *simNet) quitLocked(c *simClient) {
	if !c.server.clients[c] {
		return
	}
	delete(c.server.clients, c)
	close(c.out)
	c.conn.Close()
	for _, o := range n.membersLocked(c.server.island) {
		o.send(":%s!kms@sim QUIT :gone", c.nick)
	}
}

// send queues a line, cut as a server cuts it. The network is locked.
func (c *simClient) send(format string, args ...any) {
	if c.server.mute {
		return
	}
	line := fmt.Sprintf(format, args...)
	select {
	case c.out <- line[:min(len(line), c.net.lineLen-2)] + "\r\n":
	default: // its sendq is full
	}
}

func (c *simClient) frozen() {
	c.net.mu.Lock()
	thaw := c.server.thaw
	c.net.mu.Unlock()
	<-thaw
}

func (c *simClient) write() {
	for line := range c.out {
		c.frozen()
		if _, err := c.conn.Write([]byte(line)); err != nil {
			c.conn.Close() // the reader cleans up
		}
	}
}

func (c *simClient) read() {
	in := bufio.NewReader(c.conn)
	for {
		c.frozen()
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		c.frozen()
		c.net.mu.Lock()
		c.handleLocked(strings.TrimSuffix(line, "\r\n"))
		c.net.mu.Unlock()
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.net.quitLocked(c)
}

func (c *simClient) handleLocked(line string) {
	if !c.server.clients[c] {
		return
	}
	command, rest, _ := strings.Cut(line, " ")
	switch command {
	case "NICK":
		for _, o := range c.net.membersLocked(c.server.island) {
			if o != c && o.nick == rest {
				c.send(":s 433 * %s :in use", rest)
				return
			}
		}
		c.nick = rest
		c.welcomeLocked()
	case "USER":
		c.known = true
		c.welcomeLocked()
	case "PING":
		if !c.server.deaf {
			c.send(":s PONG s %s", rest)
		}
	case "JOIN":
		for _, channel := range strings.Split(rest, ",") {
			c.joinLocked(channel)
		}
	case "PART":
		for _, channel := range strings.Split(rest, ",") {
			delete(c.on, channel)
			c.tellLocked(channel, true, "PART "+channel)
		}
	case "PRIVMSG":
		channel, _, _ := strings.Cut(rest, " ")
		c.tellLocked(channel, false, line)
	case "QUIT":
		c.net.quitLocked(c)
	}
}

func (c *simClient) welcomeLocked() {
	if !c.known || c.nick == "" {
		return
	}
	c.send(":s 001 %s :hello", c.nick)
	c.send(":s 005 %s LINELEN=%d :are supported", c.nick, c.net.lineLen)
	c.send(":s 422 %s :no motd", c.nick)
}

func (c *simClient) joinLocked(channel string) {
	c.on[channel] = true
	c.tellLocked(channel, true, "JOIN "+channel)
	for _, o := range c.net.membersLocked(c.server.island) {
		if o.on[channel] {
			c.send(":s 353 %s = %s :%s", c.nick, channel, o.nick)
		}
	}
}

// tellLocked passes a line to all on the channel that the client's server can reach.
func (c *simClient) tellLocked(channel string, itself bool, line string) {
	for _, o := range c.net.membersLocked(c.server.island) {
		if o == c && itself || o != c && o.on[channel] {
			o.send(":%s!kms@sim %s", c.nick, line)
		}
	}
}
