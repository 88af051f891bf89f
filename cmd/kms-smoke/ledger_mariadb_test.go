package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/kmsctl/kms/runtime/testkit"
)

// mariadb is a database server of a test's own, with default durability, that may be killed.
type mariadb struct {
	mu   sync.Mutex // one thing at a time is done to it
	url  string
	argv []string
	log  string
	addr string
	cmd  *exec.Cmd
	done chan struct{}
}

const mariadbPassword = "ledger"

func startMariaDB(t *testing.T) *mariadb {
	t.Helper()
	server, install := testkit.Need(t, "mariadbd"), testkit.Need(t, "mariadb-install-db")
	dir := testkit.ShortDir(t)
	user := "--user=" + os.Getenv("USER")
	if os.Getuid() == 0 {
		user = "--user=root"
	}
	out, err := exec.Command(install, "--no-defaults", user, "--datadir="+filepath.Join(dir, "data"),
		"--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
	init := filepath.Join(dir, "init.sql")
	must(t, os.WriteFile(init, []byte("CREATE DATABASE IF NOT EXISTS kms CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n"+
		"CREATE OR REPLACE USER 'kms'@'127.0.0.1' IDENTIFIED BY '"+mariadbPassword+"';\nGRANT ALL ON kms.* TO 'kms'@'127.0.0.1';\n"), 0o600))
	address := testkit.FreeAddr(t)
	_, port, _ := net.SplitHostPort(address)
	m := &mariadb{
		url: "mysql://kms:" + mariadbPassword + "@" + address + "/kms", addr: address, log: filepath.Join(dir, "server.log"),
		argv: []string{server, "--no-defaults", user, "--datadir=" + filepath.Join(dir, "data"), "--socket=" + filepath.Join(dir, "s"),
			"--pid-file=" + filepath.Join(dir, "pid"), "--port=" + port, "--bind-address=127.0.0.1", "--skip-name-resolve",
			"--init-file=" + init, "--max-connections=500"},
	}
	t.Cleanup(func() { m.end(syscall.SIGKILL) })
	must(t, m.start())
	return m
}

// start starts the server, again after it was ended, and returns when it answers.
func (m *mariadb) start() error {
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(m.argv[0], m.argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	m.cmd, m.done = cmd, done
	return m.awaitAnswer()
}

func (m *mariadb) awaitAnswer() error {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.Timeout = "tcp", m.addr, "kms", mariadbPassword, time.Second
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-m.done:
			text, _ := os.ReadFile(m.log)
			return fmt.Errorf("MariaDB ended: %s", strings.TrimSpace(string(text[max(0, len(text)-1000):])))
		case <-ctx.Done():
			return fmt.Errorf("MariaDB does not answer: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *mariadb) end(s syscall.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s) // gone already is what we want
		<-m.done
	}
}

// suffer does to the server what the step says; it runs again when suffer returns.
func (m *mariadb) suffer(s step) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s.what {
	case "freeze":
		if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		time.Sleep(s.lasts)
		return m.cmd.Process.Signal(syscall.SIGCONT)
	case "kill":
		m.end(syscall.SIGKILL)
	case "stop":
		m.end(syscall.SIGTERM)
	}
	time.Sleep(s.lasts)
	return m.start()
}
