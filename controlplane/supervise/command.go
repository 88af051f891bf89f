package supervise

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// CommandError is a command of the operator's that did not end with 0 in time. Tail is the last lines of what it printed.
type CommandError struct {
	Detail string
	Tail   []string
}

func (e *CommandError) Error() string { return e.Detail }

// RunCommand runs a shell command in a session of its own, with env beside PATH, HOME and locale, for at most within; then it and all
// it started are killed. dir marks it for Strays. What it prints on both streams is returned by its last lines. An error is a
// *CommandError, or that the shell could not be started.
func RunCommand(ctx context.Context, command, dir string, env []string, within time.Duration) (tail []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out := &lastBytes{most: outputMost}
	t, err := launch(ctx, Record{Name: "command"}, func() *exec.Cmd {
		return &exec.Cmd{
			Path: "/bin/sh", Args: []string{"sh", "-c", command}, Dir: "/", Stdout: out, Stderr: out,
			Env:         append(append(baseEnv(), markEnv+"="+dir), env...),
			SysProcAttr: &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL},
			WaitDelay:   500 * time.Millisecond, // should something still hold the pipes
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot run a shell: %v", err)
	}
	t.wipeSession = true
	stop := context.AfterFunc(ctx, func() { t.signal(unix.SIGKILL) })
	go t.watch()
	<-t.done
	inTime := stop()
	tail = lastLines(out.b, tailLines)
	switch {
	case !inTime && ctx.Err() == context.DeadlineExceeded:
		return tail, &CommandError{fmt.Sprintf("it did not end within %s", within), tail}
	case !inTime:
		return tail, ctx.Err()
	case !t.cmd.ProcessState.Success():
		return tail, &CommandError{"it ended with " + t.state, tail}
	}
	return tail, nil
}
