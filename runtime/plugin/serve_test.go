package plugin

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/testkit"
)

const childEnv, claimEnv = "KMS_TEST_CHILD", "KMS_TEST_CLAIM"

// TestMain makes the test binary its own build.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	log := Begin()
	fmt.Println("a print before Serve")
	claim, err := time.ParseDuration(os.Getenv(claimEnv))
	if err != nil {
		fmt.Fprintln(log, err)
		os.Exit(1)
	}
	serve(RoleUA, &instance{}, claim)
	fmt.Fprintln(log, "main returns")
}

type instance struct{ pb.UnimplementedInstanceServer }

// stderr is descriptor 2 as a library may have kept it, from before go-plugin swapped os.Stderr.
var stderr = os.Stderr

func (*instance) Identify(context.Context, *pb.IdentifyRequest) (*pb.IdentifyReply, error) {
	fmt.Fprintln(stderr, "identify")
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		return nil, err
	}
	return &pb.IdentifyReply{InstanceId: "x", Role: RoleUA, Label: string(out)}, nil
}

func (*instance) Configure(_ context.Context, r *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	if r.Set == "bad" {
		return nil, status.Error(codes.InvalidArgument, "bad set")
	}
	return &pb.ConfigureReply{}, nil
}

func (*instance) Health(context.Context, *pb.HealthRequest) (*pb.HealthReply, error) {
	panic("a bug")
}

func (*instance) Connections(*pb.ConnectionsRequest, grpc.ServerStreamingServer[pb.Connection]) error {
	panic("another bug")
}

func (*instance) Stop(_ context.Context, r *pb.StopRequest) (*pb.StopReply, error) {
	fmt.Fprintf(Begin(), "stop: %s\n", r.Message)
	return &pb.StopReply{}, nil
}

// testChild is the test binary serving, started without go-plugin's client as a host in another language would.
type testChild struct {
	cmd    *exec.Cmd
	log    *lockedBuffer
	line   string
	client pb.InstanceClient
	exited chan struct{}
}

func startChild(t *testing.T, claim time.Duration, change ...func(*exec.Cmd)) *testChild {
	t.Helper()
	c := &testChild{log: &lockedBuffer{}, exited: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0], "ua")
	c.cmd.Env = []string{
		childEnv + "=1", claimEnv + "=" + claim.String(),
		Handshake.MagicCookieKey + "=" + Handshake.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + testkit.ShortDir(t), "PATH=" + os.Getenv("PATH"),
	}
	c.cmd.Stderr = c.log
	for _, f := range change {
		f(c.cmd)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.line, _ = bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() { c.cmd.Process.Kill(); <-c.exited })
	go func() { c.cmd.Wait(); close(c.exited) }()
	if parts := strings.Split(c.line, "|"); len(parts) > 4 {
		conn, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", parts[3])
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		c.client = pb.NewInstanceClient(conn)
	}
	return c
}

func withEnv(v string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, v) }
}

func (c *testChild) expectExit(t *testing.T, within time.Duration, code int, logged string) {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(within):
		t.Fatalf("still there after %s", within)
	}
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d; logged: %s", got, code, c.log)
	}
	if !strings.Contains(c.log.String(), logged) {
		t.Errorf("logged %q, want %q in it", c.log, logged)
	}
}

func (c *testChild) expectAlive(t *testing.T, after time.Duration) {
	t.Helper()
	select {
	case <-c.exited:
		t.Fatalf("it left: %s; logged: %s", c.cmd.ProcessState, c.log)
	case <-time.After(after):
	}
}

func TestServe_leavesUnlessConfigured(t *testing.T) {
	const claim = 300 * time.Millisecond
	c := startChild(t, claim)
	if _, err := c.client.Identify(t.Context(), &pb.IdentifyRequest{}); err != nil { // no claim yet
		t.Fatal(err)
	}
	c.expectExit(t, 5*time.Second, 0, "not configured in time")

	c = startChild(t, claim)
	if _, err := c.client.Configure(t.Context(), &pb.ConfigureRequest{Set: "bad"}); err == nil {
		t.Fatal("configured as a bad set")
	}
	c.expectExit(t, 5*time.Second, 0, "not configured in time")
}

