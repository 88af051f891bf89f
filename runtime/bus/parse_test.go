package bus

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

func TestParseMessage(t *testing.T) {
	for line, want := range map[string]string{
		":nick!user@host PRIVMSG #kms :hello  there ": `"nick!user@host" "PRIVMSG" ["#kms" "hello  there "]`,
		"PING x":                             `"" "PING" ["x"]`,
		"PING :":                             `"" "PING" [""]`,
		"@time=1;x=y :s 005 me  A=1   B :ok": `"s" "005" ["me" "A=1" "B" "ok"]`,
		":s 353 a = #c :@a b":                `"s" "353" ["a" "=" "#c" "@a b"]`,
		"C 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16": `"" "C" ["1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15 16"]`,
	} {
		var m message
		if !parseMessage([]byte(line), &m) {
			t.Errorf("%q: no message", line)
			continue
		}
		if got := fmt.Sprintf("%q %q %q", m.prefix, m.command, m.params); got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
	for _, line := range []string{"", " ", ":prefix", ":prefix ", "@tag"} {
		if parseMessage([]byte(line), &message{}) {
			t.Errorf("%q passes for a message", line)
		}
	}
}

// What a server sends may be anything: the whole reader's way is fuzzed, with a link's seal as often as without.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		":a!b@c PRIVMSG #kms :x", "PING :t", ":ua-a!kms@h JOIN :#kms", ":s 005 me LINELEN=4096 :ok", ":s 353 me = #kms :@a b ~c",
		":x!y@z KICK #kms ua-a :out", ":ua-a!kms@h NICK other", "ERROR :bye", ":s 433 * ua-a :taken", ":s PONG s :u1", ":s 396 a b",
		":s PONG s :l", ":s PONG s :j", "422", ":s 404 a #kms.1 :no", "PRIVMSG", "QUIT", "JOIN", "KICK", "NICK", "353 a b #kms", "396", "404", "474",
	} {
		f.Add([]byte(seed), []byte("E2:{}"))
	}
	f.Add([]byte("PING :x"), []byte(`E20:{"v":1,"k":"change"}F1.2.3:abcF2.2.1:dZ9:`))
	f.Add([]byte("PING :x"), []byte("F1.1.20:{\"v\":1,\"k\":\"change\"}"))
	f.Fuzz(func(t *testing.T, line, items []byte) {
		n := newNetwork(Open(Config{}), Link{Kind: NgIRCd, Key: []byte("0123456789abcdef"), Channels: 4})
		defer n.b.Close()
		s := newSession(n, nil, "server")
		s.nick = "ua-a"
		var m message
		if parseMessage(line, &m) {
			_ = s.handle(&m)
		}
		body := append([]byte{lineFormat}, items...)
		sealed := append(bytes.Clone(s.seal.seal([]byte("#kms"), body)), body...)
		if err := s.privmsg(&message{params: [][]byte{[]byte("#kms"), sealed}}); err != nil {
			t.Error(err)
		}
		if n.b.Stats().Refused > 1 {
			t.Error("our own seal is refused")
		}
		for _, text := range n.control {
			if strings.Contains(text, "\n") && !bytes.Contains(line, []byte("\n")) {
				t.Errorf("command %q has a line break", text)
			}
		}
	})
}

func FuzzItems(f *testing.F) {
	f.Add([]byte("E3:abcF1.2.3:defQ0:"))
	f.Add([]byte("E9999999999:"))
	f.Fuzz(func(t *testing.T, items []byte) {
		for len(items) > 0 {
			it, rest, err := nextItem(items)
			if err != nil {
				return
			}
			if it.kind == 'E' || it.kind == 'F' {
				again, _, err := nextItem(appendItem(nil, &it))
				if err != nil || !bytes.Equal(again.data, it.data) || again.kind != it.kind {
					t.Fatalf("%+v comes back as %+v, %v", it, again, err)
				}
				if it.kind == 'F' && (again.part != it.part || again.parts != it.parts) {
					t.Fatalf("%+v comes back as %+v", it, again)
				}
				if got := len(appendItem(nil, &it)) - len(it.data); got != it.headLen() {
					t.Fatalf("head of %d bytes, headLen says %d", got, it.headLen())
				}
			}
			items = rest
		}
	})
}

func TestSplit_keepsCharactersWhole(t *testing.T) {
	text := []byte(strings.Repeat("aé日本🎉", 300))
	for size := utf8.UTFMax; size < 40; size++ {
		pieces := split(text, size)
		if len(text)/size > maxParts {
			continue
		}
		if !bytes.Equal(slices.Concat(pieces...), text) {
			t.Fatalf("size %d: the pieces are not the text", size)
		}
		for _, p := range pieces {
			if len(p) > size || !utf8.Valid(p) {
				t.Fatalf("size %d: piece %q", size, p)
			}
		}
	}
	if split(make([]byte, 100*maxParts), 50) != nil {
		t.Error("more parts than a receiver takes")
	}
}

