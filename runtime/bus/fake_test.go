package bus

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// fakeServer is for what real servers do too seldom or never. It lets the bus in and answers PING until the script takes over.
type fakeServer struct {
	t     *testing.T
	conn  net.Conn
	lines chan string // what the bus sends
}

// startFake serves one connection; welcome are extra lines before the end of the MOTD.
func startFake(t *testing.T, link *Link, welcome ...string) (*fakeServer, *peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	link.Servers = []string{l.Addr().String()}
	link.Key, link.Channels, link.Name = []byte("0123456789abcdef"), 4, "fake"
	p := openPeer(t, *link, "ua-a")
	conn, err := l.Accept()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{t: t, conn: conn, lines: make(chan string, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.lines)
		in := bufio.NewScanner(conn)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			s.lines <- in.Text()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	s.expect("USER ")
	s.send(append([]string{":s 001 ua-a :hello", ":s 002 ua-a :Your host is s, running version Fake\x1b[31m-1"}, append(welcome, ":s 422 ua-a :no motd")...)...)
	s.expect("JOIN #kms")
	s.send(":ua-a!kms@host JOIN :#kms")
	s.send("PONG s :" + strings.TrimPrefix(s.expect("PING :"), "PING :"))
	p.waitUp(t)
	return s, p
}

func (s *fakeServer) send(lines ...string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n")); err != nil {
		s.t.Fatal(err)
	}
}

// expect returns the next line with the prefix and skips others.
func (s *fakeServer) expect(prefix string) string {
	s.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the bus closed where %q was due", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-late:
			s.t.Fatalf("no %q", prefix)
		}
	}
}

func TestBus_answersPing(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	s.send("PING :are you there")
	if got := s.expect("PONG"); got != "PONG :are you there" {
		t.Errorf("got %q", got)
	}
	if got := p.Stats().Software; got != "Fake[31m-1" {
		t.Errorf("software %q", got)
	}
	s.send("ERROR :go away")
	s.conn.Close()
	testkit.Eventually(t, 5*time.Second, "why it is down", func() bool { return !p.Up() && strings.Contains(p.Stats().Detail, "refused") })
}

func TestBus_takesLongLineForBroken(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	var err error
	for sent := 0; err == nil; sent += readBuffer { // a gigabyte, as far as it is taken
		if _, err = s.conn.Write(make([]byte, readBuffer)); sent > 32<<20 {
			t.Fatalf("%d bytes without a line's end were taken", sent)
		}
	}
	testkit.Eventually(t, 5*time.Second, "the bus gives the server up", func() bool { return !p.Up() })
}

func TestBus_rejoinsAfterKick(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	s.send(":op!o@h KICK #kms ua-a :out")
	if got := s.expect("JOIN"); got != "JOIN #kms" {
		t.Errorf("got %q", got)
	}
	s.send(":op!o@h NICK :op2", ":ua-a!kms@host NICK :ua-a_zzzz", ":s 396 ua-a a.longer.host :is now your displayed host")
	testkit.Eventually(t, 5*time.Second, "the budget follows the prefix", func() bool {
		want := 512 - len(":ua-a_zzzz!kms@a.longer.host PRIVMSG #kms :\r\n") - lineHead - len("E400:")
		return p.Room("", "") == want
	})
}

// Only who leaves the control channel has gone: the others are those of any users of the same server.
func TestBus_whoIsKickedHasGone(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	s.send(":s 353 ua-a = #elsewhere :stranger", ":s 353 ua-a = #kms :ua-a @ua-b +ua-c",
		":op!o@h KICK #kms.1 ua-b :from that one", ":op!o@h KICK #kms ua-c :from here")
	testkit.Eventually(t, 5*time.Second, "who is kicked has gone", func() bool { return p.happened("gone ua-c") == 1 })
	if p.happened("here ua-b") != 1 || p.happened("gone ua-b") != 0 || p.happened("here stranger") != 0 || p.happened("here ua-a") != 0 {
		t.Errorf("told %q", p.events)
	}
}

func TestBus_waitsAtBarriers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		link    Link
		linelen string
		line    int
		barrier int
	}{
		{"inspircd with its defaults", Link{Kind: InspIRCd}, "512", 512, 8 << 10},
		{"inspircd tuned, told by the server", Link{Kind: InspIRCd}, "4096", 4096, 32 << 10},
		{"inspircd tuned, told by the link", Link{Kind: InspIRCd, MaxLine: 2048}, "4096", 2048, 32 << 10},
		{"inspircd not tuned, though the link says so", Link{Kind: InspIRCd, MaxLine: 4096}, "512", 512, 8 << 10},
		{"ngircd", Link{Kind: NgIRCd}, "", 512, 32 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := startFake(t, &c.link, ":s 005 ua-a LINELEN="+c.linelen+" :are supported")
			if got := p.Stats().MaxLine; got != c.line {
				t.Errorf("lines of %d bytes, want %d", got, c.line)
			}
			for i := range 1000 {
				p.Publish(say("lobby", int64(i+1), strings.Repeat("x", 100)))
			}
			for range 3 {
				bytes := 0
				for {
					line := s.expect("")
					if token, ok := strings.CutPrefix(line, "PING :"+tokenBarrier); ok {
						if bytes > c.barrier || bytes < c.barrier/2 {
							t.Errorf("%d bytes before a barrier, want at most %d", bytes, c.barrier)
						}
						select {
						case line := <-s.lines:
							if !strings.HasPrefix(line, "PING :"+tokenLive) {
								t.Fatalf("%.20q passes the barrier", line)
							}
						case <-time.After(20 * time.Millisecond):
						}
						s.send(fmt.Sprint("PONG s :", tokenBarrier, token))
						break
					}
					bytes += len(line) + 2
				}
			}
		})
	}
}
