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
func (f *flight) passGate(ctx context.Context) error {
	for _, c := range []struct {
		step, command string
		within        time.Duration
	}{{"warm up", f.gate.WarmUp, warmUpWithin}, {"check", f.gate.Check, checkWithin}} {
		if c.command == "" {
			continue
		}
		if err := f.step(c.step, func() (string, error) { return f.runCommand(ctx, c.step, c.command, c.within) }); err != nil {
			return err
		}
	}
	return nil
}

// runCommand tells the command's last line. The command itself is in no record: it may hold a secret.
func (f *flight) runCommand(ctx context.Context, step, command string, within time.Duration) (string, error) {
	s := f.new
	tail, err := supervise.RunCommand(ctx, command, f.d.home.PluginDir(s.ID), []string{
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
