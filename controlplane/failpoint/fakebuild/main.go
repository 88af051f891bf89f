// Command fakebuild is the smallest build that can be deployed: it serves the plugin contract, answers every request with who it
// is, and probes itself. Tests that start many builds use it through scripts, whose bytes are the builds.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: BUILD describe|probe|ua|api")
		os.Exit(2)
	}
	var err error
	switch role := os.Args[1]; role {
	case "describe":
		_, err = fmt.Println(`{"version":"2.0","label":"fake","contract":1,"schema_min":1,"schema_max":1000}`)
	case "probe":
		err = probe()
	default:
		plugin.Serve(role, &instance{role: role})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot probe:", err)
		os.Exit(1)
	}
}

// identity is what the fake answers to any request.
type identity struct {
	Version string `json:"version"`
	Build   string `json:"build"`
	Set     string `json:"set"`
	PID     int    `json:"pid"`
}

type instance struct {
	pb.UnimplementedInstanceServer
	role   string
	made   time.Time
	config *pb.ConfigureRequest
	server *http.Server
}

func (i *instance) Identify(context.Context, *pb.IdentifyRequest) (*pb.IdentifyReply, error) {
	return &pb.IdentifyReply{InstanceId: fmt.Sprint("fake-", os.Getpid()), Role: i.role, Pid: int64(os.Getpid()),
		Configured: i.config != nil, Set: i.config.GetSet(), StartedAtMs: i.made.UnixMilli()}, nil
}

// Configure listens beside the socket's path and moves there, as an instance that replaces another has to.
func (i *instance) Configure(_ context.Context, r *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	beside := r.GetSocket() + ".new"
	os.Remove(beside)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Rename(beside, r.GetSocket()); err != nil {
		return nil, err
	}
	who := identity{r.GetVersion(), r.GetBuild(), r.GetSet(), os.Getpid()}
	i.made, i.config = time.Now(), r
	i.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(who)
	})}
	go i.server.Serve(l)
	if os.Getenv("FAKE_FLOODS") != "" {
		go flood(os.Stdout)
		go flood(os.Stderr)
	}
	return &pb.ConfigureReply{}, nil
}

func (i *instance) Health(context.Context, *pb.HealthRequest) (*pb.HealthReply, error) {
	return &pb.HealthReply{Ready: true, Checks: []*pb.Check{{Name: "bus", Ok: true}}}, nil
}

func (i *instance) Stats(context.Context, *pb.StatsRequest) (*pb.StatsReply, error) {
	return &pb.StatsReply{}, nil
}

func (i *instance) Drain(context.Context, *pb.DrainRequest) (*pb.DrainReply, error) {
	return &pb.DrainReply{}, nil
}

func (i *instance) CancelDrain(context.Context, *pb.CancelDrainRequest) (*pb.CancelDrainReply, error) {
	return &pb.CancelDrainReply{}, nil
}

// flood prints 40 MiB.
func flood(to *os.File) {
	line := []byte(strings.Repeat("all work and no play makes a dull build ", 25) + "\n")
	for range 40 << 20 / len(line) {
		to.Write(line)
	}
}

func (i *instance) Stop(context.Context, *pb.StopRequest) (*pb.StopReply, error) {
	if os.Getenv("FAKE_STUBBORN") != "" {
		select {}
	}
	if i.server != nil {
		i.server.Close()
		os.Remove(i.config.GetSocket())
	}
	return &pb.StopReply{}, nil
}

// probe asks both sockets who answers; both have to be of one set.
func probe() error {
	var target plugin.ProbeTarget
	if err := json.NewDecoder(os.Stdin).Decode(&target); err != nil {
		return err
	}
	ua, err := ask(target.UA, "/ua/"+target.Version+"/"+target.Tenant, target.CA)
	if err != nil {
		return err
	}
	api, err := ask(target.API, "/api/"+target.Version+"/"+target.Tenant+"/probe", target.CA)
	if err != nil {
		return err
	}
	if ua.Set != api.Set || ua.Version != target.Version {
		return fmt.Errorf("ua is %+v, api is %+v, want version %s", ua, api, target.Version)
	}
	return nil
}

// ask reads the identity from `unix:/path` or a URL.
func ask(address, path, ca string) (who identity, err error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if refuses := os.Getenv("FAKE_REFUSES"); refuses != "" && strings.HasPrefix(address, refuses) {
		return who, fmt.Errorf("told to refuse %s", address)
	}
	if hangs := os.Getenv("FAKE_HANGS"); hangs != "" && strings.HasPrefix(address, hangs) {
		time.Sleep(time.Minute)
	}
	base := address
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		base = "http://" + filepath.Base(socket)
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	if ca != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ca))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(base + path)
	if err != nil {
		return who, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return who, fmt.Errorf("%s%s answers %s", address, path, resp.Status)
	}
	return who, json.NewDecoder(resp.Body).Decode(&who)
}