func TestAssembler_dropsWhatHasAHole(t *testing.T) {
	var a assembler
	part := func(from string, part, parts int, data string) string {
		return string(a.add(from, &item{kind: 'F', part: part, parts: parts, data: []byte(data)}))
	}
	part("a", 1, 3, "x")
	part("b", 1, 2, "left")
	if got := part("a", 3, 3, "z"); got != "" {
		t.Errorf("a hole passes: %q", got)
	}
	if got := part("a", 2, 3, "y"); got != "" {
		t.Errorf("a hole was filled out of order: %q", got)
	}
	if got := part("b", 2, 2, "right"); got != "leftright" {
		t.Errorf("got %q from b", got)
	}
	part("a", 1, 2, "old")
	part("a", 1, 2, "new")
	if got := part("a", 2, 2, "er"); got != "newer" {
		t.Errorf("got %q after a new beginning", got)
	}
	part("a", 1, maxParts+1, strings.Repeat("x", 1000))
	for i := range maxParts {
		if part("a", i+2, maxParts+1, strings.Repeat("x", 1000)) != "" {
			t.Fatal("more is kept than an envelope may have")
		}
	}
	part("a", 1, 2, strings.Repeat("x", envelope.MaxBytes))
	if part("a", 2, 2, "x") != "" {
		t.Error("parts make more than an envelope may have")
	}
	if len(a.partials) != 0 {
		t.Errorf("%d partials are left", len(a.partials))
	}
}

func TestAssembler_forgetsWhatNeverBecameWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a assembler
		for i := range manyPartials {
			a.add(fmt.Sprint("dead-", i), &item{kind: 'F', part: 1, parts: 2})
		}
		time.Sleep(partialLife + time.Second)
		a.add("b", &item{kind: 'F', part: 1, parts: 2})
		if len(a.partials) != 1 {
			t.Errorf("%d partials are kept", len(a.partials))
		}
	})
}

// TestAssembler_isBounded: parts whose others never come, from more senders than there are.
func TestAssembler_isBounded(t *testing.T) {
	for size, senders := range map[int]int{1: 3 * maxPartials, 4000: 3 * partialBytes / 4000} {
		var a assembler
		data := make([]byte, size)
		for i := range senders {
			a.add(strconv.Itoa(i), &item{kind: 'F', part: 1, parts: 2, data: data})
			held := 0
			if i%1000 == 0 {
				for _, p := range a.partials {
					held += len(p.data)
				}
			}
			if len(a.partials) > maxPartials || held > partialBytes {
				t.Fatalf("%d unfinished envelopes with %d bytes are kept", len(a.partials), held)
			}
		}
		if a.add("new", &item{kind: 'F', part: 1, parts: 2, data: data}); a.add("new", &item{kind: 'F', part: 2, parts: 2, data: data}) == nil {
			t.Errorf("nothing is put together any more after %d parts of %d bytes", senders, size)
		}
	}
}

// The hash is part of the wire: all builds that ever share a link must agree on it.
func TestLink_indexIsFrozen(t *testing.T) {
	l := Link{Channels: 64}
	for _, c := range []struct {
		tenant, channel string
		want            int
	}{{"demo", "lobby", 15}, {"demo", "lobb", 59}, {"demol", "obby", 63}, {"_probe", "p", 58}, {"demo", "", 0}} {
		if got := l.index(c.tenant, c.channel); got != c.want {
			t.Errorf("index(%q, %q) = %d, want %d", c.tenant, c.channel, got, c.want)
		}
	}
	spread := make([]int, 65)
	for i := range 6400 {
		spread[l.index("demo", fmt.Sprint("guild-", i))]++
	}
	if slices.Max(spread) > 150 || slices.Min(spread[1:]) < 60 {
		t.Errorf("6,400 guilds spread over 64 channels as %v", spread)
	}
	for i := range 100 {
		if got := channelIndex([]byte(channelName(i))); got != i {
			t.Errorf("channel %q is taken for %d", channelName(i), got)
		}
	}
	for _, name := range []string{"#kms.", "#kms.0", "#kms.-1", "#kms5", "#other", "#kms.x", ""} {
		if got := channelIndex([]byte(name)); got != -1 {
			t.Errorf("channel %q is taken for %d", name, got)
		}
	}
}

func TestLink_Check(t *testing.T) {
	good := FromPB(&pb.Link{
		Name: "main", Kind: "inspircd", Servers: []string{"127.0.0.1:6667", "[::1]:6667"}, Key: make([]byte, 32), Channels: 64, MaxLine: 4096, Active: true,
	})
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Link){
		"unknown kind":       func(l *Link) { l.Kind = "unreal" },
		"names no server":    func(l *Link) { l.Servers = nil },
		"want host:port":     func(l *Link) { l.Servers = []string{"irc.example"} },
		"want a port":        func(l *Link) { l.Servers = []string{"irc.example:99999"} },
		"key has 3 bytes":    func(l *Link) { l.Key = []byte("abc") },
		"0 channels":         func(l *Link) { l.Channels = 0 },
		"lines of 100 bytes": func(l *Link) { l.MaxLine = 100 },
		"the password has":   func(l *Link) { l.Password = "secret\r\nOPER x" },
		"no PEM certificate": func(l *Link) { l.TLSCA = "x" },
	} {
		bad := good
		change(&bad)
		err := bad.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if got := Active([]Link{{Name: "a"}, {Name: "b", Active: true}, {Name: "c", Active: true}}); got.Name != "b" {
		t.Errorf("active is %q", got.Name)
	}
}
