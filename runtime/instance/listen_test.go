package instance

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/testkit"
)

func TestListen_takesThePathOverFromADeadOne(t *testing.T) {
	path := filepath.Join(testkit.ShortDir(t), "ua.sock")
	old, err := listen(path)
	check(t, err)
	defer old.Close()
	check(t, os.WriteFile(path+"+", nil, 0o600)) // left by one that died in between
	s, err := listen(path)
	check(t, err)
	defer s.Close()

	accepted := make(chan struct{})
	go func() {
		if conn, err := s.Accept(); err == nil {
			conn.Close()
		}
		close(accepted)
	}()
	conn, err := net.Dial("unix", path)
	check(t, err)
	conn.Close()
	<-accepted
	if err := s.check(); err != nil {
		t.Errorf("the new socket: %v", err)
	}
	if old.check() == nil {
		t.Error("the old one believes the path to be its own")
	}
	old.remove()
	if _, err := os.Stat(path); err != nil {
		t.Error("the old one removed the new one's socket")
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode().Perm() != 0o666 {
		t.Errorf("mode %v: nginx's group must be able to connect", info.Mode())
	}
	s.remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestListen_saysWhatIsWrongWithThePath(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/" + strings.Repeat("x", 102): "the path has 107 bytes, at most 106",
		"/nowhere/at/all.sock":             "no such file or directory",
	} {
		if _, err := listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen(%q) = %v, want %q", path, err, want)
		}
	}
}
