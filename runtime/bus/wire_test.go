package bus

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestBus_refusesForeignLines(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a := upPeer(t, link, "ua-a")
		otherKey := link
		otherKey.Key = []byte("another key of at least 16 bytes")
		upPeer(t, otherKey, "mallory").Publish(&envelope.Envelope{Kind: envelope.Change})
		testkit.Eventually(t, 5*time.Second, "refused: other key", func() bool { return a.Stats().Refused == 1 })

		body := `1E20:{"v":1,"k":"change"}`
		sealed := func(channel string) string {
			return string(newSealer(link.Key).seal([]byte(channel), []byte(body))) + body
		}
		send := rawClient(t, s)
		send("JOIN #kms")
		send("PRIVMSG #kms :hello there")
		send("PRIVMSG #kms :" + sealed("#kms.3"))
		send("PRIVMSG ua-a :" + sealed("#kms"))
		testkit.Eventually(t, 5*time.Second, "refused: no seal, other channel, no channel", func() bool { return a.Stats().Refused == 4 })
		if a.count() != 0 {
			t.Errorf("heard %+v", a.heard()[0])
		}
		body = "1E22:{}"
		send("PRIVMSG #kms :" + sealed("#kms"))
		body = "2E22:{}"
		send("PRIVMSG #kms :" + sealed("#kms"))
		body = "1E2:{}"
		send("PRIVMSG #kms :" + sealed("#kms"))
		testkit.Eventually(t, 5*time.Second, "malformed: item, format, envelope", func() bool { return a.Stats().Malformed == 3 })
		body = `1Z1.2:abE20:{"v":1,"k":"change"}`
		send("PRIVMSG #kms :" + sealed("#kms"))
		testkit.Eventually(t, 5*time.Second, "an item of a newer build is skipped", func() bool { return a.count() == 1 })
	})
}

// A build of the next format shares the link during an upgrade: what it says is dropped and counted, and nothing around it is.
func TestBus_dropsEnvelopesOfANewerFormat(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	newer := []byte(`{"v":2,"k":"say","t":"demo","c":"lobby","s":2,"x":"two"}`)
	var body []byte
	for _, data := range [][]byte{say("lobby", 1, "one").Append(nil), newer, say("lobby", 3, "three").Append(nil)} {
		body = appendItem(body, &item{kind: 'E', data: data})
	}
	line := func(items []byte) string { return sealedLine("b", "#kms", items) }
	s.send(line(body), line(appendItem(nil, &item{kind: 'E', data: newer})), line(appendItem(nil, &item{kind: 'E', data: say("lobby", 4, "four").Append(nil)})))
	testkit.Eventually(t, 5*time.Second, "what follows is heard", func() bool { return p.count() >= 3 })
	got := ""
	for _, e := range p.heard() {
		got += fmt.Sprint(e.Seq, e.Text, " ")
	}
	if got != "1one 3three 4four " || p.Stats().Malformed != 2 || p.Stats().Refused != 0 || !p.Up() {
		t.Errorf("heard %q, %+v", got, p.Stats())
	}
}

// sealedLine is what startFake's bus takes from a process.
func sealedLine(nick, channel string, items []byte) string {
	text := append([]byte{lineFormat}, items...)
	return ":" + nick + "!kms@host PRIVMSG " + channel + " :" + string(newSealer([]byte("0123456789abcdef")).seal([]byte(channel), text)) + string(text)
}

// Parts of several senders, and of one sender on several channels, come in turns.
func TestBus_partsThatCross(t *testing.T) {
	t.Parallel()
	s, p := startFake(t, &Link{Kind: InspIRCd})
	froms := []struct{ nick, channel string }{{"b", "#kms.1"}, {"c", "#kms.1"}, {"b", "#kms.2"}}
	var pieces [][][]byte
	for i := range froms {
		pieces = append(pieces, split(say("lobby", 0, strings.Repeat(fmt.Sprint(i), 300)).Append(nil), 200))
	}
	for part := range pieces[0] {
		for i, from := range froms {
			it := item{kind: 'F', part: part + 1, parts: len(pieces[i]), data: pieces[i][part]}
			s.send(sealedLine(from.nick, from.channel, appendItem(nil, &it)))
		}
	}
	testkit.Eventually(t, 5*time.Second, "all three are whole", func() bool { return p.count() == 3 })
	for i, e := range p.heard() {
		if e.Text != strings.Repeat(fmt.Sprint(i), 300) {
			t.Errorf("number %d came as %q", i, e.Text)
		}
	}
}

// rawClient speaks plain IRC to the server.
func rawClient(t *testing.T, s *testkit.IRCServer) func(line string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	welcome, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf, seen, open := make([]byte, 4096), "", false
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if seen += string(buf[:n]); !open && strings.Contains(seen, " 001 ") {
				open = true
				close(welcome)
			}
		}
	}()
	send := func(line string) {
		if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
			t.Error(err)
		}
	}
	send("PASS " + s.Password)
	send("NICK raw")
	send("USER raw 0 * :raw")
	select {
	case <-welcome:
	case <-time.After(10 * time.Second):
		t.Fatal("no welcome")
	}
	return send
}

