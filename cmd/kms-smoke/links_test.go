package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/irclink"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestLinks_switchedUnderTraffic: while users of both versions and a game server talk, a linked network that `irc config` wrote is
// added, made the bus, left again and removed. The first address of its link is dead.
func TestLinks_switchedUnderTraffic(t *testing.T) {
	testkit.Need(t, "inspircd")
	ctx := testContext(t, 120*time.Second)
	s := testStory(t, ctx, "up", options{ircd: "inspircd"})
	dir := testkit.ShortDir(t)
	addresses := startNetwork(t, ctx, s, dir)
	dead := testkit.FreeAddr(t)
	chat, posts := startChatter(s.aki, s.ben), startCalls(s.game, lobby)
	defer chat.stop()
	defer posts.stop()

	statusTellsTheTruth(t, ctx, s)
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	must(t, err)
	add := exec.CommandContext(ctx, filepath.Join(s.builds, "kmsctl"), "irc", "link", "add", "net", "--server", dead, "--server", addresses[0], "--server", addresses[1], "--password-stdin")
	add.Env, add.Stdin = s.environ(), bytes.NewReader(password)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("irc link add: %v: %s", err, out)
	}
	for _, link := range []string{"net", "local"} {
		_, err := s.must(ctx, nil, "irc", "link", "activate", link)
		must(t, err)
		tailUntilAllSpeak(t, ctx, s, link)
		must(t, s.works(ctx, "on "+link))
	}
	_, err = s.must(ctx, nil, "irc", "link", "remove", "net", "--yes")
	must(t, err)
	must(t, s.works(ctx, "with net removed"))

	chat.stop()
	posted, wrong, last := posts.stop()
	if wrong > 0 {
		t.Errorf("%d calls were refused, the last: %v", wrong, last)
	}
	receipts := append(append(posted, s.aki.acks()...), s.ben.acks()...)
	await, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.chie.exactlyOnce(await, receipts); err != nil {
		t.Error(err)
	}
	for _, c := range s.everyone() {
		if err := c.seen().violations(); err != nil {
			t.Error(err)
		}
	}
	if n := s.closed(""); n > 0 {
		t.Errorf("%d connections were closed", n)
	}
	t.Logf("%d messages acknowledged", len(receipts))
}

// statusTellsTheTruth holds what `irc status` shows against what happens on the bus: traffic, a line that nobody sealed, a hole.
func statusTellsTheTruth(t *testing.T, ctx context.Context, s *story) {
	t.Helper()
	await := func(what string, holds func(controlplane.BusStatus) bool) {
		t.Helper()
		var list []controlplane.BusStatus
		testkit.Eventually(t, 15*time.Second, what, func() bool {
			_, err := s.must(ctx, &list, "irc", "status")
			must(t, err)
			for _, b := range list {
				if !holds(b) {
					return false
				}
			}
			return len(list) == 4
		})
	}
	speaks := func(b controlplane.BusStatus) bool { return b.Role == "ua" || b.Version == "2.0" } // nobody calls the API of 1.0
	await("traffic", func(b controlplane.BusStatus) bool {
		return b.Up && b.Lag > 0 && b.Lag < time.Second && b.Refused == 0 && (!speaks(b) || b.PerSecond > 1 && b.Sent > 0)
	})
	forge(t, s, 3)
	await("three forged lines", func(b controlplane.BusStatus) bool { return b.Refused == 3 })
	before := map[string]float64{}
	await("what was healed so far", func(b controlplane.BusStatus) bool {
		before[b.Version+b.Role] = b.Healed
		return true
	})
	irc := (&chaos{rig: s.rig}).pid(ctx, "irc")
	must(t, syscall.Kill(irc, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(irc, syscall.SIGCONT) })
	await("a hole", func(b controlplane.BusStatus) bool { return b.Role == "api" || b.Healed > before[b.Version+b.Role] })
	must(t, syscall.Kill(irc, syscall.SIGCONT))
	await("the bus again", func(b controlplane.BusStatus) bool { return b.Up && (!speaks(b) || b.PerSecond > 1) })
}

// forge says something on the control channel of the supervised server that nobody with the link's key has sealed.
func forge(t *testing.T, s *story, lines int) {
	t.Helper()
	conf, err := os.ReadFile(s.path("irc", "inspircd.conf"))
	must(t, err)
	_, password, _ := strings.Cut(string(conf), ` password="`)
	password, _, _ = strings.Cut(password, `"`)
	conn, err := net.Dial("tcp", s.irc)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
	fmt.Fprintf(conn, "PASS :%s\r\nNICK mallory\r\nUSER m 0 * :m\r\n", password)
	in := bufio.NewScanner(conn)
	for in.Scan() {
		switch _, line, _ := strings.Cut(in.Text(), " "); {
		case strings.HasPrefix(in.Text(), "PING "):
			fmt.Fprintf(conn, "PONG %s\r\n", line)
		case strings.HasPrefix(line, "001 "):
			for range lines {
				fmt.Fprintf(conn, "PRIVMSG #kms :{\"v\":1,\"k\":\"change\"}\r\n")
			}
			fmt.Fprintf(conn, "PING :said\r\n")
		case strings.Contains(line, "PONG") && strings.HasSuffix(line, "said"):
			return
		}
	}
	t.Fatalf("the IRC server ended: %v", in.Err())
}

// startNetwork runs two servers on what `kmsctl irc config` writes.
func startNetwork(t *testing.T, ctx context.Context, s *story, dir string) (addresses []string) {
	t.Helper()
	for range 2 {
		addresses = append(addresses, testkit.FreeAddr(t, 1000))
	}
	_, err := s.must(ctx, nil, "irc", "config", "inspircd", "--dir", dir, "--log-dir", dir, "--servers", "irc1="+addresses[0]+",irc2="+addresses[1])
	must(t, err)
	for _, name := range []string{"irc1", "irc2"} {
		argv := irclink.Command("inspircd", testkit.Need(t, "inspircd"), filepath.Join(dir, name+".conf"))
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	return addresses
}

// tailUntilAllSpeak tails a link until what both versions and the game server's API say goes over it: the bus has moved.
func tailUntilAllSpeak(t *testing.T, ctx context.Context, s *story, link string) {
	t.Helper()
	var quiet []string
	testkit.Eventually(t, 40*time.Second, "all processes speak on link "+link, func() bool {
		o, err := s.kmsctl(ctx, "irc", "tail", "--link", link, "--timeout", "2s", "-o", "json")
		must(t, err)
		if o.code != 0 {
			t.Fatal(o.failure())
		}
		quiet = []string{"1.0/ua", "2.0/ua", "2.0/api"}
		for line := range bytes.Lines(o.stdout) {
			var l controlplane.BusLine
			must(t, json.Unmarshal(line, &l))
			if l.Text != "" || l.Link != link || l.Refused != "" {
				t.Fatalf("tail shows %+v", l)
			}
			role := l.Origin[strings.LastIndex(l.Origin, "/")+1:]
			quiet = slices.DeleteFunc(quiet, func(p string) bool { return p == l.Version+"/"+role && l.Tenant == tenant && l.Seq > 0 })
		}
		return len(quiet) == 0
	})
}
