package supervise

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/testkit"
)

func testDaemon(t *testing.T, script string) (*Daemon, DaemonSpec) {
	t.Helper()
	spec := DaemonSpec{Name: "thing", Program: "sh", Args: []string{"-c", script}, Log: t.TempDir() + "/log/thing.log"}
	d, err := StartDaemon(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { KillRecord(d.Record()) })
	return d, spec
}

func TestDaemon_logsAndSaysHowItEnded(t *testing.T) {
	d, spec := testDaemon(t, "echo to stdout; echo to stderr >&2; exit 5")
	expectExit(t, d.Exited())
	if d.ExitState() != "exit status 5" {
		t.Errorf("ended with %q", d.ExitState())
	}
	if tail, _ := TailLog(spec.Log, 9); fmt.Sprint(tail) != "[to stdout to stderr]" {
		t.Errorf("logged %q", tail)
	}
	if err := d.Stop(t.Context(), unix.SIGTERM, time.Second); err != nil { // long gone: fine
		t.Error(err)
	}
}

func TestDaemon_stopsBySignalThenByForce(t *testing.T) {
	for script, want := range map[string]string{
		"trap 'exit 7' QUIT; echo up; while :; do sleep 0.05; done":           "exit status 7",
		"trap '' QUIT; sleep 1000 & echo up; while :; do sleep 0.05; done":    "signal: killed",
		"trap 'exit 7' QUIT; echo up; kill -STOP $$; while :; do :; done":     "exit status 7",
		"trap '' QUIT; echo up; kill -STOP $$; while :; do sleep 0.05; done;": "signal: killed",
	} {
		d, spec := testDaemon(t, script)
		testkit.Eventually(t, 5*time.Second, "it is up", func() bool {
			tail, _ := TailLog(spec.Log, 1)
			return len(tail) == 1
		})
		if err := d.Stop(t.Context(), unix.SIGQUIT, 400*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if d.ExitState() != want {
			t.Errorf("%s: ended with %q", script, d.ExitState())
		}
		if left := Leftovers(d.Record()); len(left) > 0 {
			t.Errorf("%s: left %v", script, left)
		}
	}
}

func TestDaemon_adopted(t *testing.T) {
	d, _ := testDaemon(t, "while :; do sleep 1000; done")
	rec := d.Record()
	if !strings.HasPrefix(rec.Exe, "/") {
		t.Errorf("executes %q", rec.Exe)
	}
	d.Detach()

	other := rec
	other.Exe = "/usr/sbin/nginx"
	_, err := AdoptDaemon(other)
	expectError(t, err, ErrStranger)
	other = rec
	other.StartTicks--
	_, err = AdoptDaemon(other)
	expectError(t, err, ErrGone)
	if !alive(rec.PID) {
		t.Fatal("it was killed")
	}

	a, err := AdoptDaemon(rec)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(t.Context(), unix.SIGTERM, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	_, err = AdoptDaemon(rec)
	expectError(t, err, ErrGone)
}

func TestDaemon_childrenOutliveAMasterThatIsKilled(t *testing.T) {
	d, spec := testDaemon(t, "sleep 1000 & sleep 1000 & echo up; wait")
	testkit.Eventually(t, 5*time.Second, "it is up", func() bool {
		tail, _ := TailLog(spec.Log, 1)
		return len(tail) == 1
	})
	before := Descendants(d.Record().PID)
	unix.Kill(d.Record().PID, unix.SIGKILL)
	expectExit(t, d.Exited())
	left := Leftovers(d.Record())
	if len(before) != 2 || fmt.Sprint(left) != fmt.Sprint(before) {
		t.Fatalf("its children were %v, left are %v", before, left)
	}
	for _, r := range left {
		if err := SignalRecord(r, unix.SIGTERM); err != nil {
			t.Error(err)
		}
		expectGone(t, r.PID)
		expectError(t, SignalRecord(r, unix.SIGTERM), ErrGone)
	}
}

func TestDaemon_cannotStart(t *testing.T) {
	_, err := StartDaemon(t.Context(), DaemonSpec{Name: "nginx", Program: "no-such-nginx", Log: t.TempDir() + "/l"})
	var se *StartError
	if !errors.As(err, &se) || !strings.Contains(err.Error(), "cannot start nginx") || !strings.Contains(err.Error(), "not found") {
		t.Errorf("got error %v", err)
	}
}

// What the nginx in front needs: the workers of a master that was killed hold the port until they are asked to leave.
func TestDaemon_nginxAfterItsMasterWasKilled(t *testing.T) {
	nginx := testkit.Need(t, "nginx")
	dir, addr := testkit.ShortDir(t), testkit.FreeAddr(t)
	conf := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes 2; events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u;
scgi_temp_path %[1]s/s; server { listen %[2]s; return 200 up; } }`, dir, addr)
	if err := os.WriteFile(dir+"/nginx.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := DaemonSpec{Name: "nginx", Program: nginx, Args: []string{"-p", dir, "-c", dir + "/nginx.conf"}, Log: dir + "/log"}
	start := func() *Daemon {
		d, err := StartDaemon(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Kill() })
		testkit.Eventually(t, 5*time.Second, "nginx listens", func() bool { return listens(addr) && len(Descendants(d.Record().PID)) == 2 })
		return d
	}
	d := start()
	unix.Kill(d.Record().PID, unix.SIGKILL)
	expectExit(t, d.Exited())
	left := Leftovers(d.Record())
	if len(left) != 2 || !listens(addr) {
		t.Fatalf("%d workers live on", len(left))
	}
	for _, r := range left {
		if err := SignalRecord(r, unix.SIGQUIT); err != nil {
			t.Error(err)
		}
	}
	testkit.Eventually(t, 5*time.Second, "the port is free", func() bool { return !listens(addr) })
	if err := start().Stop(t.Context(), unix.SIGQUIT, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if listens(addr) {
		t.Error("nginx is still there")
	}
}

func listens(addr string) bool {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
