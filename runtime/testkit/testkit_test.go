package testkit

import (
	"bufio"
	"context"
	"database/sql"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func TestNeed_findsSystemPrograms(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "a-program-of-this-test")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got := Need(t, "a-program-of-this-test"); got != program {
		t.Errorf("Need = %q, want %q", got, program)
	}
}

func TestNeed_skipsOrFails(t *testing.T) {
	for _, require := range []string{"", "1"} {
		t.Setenv("KMS_TEST_REQUIRE", require)
		fake := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			Need(fake, "no-such-program-anywhere")
		}()
		if fake.skipped != (require == "") || fake.failed != (require == "1") {
			t.Errorf("KMS_TEST_REQUIRE=%q: skipped %v, failed %v", require, fake.skipped, fake.failed)
		}
	}
}

type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Skipf(string, ...any)  { r.skipped = true; panic("skip") }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; panic("fatal") }

func TestStartIRC_answersAndRestarts(t *testing.T) {
	for _, kind := range []string{"inspircd", "ngircd"} {
		t.Run(kind, func(t *testing.T) {
			s := StartIRC(t, kind)
			expectWelcome(t, s)
			s.Kill()
			if c, err := net.Dial("tcp", s.Addr); err == nil {
				c.Close()
				t.Fatal("the killed server still answers")
			}
			s.Restart()
			expectWelcome(t, s)
		})
	}
}

func expectWelcome(t *testing.T, s *IRCServer) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("PASS " + s.Password + "\r\nNICK probe\r\nUSER probe 0 * :probe\r\n")); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		if ping, ok := strings.CutPrefix(line, "PING "); ok {
			_, _ = c.Write([]byte("PONG " + ping + "\r\n"))
		}
		if strings.Contains(line, " 001 ") {
			return
		}
	}
	t.Fatalf("no welcome from %s", s.Kind)
}

func TestMySQL_databaseIsOursAlone(t *testing.T) {
	first, second := MySQL(t), MySQL(t)
	if first == second {
		t.Fatalf("the same database twice: %s", first)
	}
	u, err := url.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "CREATE TABLE x (a INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
}
