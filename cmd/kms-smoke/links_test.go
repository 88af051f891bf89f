package main

import (
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
	dead := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	chat, posts := startChatter(s.aki, s.ben), startCalls(s.game, lobby)
	defer chat.stop()
	defer posts.stop()

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

// startNetwork runs two servers on what `kmsctl irc config` writes.
func startNetwork(t *testing.T, ctx context.Context, s *story, dir string) (addresses []string) {
	t.Helper()
	for range 2 { // below the ports that outgoing connections get
		addresses = append(addresses, freePair(t, 1000))
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

// freePair is an address of a free port with another free one that far above.
func freePair(t *testing.T, offset int) string {
	t.Helper()
	for range 100 {
		port := 10000 + int(time.Now().UnixNano()/1000%20000)
		a, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+offset))
		a.Close()
		if err == nil {
			b.Close()
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("no two free ports")
	return ""
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
