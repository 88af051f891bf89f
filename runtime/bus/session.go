package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Tokens of our PINGs by what waits for the PONG.
const (
	tokenBarrier = "b"
	tokenLive    = "l"
	tokenAsked   = "u"
	tokenJoined  = "j"
)

const readBuffer = 64 << 10

// session is one TCP connection to a server. Three goroutines serve it: a reader, a writer and the one that called serve,
// which watches the clock.
type session struct {
	n      *network
	conn   net.Conn
	server string
	dead   chan struct{} // closed when the connection is
	passed chan struct{} // the barrier's PONG came
	began  time.Time

	lastRead atomic.Int64 // when the server last said anything, Unix nanoseconds
	pingAt   atomic.Int64 // when the open PING was sent, 0 without one

	registered bool // under n.mu: the server takes JOIN and PRIVMSG

	// The reader's own.
	seal   *sealer
	asm    assembler
	nick   string
	self   string // our prefix as others see it
	reason string // of the server's ERROR

	// The writer's own.
	w writer
}

func newSession(n *network, conn net.Conn, server string) *session {
	s := &session{
		n: n, conn: conn, server: server, dead: make(chan struct{}), passed: make(chan struct{}, 1), began: time.Now(),
		seal: newSealer(n.link.Key), nick: n.firstNick(),
	}
	s.lastRead.Store(s.began.UnixNano())
	s.w = writer{s: s, seal: newSealer(n.link.Key)}
	return s
}

// serve runs the connection until it breaks or ctx ends; the error is never nil.
func (s *session) serve(ctx context.Context) error {
	s.register()
	results := make(chan error, 2)
	go func() { results <- s.read() }()
	go func() { results <- s.w.run() }()
	ticker := time.NewTicker(s.n.b.t.tick)
	defer ticker.Stop()
	var err error
	quit, goodbye := ctx.Done(), (<-chan time.Time)(nil)
	running, last := 2, time.Now()
	for err == nil {
		select {
		case <-quit:
			s.askQuit()
			quit, goodbye = nil, time.After(s.n.b.t.goodbye)
		case <-goodbye:
			err = context.Cause(ctx)
		case e := <-results:
			running--
			err = e
		case now := <-ticker.C:
			if now.Sub(last) > s.n.b.t.silence/2 { // it was us who did not run
				s.lastRead.Store(now.UnixNano())
			}
			last = now
			err = s.check(now)
			s.n.sweep(now)
		}
	}
	s.conn.Close()
	close(s.dead)
	for ; running > 0; running-- {
		<-results
	}
	if s.reason != "" {
		return fmt.Errorf("the server said %q", s.reason)
	}
	return err
}

// register readies the network for a new connection and queues what introduces us.
func (s *session) register() {
	n := s.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server, n.nick, n.software = s.server, s.nick, ""
	n.lineLen = max(n.link.MaxLine, minLine)
	n.control = nil
	if n.link.Password != "" {
		n.control = append(n.control, "PASS :"+n.link.Password)
	}
	n.control = append(n.control, "NICK "+s.nick, "USER kms 0 * :kms")
	n.poke()
}

func (s *session) askQuit() {
	s.n.mu.Lock()
	s.n.quit = true
	s.n.mu.Unlock()
	s.n.poke()
}

// check finds a server that is stuck and keeps the PINGs going that show it.
func (s *session) check(now time.Time) error {
	t := s.n.b.t
	if silent := now.Sub(time.Unix(0, s.lastRead.Load())); silent > t.silence {
		return fmt.Errorf("the server has said nothing for %v", silent.Round(100*time.Millisecond))
	}
	up := s.n.isUp()
	if !up && now.Sub(s.began) > t.register {
		return fmt.Errorf("the server did not let us in within %v", t.register)
	}
	open := s.pingAt.Load()
	if open != 0 && now.Sub(time.Unix(0, open)) > 4*t.silence { // it speaks, but does not listen
		return errors.New("the server does not answer PING")
	}
	if up && open == 0 && now.UnixNano()-s.w.lastPing.Load() > int64(t.pingEvery) {
		s.w.lastPing.Store(now.UnixNano())
		s.pingAt.Store(now.UnixNano())
		s.n.command("PING :" + tokenLive)
	}
	return nil
}

// read takes lines off the connection until it ends.
func (s *session) read() error {
	buf := make([]byte, readBuffer)
	end := 0
	var m message
	for {
		got, err := s.conn.Read(buf[end:])
		if got > 0 {
			s.lastRead.Store(time.Now().UnixNano())
			s.n.b.count.bytesIn.Add(uint64(got))
		}
		end += got
		start := 0
		for {
			i := bytes.IndexByte(buf[start:end], '\n')
			if i < 0 {
				break
			}
			line := bytes.TrimSuffix(buf[start:start+i], []byte("\r"))
			start += i + 1
			s.n.b.count.linesIn.Add(1)
			if parseMessage(line, &m) {
				if err := s.handle(&m); err != nil {
					return err
				}
			}
		}
		end = copy(buf, buf[start:end])
		if err != nil {
			return err
		}
		if end == len(buf) {
			return fmt.Errorf("the server sent a line of more than %d bytes", end)
		}
	}
}
