package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/testkit/freeport"
)

// kms is a whole KMS in a home of its own, as `kmsctl up` starts it, with an InspIRCd as bus.
type kms struct {
	builds, home     string
	http, https, irc string
	cmd              *exec.Cmd
	stdout, stderr   bytes.Buffer
	status           controlplane.Status
}

// within is how long `kmsctl up` may take until everything serves.
const within = 60 * time.Second

func startKMS(ctx context.Context, builds string) (*kms, error) {
	home, err := os.MkdirTemp("/tmp", "kmsbench")
	if err != nil {
		return nil, fmt.Errorf("cannot make a home: %v", err)
	}
	k := &kms{builds: builds, home: home}
	for _, address := range []*string{&k.http, &k.https, &k.irc} {
		if *address, _, err = freeport.Claim(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(home))
		}
	}
	k.cmd = exec.Command(filepath.Join(builds, "kmsctl"), "up", "-o", "json")
	k.cmd.Env, k.cmd.Stdout, k.cmd.Stderr = k.environ(), &k.stdout, &k.stderr
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	k.cmd.WaitDelay = time.Second
	if err := k.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start kmsctl: %v", err), os.RemoveAll(home))
	}
	if err := k.awaitHealthy(ctx); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// inKMS runs a scenario in a KMS of its own with these users and channels. When it fails, the last words of the control plane are told.
func (b *bench) inKMS(ctx context.Context, users int, families []channels, do func(*kms) error) error {
	k, err := startKMS(ctx, b.builds)
	if err != nil {
		return err
	}
	if err = k.seed(ctx, users, families...); err == nil {
		err = do(k)
	}
	if err != nil {
		words := k.stderr.String()
		b.say("the control plane's last words:\n%s", words[max(0, len(words)-2000):])
	}
	return errors.Join(err, k.close())
}

func (k *kms) environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + k.home, "KMS_HOME=" + k.home, "KMS_BUILDS=" + k.builds,
		"KMS_HTTP=" + k.http, "KMS_HTTPS=" + k.https, "KMS_IRC_LISTEN=" + k.irc, "KMS_IRC_KIND=inspircd",
	}
}

// kmsctl runs a command that has to succeed and returns what it prints.
func (k *kms) kmsctl(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(k.builds, "kmsctl"), args...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = k.environ(), stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kmsctl %s: %v: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// awaitHealthy returns when `kmsctl status` finds nothing wrong and 2.0 serves.
func (k *kms) awaitHealthy(ctx context.Context) error {
	deadline := time.Now().Add(within)
	for {
		out, err := k.kmsctl(ctx, nil, "status", "-o", "json")
		if err == nil {
			err = json.Unmarshal(out, &k.status)
		}
		if err == nil && k.status.Healthy && k.ua() != nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("kmsctl up does not get healthy: %v: %.2000s", err, k.stderr.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ua is the process that serves the WebSockets of 2.0.
func (k *kms) ua() *controlplane.Instance {
	for _, v := range k.status.Versions {
		for _, set := range v.Sets {
			for i := range set.Instances {
				if v.Name == "2.0" && set.State == controlplane.SetServing && set.Instances[i].Role == "ua" {
					return &set.Instances[i]
				}
			}
		}
	}
	return nil
}

// others are the processes that serve beside the UA, by what they are.
func (k *kms) others() map[string][]int {
	pids := map[string][]int{"control": {k.status.PID}}
	for _, c := range k.status.Components {
		if c.PID != 0 {
			pids[c.Name] = append([]int{c.PID}, childrenOf(c.PID)...)
		}
	}
	ua := k.ua().PID
	for _, v := range k.status.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				if in.PID != ua {
					pids["instances"] = append(pids["instances"], in.PID)
				}
			}
		}
	}
	return pids
}

// direct is the UA on its own socket. Channel names begin with prefix.
func (k *kms) direct(prefix string) *server {
	ua := k.ua()
	return &server{name: "kms", wire: kms2{prefix}, network: "unix", address: ua.Socket, pids: []int{ua.PID}, others: k.others()}
}

// proxied is the UA through KMS's nginx, over plain HTTP on loopback; nginx's CPU counts.
func (k *kms) proxied(prefix string) *server {
	s := k.direct(prefix)
	s.name, s.network, s.address = "kms+nginx", "tcp", k.http
	s.pids = append(s.pids, s.others["nginx"]...)
	delete(s.others, "nginx")
	return s
}

// instance calls the UA over the plugin contract, as the control plane does.
func (k *kms) instance(call func(pb.InstanceClient) error) error {
	ua := k.ua()
	sockets, err := filepath.Glob(filepath.Join(k.status.Run, "p", filepath.Base(filepath.Dir(ua.Socket)), "*", "*"))
	if err != nil {
		return err
	}
	for _, socket := range sockets {
		conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			return err
		}
		defer conn.Close()
		client := pb.NewInstanceClient(conn)
		who, err := client.Identify(context.Background(), &pb.IdentifyRequest{})
		if err == nil && int(who.GetPid()) == ua.PID {
			return call(client)
		}
	}
	return errors.New("cannot find the UA's plugin socket")
}

func (k *kms) goroutines(ctx context.Context) (n int, err error) {
	err = k.instance(func(c pb.InstanceClient) error {
		stats, err := c.Stats(ctx, &pb.StatsRequest{})
		n = int(stats.GetValues()["goroutines"])
		return err
	})
	return n, err
}

// profile writes a profile of the UA for pprof to a file.
func (k *kms) profile(ctx context.Context, kind string, length time.Duration, path string) error {
	return k.instance(func(c pb.InstanceClient) error {
		stream, err := c.Profile(ctx, &pb.ProfileRequest{Kind: kind, Seconds: int32(length / time.Second)})
		if err != nil {
			return err
		}
		var data []byte
		for {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return os.WriteFile(path, data, 0o644)
			}
			if err != nil {
				return fmt.Errorf("cannot record a profile: %v", err)
			}
			data = append(data, chunk.GetData()...)
		}
	})
}

// close ends `kmsctl up` as Ctrl-C does; it takes its processes along.
func (k *kms) close() error {
	_ = k.cmd.Process.Signal(syscall.SIGINT) // one that has ended needs none
	ended := make(chan error, 1)
	go func() { ended <- k.cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(30 * time.Second):
		_ = k.cmd.Process.Kill()
		err = errors.Join(errors.New("kmsctl up did not end"), <-ended)
	}
	if err != nil {
		err = fmt.Errorf("kmsctl up: %w: %.2000s", err, k.stderr.String())
	}
	return errors.Join(err, os.RemoveAll(k.home))
}
