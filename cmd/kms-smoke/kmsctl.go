package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

// outcome is what a kmsctl command printed and ended with.
type outcome struct {
	args           []string
	stdout, stderr []byte
	code           int
	took           time.Duration
}

func (o *outcome) failure() error {
	return fmt.Errorf("kmsctl %s ended with %d: %s", strings.Join(o.args, " "), o.code, bytes.TrimSpace(o.stderr))
}

// kmsctl runs a command to its end. A code other than 0 is no error here.
func (r *rig) kmsctl(ctx context.Context, args ...string) (*outcome, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.builds, "kmsctl"), args...)
	cmd.Env = r.environ()
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	o := &outcome{args: args, stdout: stdout.Bytes(), stderr: stderr.Bytes(), took: time.Since(began)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return nil, fmt.Errorf("cannot run kmsctl %s: %v", strings.Join(args, " "), err)
	}
	o.code = cmd.ProcessState.ExitCode()
	return o, nil
}

// must runs a command that has to succeed, and reads its JSON answer into v unless that is nil.
func (r *rig) must(ctx context.Context, v any, args ...string) (time.Duration, error) {
	if v != nil {
		args = append(args, "-o", "json")
	}
	o, err := r.kmsctl(ctx, args...)
	if err != nil {
		return 0, err
	}
	if o.code != 0 {
		return 0, o.failure()
	}
	if v != nil {
		if err := json.Unmarshal(o.stdout, v); err != nil {
			return 0, fmt.Errorf("cannot read the answer of kmsctl %s: %v", strings.Join(args, " "), err)
		}
	}
	return o.took, nil
}

// refused runs a command that has to end with a code, and returns what it said.
func (r *rig) refused(ctx context.Context, code int, args ...string) (string, error) {
	o, err := r.kmsctl(ctx, args...)
	if err != nil {
		return "", err
	}
	if o.code != code {
		return "", fmt.Errorf("%w, want %d", o.failure(), code)
	}
	return string(o.stderr), nil
}

// daemon is a running `kmsctl up` or `kmsctl server`.
type daemon struct {
	cmd            *exec.Cmd
	stdout, stderr *recorder
	ended          chan struct{}
}

// launch starts kmsctl in a session of its own, as a host does: out of reach of the terminal's Ctrl-C, and with its own share of the CPU.
// It ends with us, however we do.
func (r *rig) launch(args ...string) (*daemon, error) {
	args = append(args, "-o", "json")
	d := &daemon{cmd: exec.Command(filepath.Join(r.builds, "kmsctl"), args...), stdout: &recorder{}, stderr: &recorder{}, ended: make(chan struct{})}
	d.cmd.Env = r.environ()
	d.cmd.Stdout, d.cmd.Stderr = d.stdout, d.stderr
	d.stderr.also = r.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	d.cmd.WaitDelay = time.Second // should a child that lives on hold our pipes
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start kmsctl: %v", err)
	}
	go func() {
		_ = d.cmd.Wait() // the state tells all
		close(d.ended)
	}()
	return d, nil
}

func (d *daemon) printed() bool { return bytes.ContainsRune(d.stdout.bytes(), '\n') }

// code is the exit code once it has ended.
func (d *daemon) code() int { return d.cmd.ProcessState.ExitCode() }

// interrupt is Ctrl-C.
func (d *daemon) interrupt(ctx context.Context) (int, error) { return d.signal(ctx, syscall.SIGINT) }

// kill is kill -9.
func (d *daemon) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := d.signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	if d.code() != -1 {
		return errors.New("the control plane had ended before it was killed")
	}
	return nil
}

// signal sends a signal and waits for the end, which it forces when ctx ends first.
func (d *daemon) signal(ctx context.Context, s syscall.Signal) (int, error) {
	_ = d.cmd.Process.Signal(s) // one that has ended needs none
	select {
	case <-d.ended:
		return d.code(), nil
	case <-ctx.Done():
		_ = d.cmd.Process.Kill()
		<-d.ended
		return -1, fmt.Errorf("kmsctl did not end after %v: %s", s, d.stderr.tail())
	}
}

// recorder keeps what a process prints, and passes it on.
type recorder struct {
	mu   sync.Mutex
	text []byte
	also interface{ Write([]byte) (int, error) }
}

func (w *recorder) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if w.also != nil {
		return w.also.Write(p)
	}
	return len(p), nil
}

func (w *recorder) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.text)
}

// tail is the end of it, for error messages.
func (w *recorder) tail() string {
	text := w.bytes()
	return string(bytes.TrimSpace(text[max(0, len(text)-1500):]))
}

// pids are the processes of a status by what they are: irc, nginx, "1.0 ua".
func pids(s *controlplane.Status) map[string]int {
	out := map[string]int{}
	for _, c := range s.Components {
		if c.PID != 0 {
			out[c.Name] = c.PID
		}
	}
	for _, v := range s.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				out[v.Name+" "+in.Role] = in.PID
			}
		}
	}
	return out
}
