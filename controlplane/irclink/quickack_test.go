package irclink

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/kmsctl/kms/runtime/testkit"
)

// In a network of its own the kernel takes the commands, twice, and has the routes then.
func TestQuickAck_changesTheRoute(t *testing.T) {
	testkit.Need(t, "ip")
	script := "set -e; ip link set lo up; ip link add v1 type veth peer name v2; ip addr add 10.9.0.1/24 dev v1; ip link set v1 up\n" +
		"ip route add 10.8.0.0/16 via 10.9.0.7\n" +
		strings.Repeat(QuickAck("127.0.0.1")+"\n"+QuickAck("::1")+"\n"+QuickAck("10.9.0.2")+"\n"+QuickAck("10.8.1.1")+"\n", 2) +
		"ip route show table all | grep quickack"
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("no network of our own here:", err)
	}
	for _, want := range []string{"127.0.0.1 dev lo", "::1 dev lo", "10.9.0.2 dev v1", "10.8.1.1 via 10.9.0.7 dev v1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no route %q that acknowledges at once: %v\n%s", want, err, out)
		}
	}
}
