package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit/freeport"
)

// options say what a rig is made of. All paths are absolute.
type options struct {
	builds string    // directory of kmsctl and kms-VERSION
	home   string    // empty: a new short one in /tmp, removed at the end
	run    string    // directory of the sockets; empty: in the home
	store  string    // URL; empty: SQLite in the home
	ircd   string    // empty: whichever is installed
	log    io.Writer // what the control plane prints on stderr
	env    []string  // more settings, as KMS_NAME=VALUE
}

// rig is a whole KMS of real parts in a home of its own, on ports of its own.
type rig struct {
	options
	http, https, irc string   // host:port
	release          []func() // lets others have those
	ownHome          bool
	up               *daemon
}

func newRig(o options) (*rig, error) {
	r := &rig{options: o}
	if r.log == nil {
		r.log = io.Discard
	}
	if r.home == "" {
		home, err := os.MkdirTemp("/tmp", "kmssmoke")
		if err != nil {
			return nil, fmt.Errorf("cannot make a home: %v", err)
		}
		r.home, r.ownHome = home, true
	}
	for _, address := range []*string{&r.http, &r.https, &r.irc} {
		claimed, release, err := freeport.Claim()
		if err != nil {
			return nil, errors.Join(err, r.removeHome())
		}
		*address, r.release = claimed, append(r.release, release)
	}
	return r, nil
}

// environ is how every kmsctl of the rig learns its settings: a store's password may not stand on a command line.
func (r *rig) environ() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.home, "KMS_HOME=" + r.home, "KMS_BUILDS=" + r.builds,
		"KMS_HTTP=" + r.http, "KMS_HTTPS=" + r.https, "KMS_IRC_LISTEN=" + r.irc, "KMS_IRC_KIND=" + r.ircd,
	}
	if r.run != "" {
		env = append(env, "KMS_RUN="+r.run)
	}
	if r.store != "" {
		env = append(env, "KMS_STORE="+r.store)
	}
	return append(env, r.env...)
}

func (r *rig) runDir() string {
	if r.run != "" {
		return r.run
	}
	return r.path("run")
}

func (r *rig) path(parts ...string) string {
	return filepath.Join(append([]string{r.home}, parts...)...)
}

// start runs `kmsctl up` or `kmsctl server` and returns when it says that everything serves, or why it ended.
func (r *rig) start(ctx context.Context, args ...string) error {
	d, err := r.launch(args...)
	if err != nil {
		return err
	}
	r.up = d
	for {
		if d.printed() || args[0] == "server" && r.answers(ctx) {
			return nil
		}
		select {
		case <-d.ended:
			r.up = nil
			return fmt.Errorf("kmsctl %s ended with %d: %s", args[0], d.code(), d.stderr.tail())
		case <-ctx.Done():
			return fmt.Errorf("kmsctl %s is not ready: %w: %s", args[0], ctx.Err(), d.stderr.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r *rig) answers(ctx context.Context) bool {
	_, err := r.status(ctx)
	return err == nil
}

// status is `kmsctl status -o json`, which exits with 1 while something is unhealthy.
func (r *rig) status(ctx context.Context) (*controlplane.Status, error) {
	done, err := r.kmsctl(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	if done.code > 1 || len(done.stdout) == 0 {
		return nil, done.failure()
	}
	var s controlplane.Status
	if err := json.Unmarshal(done.stdout, &s); err != nil {
		return nil, fmt.Errorf("cannot read the status: %v", err)
	}
	if s.Healthy != (done.code == 0) {
		return nil, fmt.Errorf("kmsctl status says healthy %v and exits with %d", s.Healthy, done.code)
	}
	return &s, nil
}

// awaitHealthy returns the first status in which everything is healthy.
func (r *rig) awaitHealthy(ctx context.Context) (*controlplane.Status, error) {
	for {
		s, err := r.status(ctx)
		if err == nil && s.Healthy {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("not healthy in time: %s", unhealthy(s, err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unhealthy names what a status complains of.
func unhealthy(s *controlplane.Status, err error) string {
	if err != nil {
		return err.Error()
	}
	text := ""
	for _, c := range s.Components {
		if c.State != "ok" {
			text += fmt.Sprintf("%s is %s (%s); ", c.Name, c.State, c.Detail)
		}
	}
	for _, v := range s.Versions {
		for _, set := range v.Sets {
			for _, in := range set.Instances {
				if in.State != controlplane.InstanceReady {
					text += fmt.Sprintf("%s %s is %s (%s); ", v.Name, in.Role, in.State, in.Problem)
				}
			}
		}
	}
	return text
}

// stop ends the control plane as Ctrl-C does and returns its exit code.
func (r *rig) stop(ctx context.Context) (int, error) {
	d := r.up
	if d == nil {
		return 0, nil
	}
	r.up = nil
	return d.interrupt(ctx)
}

// close tears everything down. What should have gone and has not is ended by force and told as an error.
func (r *rig) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	code, err := r.stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("kmsctl up ended with %d", code)
	}
	err = errors.Join(err, r.leftovers(), r.sweep(), r.removeHome())
	for _, release := range r.release {
		release()
	}
	return err
}

func (r *rig) removeHome() error {
	if !r.ownHome {
		return nil
	}
	return os.RemoveAll(r.home)
}

// leftovers tells what `up` left behind: processes that have to do with the home, sockets, ports that are still taken.
func (r *rig) leftovers() error {
	var left []error
	for _, p := range processesOf(r.home) {
		left = append(left, fmt.Errorf("process %d is left: %s", p.pid, p.command))
	}
	_ = filepath.WalkDir(r.home, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type()&os.ModeSocket != 0 {
			left = append(left, fmt.Errorf("socket %q is left", path))
		}
		return nil // a home that is gone has no sockets
	})
	for _, address := range []string{r.http, r.https, r.irc} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			left = append(left, fmt.Errorf("%s is still taken", address))
			continue
		}
		l.Close()
	}
	return errors.Join(left...)
}

// sweep kills what is left, so that a failed run leaves the machine as it was.
func (r *rig) sweep() error {
	for _, p := range processesOf(r.home) {
		p.kill()
	}
	return nil
}
