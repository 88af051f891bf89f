// Package role starts the running program again as another part of a benchmark, in a process of its own, so that the parts do not wait
// for each other's turns. A program asks which of its roles it is by the variable that it gave to Start.
package role

import (
	"context"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Process is a started role: its stdout to read, its stdin to write. It has to end when its stdin does, so it ends with us.
type Process struct {
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

// Start starts the program again with one more variable, as NAME=VALUE, in a session of its own: where each session has its share of the
// CPU (sched(7), autogroup), the role does not have ours. ctx kills it.
func Start(ctx context.Context, variable string) (*Process, error) { return start(ctx, variable) }

// StartPolite is Start of a role that takes what CPU time everybody else leaves: clients have their own machines.
func StartPolite(ctx context.Context, variable string) (*Process, error) {
	return start(ctx, variable, "nice", "-n", "19")
}

func start(ctx context.Context, variable string, wrapper ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append(wrapper, program)
	p := &Process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), variable), os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.WriteCloser, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.Reader, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start this program again: %v", err)
	}
	return p, nil
}

// End closes the role's stdin and waits for its end.
func (p *Process) End() error {
	p.Close()
	return p.cmd.Wait()
}

// Client calls a role that is in Serve.
func (p *Process) Client() *rpc.Client { return jsonrpc.NewClient(p) }

// Serve has the methods of a service, which are as net/rpc wants them, called by JSON-RPC on stdin and stdout until stdin ends.
func Serve(service any) error {
	if nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil {
		// Between sessions that have a share of the CPU each nice does not count, but the share's own does. The call returns 20 - nice.
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(20-nice)), 0)
	}
	server := rpc.NewServer()
	if err := server.Register(service); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout}))
	return nil
}
