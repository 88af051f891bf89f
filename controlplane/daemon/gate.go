package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/supervise"
)

const (
	warmUpWithin = 5 * time.Minute // caches of any size
	checkWithin  = time.Minute
)

// passGate runs the operator's own commands on the new set, before anybody is led there.
func (f *flight) passGate(ctx context.Context) error { return f.d.passGate(ctx, f.new, f.gate, f.step) }

// passGate takes each command as a step of the caller's.
func (d *Daemon) passGate(ctx context.Context, s *set, g controlplane.Gate, step func(string, func() (string, error)) error) error {
	for _, c := range []struct {
		step, command string
		within        time.Duration
	}{{"warm up", g.WarmUp, warmUpWithin}, {"check", g.Check, checkWithin}} {
		if c.command == "" {
			continue
		}
		if err := step(c.step, func() (string, error) { return d.runCommand(ctx, s, c.step, c.command, c.within) }); err != nil {
			return err
		}
	}
	return nil
}

// runCommand tells the command's last line. The command itself is in no record: it may hold a secret.
func (d *Daemon) runCommand(ctx context.Context, s *set, step, command string, within time.Duration) (string, error) {
	tail, err := supervise.RunCommand(ctx, command, d.home.PluginDir(s.ID), []string{
		"KMS_VERSION=" + s.Version, "KMS_BUILD=" + s.Build, "KMS_UA_SOCKET=" + s.ua.socket(), "KMS_API_SOCKET=" + s.api.socket(),
	}, within)
	var failed *supervise.CommandError
	switch {
	case errors.As(err, &failed):
		text := fmt.Sprintf("the %s command refuses the build: %v", step, err)
		if len(failed.Tail) > 0 {
			text += "\nits last lines:\n  " + strings.Join(failed.Tail, "\n  ")
		}
		return "", controlplane.Errorf(controlplane.Unhealthy, "%s", text)
	case err != nil || len(tail) == 0:
		return "", err
	}
	return tail[len(tail)-1], nil
}
