package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// IRCServer is a real IRC server on loopback, tuned as a bus, that ends with the test.
type IRCServer struct {
	Kind     string // "inspircd" or "ngircd"
	Addr     string // host:port, the same after a Restart
	Password string
	MaxLine  int // bytes of a delivered line, prefix and CRLF included

	t    testing.TB
	argv []string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
}

// StartIRC starts a server of the kind and returns when it takes connections. Edits are pairs of an old and a new text in its
// configuration.
func StartIRC(t testing.TB, kind string, edits ...string) *IRCServer {
	t.Helper()
	program := Need(t, kind)
	dir := ShortDir(t)
	addr := FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := &IRCServer{
		Kind: kind, Addr: addr, Password: "p" + randomHex(),
		t: t, log: filepath.Join(dir, "server.log"),
	}
	conf := filepath.Join(dir, kind+".conf")
	var text string
	switch kind {
	case "inspircd":
		s.MaxLine = 4096
		s.argv = []string{program, "--nofork", "--nopid", "--config", conf}
		if os.Getuid() == 0 {
			s.argv = append(s.argv, "--runasroot")
		}
		text = strings.NewReplacer("PORT", port, "PASSWORD", s.Password, "LOG", filepath.Join(dir, "irc.log")).Replace(inspircdConf)
	case "ngircd":
		s.MaxLine = 512
		s.argv = []string{program, "--nodaemon", "--config", conf}
		text = strings.NewReplacer("PORT", port, "PASSWORD", s.Password).Replace(ngircdConf)
	default:
		t.Fatalf("no IRC server of kind %q", kind)
	}
	text = strings.NewReplacer(edits...).Replace(text)
	// ngIRCd started as root goes on as nobody and reads its file again on HUP.
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Restart starts the server again after Stop or Kill, at the same address.
func (s *IRCServer) Restart() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = filepath.Dir(s.log)
	cmd.Stdout, cmd.Stderr = log, log
	// A test that panics or is killed leaves no server behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("cannot start %q: %v", s.argv[0], err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	s.cmd, s.done = cmd, done
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-done:
			s.t.Fatalf("%s ended at once: %s", s.Kind, s.output())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not listen on %s: %s", s.Kind, s.Addr, s.output())
		}
	}
}

func (s *IRCServer) output() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(b[max(0, len(b)-2000):])
}

// PID returns the process id of the server last started.
func (s *IRCServer) PID() int { return s.cmd.Process.Pid }

// Stop ends the server with SIGTERM and waits for it.
func (s *IRCServer) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server with SIGKILL and waits for it; its clients learn of it by a reset or the end of the stream.
func (s *IRCServer) Kill() { s.end(syscall.SIGKILL) }

func (s *IRCServer) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// Freeze stops the server with SIGSTOP: its sockets stay open and take bytes, nobody answers.
func (s *IRCServer) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *IRCServer) Thaw() { s.signal(syscall.SIGCONT) }

func (s *IRCServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("cannot send %v to %s: %v", sig, s.Kind, err)
	}
}

const inspircdConf = `<server name="irc.kms.test" description="KMS test bus" id="1AA" network="kms">
<bind address="127.0.0.1" port="PORT" type="clients">
<connect name="bus" allow="127.0.0.0/8" password="PASSWORD" timeout="20" pingfreq="30s"
         maxchans="20000" localmax="1000" globalmax="2000" limit="5000" maxconnwarn="no"
         commandrate="100000000" threshold="4000000" fakelag="no"
         recvq="16M" softsendq="64M" hardsendq="256M" resolvehostnames="no" useident="no">
<limits maxline="4096" maxchan="200" maxnick="64" maxident="12" maxkick="300" maxmodes="20" maxquit="300" maxreal="130" maxtopic="330" maxaway="200">
<performance netbuffersize="65534" somaxconn="512" softlimit="4096" quietbursts="yes">
<security maxtargets="20" hideserver="" hidesplits="no" flatlinks="no">
<options defaultmodes="" serverpingfreq="5s" splitwhois="no" announcets="no">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="LOG">
`

const ngircdConf = `[Global]
	Name = ng.kms.test
	Info = KMS test bus
	Listen = 127.0.0.1
	Ports = PORT
	AdminEMail = none@example.invalid
	AdminInfo1 = x
	Password = PASSWORD
[Limits]
	MaxConnections = 0
	MaxConnectionsIP = 0
	MaxJoins = 0
	MaxNickLength = 31
	MaxPenaltyTime = 0
	PingTimeout = 30
	PongTimeout = 20
[Options]
	PAM = no
	Ident = no
	DNS = no
	CloakHost = b
	CloakUserToNick = no
`
