package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/testkit"
)

const modeEnv = "KMS_TEST_CHILD"

// TestMain makes the test binary its own fake build, and its own host to be killed.
func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeEnv); mode {
	case "":
		goleak.VerifyTestMain(m)
	case "host":
		hostMain()
	default:
		childMain(mode)
	}
}

// hostMain starts the instance it is told to, prints its record, and waits to be killed.
func hostMain() {
	var spec Spec
	err := json.Unmarshal([]byte(os.Getenv("KMS_TEST_SPEC")), &spec)
	var p *Process
	if err == nil {
		err = CloseInheritedFDs()
	}
	if err == nil {
		p, err = Start(context.Background(), spec)
	}
	if err == nil {
		_, err = p.Client().Configure(context.Background(), &pb.ConfigureRequest{Set: spec.Set})
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(p.Record())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

func childMain(mode string) {
	if path := os.Getenv("KMS_TEST_PIDFILE"); path != "" {
		os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	switch mode {
	case "dies":
		fmt.Fprintln(os.Stderr, "cannot open store \"x\": no such thing\x1b[2J")
		os.Exit(3)
	case "silent":
		time.Sleep(time.Hour)
	case "chatty":
		fmt.Println("hello, this is my build")
		time.Sleep(time.Hour)
	case "contract":
		fmt.Printf("1|99|unix|%s/x|grpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		time.Sleep(time.Hour)
	case "elsewhere":
		fmt.Print("1|1|unix|/tmp/elsewhere.sock|grpc|\n")
		time.Sleep(time.Hour)
	case "children":
		startGrandchild(false)
		startGrandchild(true)
	case "plain":
		servePlain()
	case "ignoresterm": // the build's own handler for everything, and an instance that never stops
		signal.Ignore(syscall.SIGTERM)
	}
	log := plugin.Begin()
	fmt.Fprintln(log, "beginning as", mode)
	plugin.Serve(os.Args[1], &fake{mode: mode, id: strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)})
}

// servePlain is a build without go-plugin or anything of ours but the protobuf service: docs/writing-a-version.md, followed by hand.
func servePlain() {
	socket := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/control"
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	srv := grpc.NewServer()
	pb.RegisterInstanceServer(srv, &fake{mode: "plain", id: "plain"})
	fmt.Printf("1|1|unix|%s|grpc|\n", socket)
	srv.Serve(l)
	os.Exit(0)
}

func startGrandchild(setsid bool) {
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: setsid}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// fake is an instance that does what its mode says.
type fake struct {
	pb.UnimplementedInstanceServer
	mode, id string
	printed  atomic.Int64
}

func (f *fake) Identify(ctx context.Context, _ *pb.IdentifyRequest) (*pb.IdentifyReply, error) {
	switch f.mode {
	case "mute":
		<-ctx.Done()
	case "crashes":
		os.Exit(4)
	}
	return &pb.IdentifyReply{InstanceId: f.id, Role: os.Args[1], Pid: int64(os.Getpid())}, nil
}

func (f *fake) Configure(context.Context, *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	if f.mode == "floods" {
		go f.flood()
	}
	return &pb.ConfigureReply{}, nil
}

// flood prints 4 MiB on each of both, far more than any pipe holds.
func (f *fake) flood() {
	line := strings.Repeat("x", 1023)
	for range 4 << 10 {
		fmt.Println(line)
		fmt.Fprintln(os.Stderr, line)
		f.printed.Add(2048)
	}
}

func (f *fake) Stats(context.Context, *pb.StatsRequest) (*pb.StatsReply, error) {
	return &pb.StatsReply{Values: map[string]float64{"printed": float64(f.printed.Load())}}, nil
}

func (f *fake) Stop(ctx context.Context, _ *pb.StopRequest) (*pb.StopReply, error) {
	switch f.mode {
	case "ignoresterm":
		time.Sleep(time.Hour)
	case "plain":
		time.AfterFunc(20*time.Millisecond, func() { os.Exit(0) })
	}
	return &pb.StopReply{}, nil
}

// testSpec starts this test binary as a build in the given mode.
func testSpec(t testing.TB, mode string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.ShortDir(t)
	return Spec{
		Set:     "stest2345",
		Role:    "ua",
		Program: exe,
		Dir:     dir + "/p",
		Log:     dir + "/logs/ua.log",
		Env:     []string{modeEnv + "=" + mode, "KMS_TEST_PIDFILE=" + dir + "/pid"},
	}
}

func testStart(t testing.TB, mode string) *Process {
	t.Helper()
	p, err := Start(t.Context(), testSpec(t, mode))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		KillRecord(p.Record()) // also when the test detached it
		select {
		case <-p.task.detached:
		default:
			p.Kill()
		}
	})
	return p
}

func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state != 'Z'
}

func expectGone(t testing.TB, pid int) {
	t.Helper()
	testkit.Eventually(t, 2*time.Second, fmt.Sprintf("pid %d is gone", pid), func() bool { return !alive(pid) })
}

func expectExit(t testing.TB, exited <-chan struct{}) {
	t.Helper()
	select {
	case <-exited:
	case <-time.After(5 * time.Second):
		t.Fatal("no exit seen within 5 s")
	}
}

func expectError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func expectEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in %s: %v %v", dir, entries, err)
	}
}

func readPID(t testing.TB, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