func TestServe_staysOnceConfigured(t *testing.T) {
	const claim = 300 * time.Millisecond
	c := startChild(t, claim)
	if _, err := c.client.Configure(t.Context(), &pb.ConfigureRequest{Set: "s1"}); err != nil {
		t.Fatal(err)
	}
	c.expectAlive(t, 2*claim)
	if _, err := c.client.Stop(t.Context(), &pb.StopRequest{Message: "bye"}); err != nil {
		t.Fatal(err)
	}
	c.expectExit(t, 5*time.Second, 0, "stop: bye")
	if strings.Count(c.log.String(), "stop: ") != 1 {
		t.Errorf("stopped more than once: %s", c.log)
	}
}

func TestServe_printsReachTheLogNotTheHandshake(t *testing.T) {
	c := startChild(t, time.Minute)
	if !strings.HasPrefix(c.line, "1|1|unix|/") || !strings.HasSuffix(c.line, "|grpc|\n") {
		t.Fatalf("handshake %q", c.line)
	}
	testkit.Eventually(t, 5*time.Second, "the print is in the log", func() bool {
		return strings.Contains(c.log.String(), "a print before Serve")
	})
}

func TestServe_childrenInheritNoIgnoredSIGPIPE(t *testing.T) {
	c := startChild(t, time.Minute)
	id, err := c.client.Identify(t.Context(), &pb.IdentifyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var ignored uint64
	if _, err := fmt.Sscanf(id.Label, "SigIgn: %x", &ignored); err != nil {
		t.Fatalf("%q: %v", id.Label, err)
	}
	if ignored&(1<<(unix.SIGPIPE-1)) != 0 {
		t.Errorf("a grandchild ignores SIGPIPE: %q", id.Label)
	}
}

// Go dies of a broken pipe on descriptors 1 and 2 unless SIGPIPE is caught.
func TestServe_survivesABrokenStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	c := startChild(t, time.Minute, func(cmd *exec.Cmd) { cmd.Stderr = w })
	for range 2 {
		if _, err := c.client.Identify(t.Context(), &pb.IdentifyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServe_stopsInOrderOnTERM(t *testing.T) {
	c := startChild(t, time.Minute)
	c.cmd.Process.Signal(unix.SIGTERM)
	c.expectExit(t, 5*time.Second, 0, "stop: terminated")
	if !strings.Contains(c.log.String(), "main returns") {
		t.Error("Serve did not return to main")
	}
}

func TestServe_survivesAPanickingCall(t *testing.T) {
	c := startChild(t, time.Minute)
	if _, err := c.client.Health(t.Context(), &pb.HealthRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("got error %v", err)
	}
	stream, err := c.client.Connections(t.Context(), &pb.ConnectionsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Internal {
		t.Errorf("got error %v", err)
	}
	if _, err := c.client.Identify(t.Context(), &pb.IdentifyRequest{}); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestServe_tellsPeopleWhoStartItByHand(t *testing.T) {
	c := startChild(t, time.Minute, withEnv(Handshake.MagicCookieKey+"="))
	c.expectExit(t, 5*time.Second, 2, "kmsctl deploy")
}

// A host of the future that speaks no contract of ours gets our lowest, and can say so itself.
func TestServe_offersItsContractToAnyHost(t *testing.T) {
	c := startChild(t, time.Minute, withEnv("PLUGIN_PROTOCOL_VERSIONS=7,8"))
	if !strings.HasPrefix(c.line, "1|1|unix|") {
		t.Errorf("handshake %q", c.line)
	}
	c = startChild(t, time.Minute, withEnv("PLUGIN_PROTOCOL_VERSIONS=2,1"))
	if !strings.HasPrefix(c.line, "1|1|unix|") {
		t.Errorf("handshake %q", c.line)
	}
}

// lockedBuffer is what a child logs, readable while it does.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
