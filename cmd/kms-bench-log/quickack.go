package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/kmsctl/kms/cmd/internal/figure"
	"github.com/kmsctl/kms/controlplane/irclink"
)

// insideEnv marks the process that measures in a network of its own.
const insideEnv = "KMS_BENCH_LOG_INSIDE"

// inside runs the scenario once more, by another process in a network of its own whose loopback acknowledges at once, as `irc
// config` sets up the hosts of linked servers. It returns fs.ErrPermission where that is not allowed.
func (b *bench) inside(ctx context.Context, scenario string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "--builds", b.builds, "--only", scenario, "--length", b.length.String(),
		"--senders", strconv.Itoa(b.senders), "--crowd", strconv.Itoa(b.crowd))
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	var lines bytes.Buffer
	cmd.Stdout, cmd.Stderr = &lines, b.progress
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	missed := b.figures.Missed()
	for from := json.NewDecoder(&lines); from.More(); {
		var f figure.Figure
		if err := from.Decode(&f); err != nil {
			return fmt.Errorf("cannot read a figure: %v", err)
		}
		if err := b.figures.Tell(f); err != nil {
			return err
		}
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 && b.figures.Missed() > missed {
		return nil // that is why
	}
	return err
}

// quickLoopback readies the network that inside made.
func quickLoopback(ctx context.Context) error {
	for _, command := range []string{"ip link set lo up", irclink.QuickAck("127.0.0.1")} {
		if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot set the loopback's route: %v: %s", err, out)
		}
	}
	return nil
}

// linked runs linkedHere where the hosts are as `irc config` wants them, or, where that is forbidden, as they are.
func (b *bench) linked(ctx context.Context) error {
	if os.Getenv(insideEnv) != "" {
		if err := quickLoopback(ctx); err != nil {
			return err
		}
		return b.linkedHere(ctx, true)
	}
	err := b.inside(ctx, "linked")
	if errors.Is(err, fs.ErrPermission) {
		b.say("linked: no network of our own here (%v): acknowledgements stay delayed", err)
		return b.linkedHere(ctx, false)
	}
	return err
}