func TestBus_longEnvelopes(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
		b.Join("demo", "lobby")
		b.settled(t)
		long := strings.Repeat("長い文、", 2000)
		logged := say("lobby", 7, long)
		logged.Shadow = true
		a.Publish(logged)
		a.Publish(say("lobby", 0, long))
		a.Publish(say("lobby", 8, "short"))
		testkit.Eventually(t, 10*time.Second, "all three arrive", func() bool { return b.count() == 3 })
		ref, whole, short := b.heard()[0], b.heard()[1], b.heard()[2]
		if !ref.Ref || ref.Text != "" || ref.Seq != 7 || ref.Epoch != "e1" || ref.Channel != "lobby" || !ref.Shadow {
			t.Errorf("reference: %+v", ref)
		}
		if whole.Text != long || whole.Ref || short.Text != "short" {
			t.Errorf("the parts did not come together: %d bytes, want %d", len(whole.Text), len(long))
		}
		if st := a.Stats(); st.Refs != 1 || st.Fragments < 2 || st.Dropped != 0 {
			t.Errorf("stats %+v", st)
		}
		if b.Stats().Refused != 0 {
			t.Error("a line came cut")
		}
	})
}

// What is in no log and longer than any receiver takes is not sent, and counted.
func TestBus_tooLongForParts(t *testing.T) {
	t.Parallel()
	s := testkit.StartIRC(t, InspIRCd)
	a, b := upPeer(t, testLink(s), "ua-a"), upPeer(t, testLink(s), "ua-b")
	b.Join("demo", "lobby")
	b.settled(t)
	a.Publish(say("lobby", 0, strings.Repeat("x", envelope.MaxBytes)))
	a.Publish(say("lobby", 0, "short"))
	testkit.Eventually(t, 10*time.Second, "the next one arrives", func() bool { return b.count() == 1 })
	if st := a.Stats(); st.Dropped != 1 || st.Fragments != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Lines are packed to the last byte that arrives: one more and the server would cut it.
func TestBus_fillsLinesExactly(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
		b.Join("demo", "lobby")
		b.settled(t)
		room := a.Room("demo", "lobby")
		e := say("lobby", 1, "")
		e.Text = strings.Repeat("x", room-len(e.Append(nil))-len(`,"x":""`))
		if got := len(e.Append(nil)); got != room {
			t.Fatalf("the envelope has %d bytes, want %d", got, room)
		}
		a.Publish(e)
		e.Text += "x"
		a.Publish(e)
		testkit.Eventually(t, 5*time.Second, "both arrive", func() bool { return b.count() == 2 })
		if got := b.heard(); got[0].Ref || !got[1].Ref {
			t.Errorf("the one that fits came as reference %v, the one that does not as %v", got[0].Ref, got[1].Ref)
		}
		n := a.out.Load()
		n.mu.Lock()
		n.overhead--
		n.mu.Unlock()
		a.Publish(e)
		testkit.Eventually(t, 5*time.Second, "a line over the limit comes cut", func() bool { return b.Stats().Refused == 1 })
	})
}

func TestBus_closeHandsOverWhatIsQueued(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
		b.Join("demo", "lobby")
		b.settled(t)
		for i := range 500 {
			a.Publish(say("lobby", int64(i+1), "the last words"))
		}
		start := time.Now()
		a.Close()
		if took := time.Since(start); took >= a.t.goodbye {
			t.Errorf("Close took %v: the server was not told QUIT", took)
		}
		testkit.Eventually(t, 5*time.Second, "all arrive", func() bool { return b.count() == 500 })
	})
}

// A JOIN line a few bytes too long loses its last channel: the server cuts the name and joins us to another.
func TestBus_manyChannels(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *testkit.IRCServer) {
		link := testLink(s)
		link.Channels = 2000
		a := openPeer(t, link, "ua-a")
		for i := range 3000 {
			a.Join("demo", fmt.Sprint("c", i))
		}
		a.waitUp(t)
		a.settled(t)
		b := upPeer(t, link, "ua-b")
		for i := range 3000 {
			b.Publish(say(fmt.Sprint("c", i), 1, "x"))
		}
		testkit.Eventually(t, 20*time.Second, "every channel is heard", func() bool { return a.count() == 3000 })
	})
}

// A server whose channels take no lines from outside (+n, InspIRCd's own default) costs the first line, then we join to speak.
func TestBus_joinsWhereOutsidersAreRefused(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{InspIRCd, NgIRCd} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := testkit.StartIRC(t, kind, `defaultmodes=""`, `defaultmodes="n"`)
			link := testLink(s)
			send := rawClient(t, s)
			channel := channelName(link.index("demo", "lobby"))
			send("JOIN " + channel)
			send("MODE " + channel + " +n") // ngIRCd makes the first on a channel its operator
			a, b := upPeer(t, link, "ua-a"), upPeer(t, link, "ua-b")
			testkit.Eventually(t, 5*time.Second, "a is refused", func() bool {
				a.Publish(say("lobby", 1, "refused"))
				a.settled(t)
				return a.Stats().Rejected > 0
			})
			b.Join("demo", "lobby")
			b.settled(t)
			a.Publish(say("lobby", 2, "from inside"))
			testkit.Eventually(t, 5*time.Second, "b hears a", func() bool { return b.count() == 1 })
			if n := a.Stats().Channels; n != 2 {
				t.Errorf("a is on %d channels, want the control channel and the one it speaks on", n)
			}
		})
	}
}

// Servers wait for acknowledgements that the kernel would delay.
func TestQuickAck_acknowledgesAfterEachRead(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, kind := range []string{InspIRCd, NgIRCd} {
		conn, err := dial(t.Context(), Link{Kind: kind}, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		raw := conn.(*quickAck).raw
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
		_, _ = server.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		got := -1
		_ = raw.Control(func(fd uintptr) { got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK) })
		if got != 1 {
			t.Errorf("%s: TCP_QUICKACK is %d after a read, want 1", kind, got)
		}
	}
}
