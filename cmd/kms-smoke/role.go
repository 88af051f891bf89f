package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// role is this program again, as a part of the bench that is to have a process of its own. It ends when its stdin does, so with us.
type role struct {
	io.Reader // its stdout
	io.WriteCloser
	cmd *exec.Cmd
}

// startRole starts it in a session of its own, which has its own share of the CPU (sched(7), autogroup). wrapper is a command that runs
// another, or nothing.
func startRole(ctx context.Context, env string, wrapper ...string) (*role, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append(wrapper, program)
	r := &role{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	r.cmd.Env, r.cmd.Stderr = append(os.Environ(), env), os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if r.WriteCloser, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if r.Reader, err = r.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start this program again: %v", err)
	}
	return r, nil
}

// end waits for its end.
func (r *role) end() error {
	r.Close()
	return r.cmd.Wait()
}
