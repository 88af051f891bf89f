package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	grunner "github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/testkit"
)

// startByHost has another process start the instance, and kills that process.
func startByHost(t *testing.T, mode string) (Record, Spec) {
	t.Helper()
	spec := testSpec(t, mode)
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(spec.Program)
	host.Env = append(os.Environ(), modeEnv+"=host", "KMS_TEST_SPEC="+string(b))
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	host.Process.Kill()
	host.Wait()
	if err != nil {
		t.Fatal(err)
	}
	var rec Record
	if err := json.Unmarshal(line, &rec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { KillRecord(rec) })
	return rec, spec
}

func TestAdopt_afterTheHostWasKilled(t *testing.T) {
	rec, spec := startByHost(t, "normal")
	var took time.Duration
	for range 10 {
		began := time.Now()
		p, err := Adopt(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		took += time.Since(began)
		if p.Record() != rec {
			t.Fatalf("record changed to %+v", p.Record())
		}
		if _, err := p.Client().Stats(t.Context(), &pb.StatsRequest{}); err != nil {
			t.Fatal(err)
		}
		p.Detach()
	}
	t.Logf("adopted in %s on average", took/10)
	p, err := Adopt(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if p.ExitState() != "unknown, it was adopted" {
		t.Errorf("ended with %q", p.ExitState())
	}
	expectGone(t, rec.PID)
	expectEmpty(t, spec.Dir)
}

func TestAdopt_aChildThatFloodsWithoutAHost(t *testing.T) {
	rec, spec := startByHost(t, "floods")
	testkit.Eventually(t, 20*time.Second, "8 MiB of output are in the log", func() bool {
		info, err := os.Stat(spec.Log)
		return err == nil && info.Size() > 8<<20
	})
	p, err := Adopt(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Client().Stats(t.Context(), &pb.StatsRequest{})
	if err != nil || st.Values["printed"] != 8<<20 {
		t.Errorf("printed %v, %v", st.GetValues(), err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestAdopt_seesTheExitOfAnAdoptedChild(t *testing.T) {
	rec, _ := startByHost(t, "normal")
	p, err := Adopt(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	unix.Kill(rec.PID, unix.SIGKILL)
	expectExit(t, p.Exited())
	t.Logf("exit of an adopted child seen after %s", time.Since(began))
	if err := p.Kill(); err != nil { // of a dead one: fine
		t.Fatal(err)
	}
}

func TestAdopt_ownChildIsReaped(t *testing.T) {
	p := testStart(t, "normal")
	p.Detach()
	p.Detach()
	a, err := Adopt(t.Context(), p.Record())
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(p.Record().PID, unix.SIGKILL)
	expectExit(t, a.Exited())
	if a.ExitState() != "signal: killed" {
		t.Errorf("ended with %q", a.ExitState())
	}
	if _, err := readStat(p.Record().PID); err == nil {
		t.Error("a zombie is left")
	}
	a.Kill()
}

func TestAdopt_trustsNoRecord(t *testing.T) {
	p := testStart(t, "normal")
	good := p.Record()
	p.Detach()
	bystander := exec.Command("sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { bystander.Process.Kill(); bystander.Wait() }()

	tests := []struct {
		name   string
		change func(*Record)
		want   error
	}{
		{"wrong start time", func(r *Record) { r.StartTicks++ }, ErrGone},
		{"another boot", func(r *Record) { r.BootID = "00000000-0000-0000-0000-000000000000" }, ErrGone},
		{"no such pid", func(r *Record) { r.PID = 1 << 22 }, ErrGone},
		{"pid reused", func(r *Record) { r.PID = bystander.Process.Pid }, ErrGone},
		{"another instance", func(r *Record) { r.InstanceID = "other" }, ErrStranger},
		{"another role", func(r *Record) { r.Role = "api" }, ErrStranger},
		{"no socket there", func(r *Record) { r.Addr += "x" }, ErrUnresponsive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := good
			tt.change(&rec)
			if tt.want == ErrGone {
				rec.Addr = "/nowhere/x" // what is gone has its socket directory removed
			}
			_, err := Adopt(t.Context(), rec)
			expectError(t, err, tt.want)
			if tt.want == ErrGone {
				if err := KillRecord(rec); err != nil {
					t.Error(err)
				}
			}
			if !alive(good.PID) || !alive(bystander.Process.Pid) {
				t.Fatal("somebody was killed")
			}
		})
	}
	t.Run("another contract", func(t *testing.T) {
		rec := good
		rec.Protocol = 99
		var ce *plugin.ContractError
		if _, err := Adopt(t.Context(), rec); !errors.As(err, &ce) || ce.Got != 99 {
			t.Fatalf("got error %v", err)
		}
	})
	a, err := Adopt(t.Context(), good)
	if err != nil {
		t.Fatalf("after all that: %v", err)
	}
	a.Kill()
}

func TestAdopt_aStrangerOnTheSocket(t *testing.T) {
	p := testStart(t, "normal")
	rec := p.Record()
	p.Detach()
	if err := os.Rename(rec.Addr, rec.Addr+".real"); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Listen("unix", rec.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, err = Adopt(t.Context(), rec)
	expectError(t, err, ErrStranger)
	if !alive(rec.PID) {
		t.Error("our instance was killed over it")
	}
}

// docs/writing-a-version.md promises that the service and one line are enough.
func TestAdopt_aBuildWithoutGoPlugin(t *testing.T) {
	rec, spec := startByHost(t, "plain")
	p, err := Adopt(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Client().Health(t.Context(), &pb.HealthRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got error %v", err)
	}
	if err := p.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, spec.Dir)
}

// Every connect is checked, not only the first look: here the socket changes hands in between.
func TestLink_connectsToNoStranger(t *testing.T) {
	p := testStart(t, "normal")
	rec := p.Record()
	p.Detach()
	l := &link{pid: rec.PID, addr: rec.Addr}
	a := &attached{ctx: t.Context(), rec: rec, link: l}
	cfg := l.config()
	cfg.Plugins = plugin.Plugins()[rec.Protocol]
	cfg.Reattach = &goplugin.ReattachConfig{
		Protocol: goplugin.ProtocolGRPC,
		Addr:     &net.UnixAddr{Net: "unix", Name: rec.Addr},
		ReattachFunc: func() (grunner.AttachedRunner, error) {
			r, err := a.attach()
			if err := os.Rename(rec.Addr, rec.Addr+".real"); err != nil {
				t.Error(err)
			}
			return r, err
		},
	}
	client := goplugin.NewClient(cfg)
	if _, err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer a.task.detach()
	stranger, err := net.Listen("unix", rec.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	srv := grpc.NewServer()
	pb.RegisterInstanceServer(srv, &fake{id: rec.InstanceID})
	go srv.Serve(stranger)
	defer srv.Stop()
	_, _, err = l.open(t.Context(), client)
	expectError(t, err, ErrStranger)
}

func TestAdopt_aFrozenChild(t *testing.T) {
	rec, _ := startByHost(t, "normal")
	unix.Kill(rec.PID, unix.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Adopt(ctx, rec)
	expectError(t, err, ErrUnresponsive)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if !alive(rec.PID) {
		t.Fatal("it was killed")
	}
	if err := KillRecord(rec); err != nil {
		t.Fatal(err)
	}
	expectGone(t, rec.PID)
	_, err = Adopt(t.Context(), rec)
	expectError(t, err, ErrGone)
	if _, err := os.Stat(rec.Addr); !os.IsNotExist(err) {
		t.Error("its socket is left")
	}
}
