package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/plugin"
)

const (
	describeWithin = 5 * time.Second
	probeWithin    = 10 * time.Second
	outputMost     = 64 << 10
)

// Describe runs `BUILD describe`, for 5 s at most, and checks the answer. The bytes that run have the digest, unless that is empty.
// Errors are *BuildError (not executable, other bytes, not a build), which wraps the *plugin.ContractError or *names.Error that made it so.
func Describe(ctx context.Context, path, digest string) (plugin.Describe, error) {
	var d plugin.Describe
	out, tail, err := runBuild(ctx, path, digest, "describe", nil, describeWithin)
	if err != nil {
		return d, err
	}
	bad := func(detail string) error {
		return &BuildError{Path: path, Reason: NotABuild, Detail: detail, Tail: tail}
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return d, bad(fmt.Sprintf("`describe` printed no JSON object of ours: %v", err))
	}
	if d.Contract == 0 {
		return d, bad("`describe` names no contract version")
	}
	if err := d.Check(); err != nil {
		return d, &BuildError{Path: path, Reason: NotABuild, Detail: err.Error(), Cause: err}
	}
	return d, nil
}

// Probe runs `BUILD probe` against a set, for 10 s at most; digest is as for Describe. An error is a *BuildError whose Tail is the
// last lines of its stderr.
func Probe(ctx context.Context, path, digest string, target plugin.ProbeTarget) error {
	in, err := json.Marshal(target)
	if err != nil {
		return fmt.Errorf("internal error: cannot encode the probe's target: %v", err)
	}
	_, _, err = runBuild(ctx, path, digest, "probe", in, probeWithin)
	var b *BuildError
	if errors.As(err, &b) && b.Reason == NotABuild {
		b.Reason = ProbeFailed
	}
	return err
}

// runBuild runs one of a build's short commands in a session of its own and leaves nothing of it behind.
func runBuild(ctx context.Context, path, digest, verb string, stdin []byte, within time.Duration) (out []byte, tail []string, err error) {
	prog, err := openProgram(path, digest)
	if err != nil {
		return nil, nil, err
	}
	defer prog.file.Close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()

	stdout, stderr := &bounded{most: outputMost}, &lastBytes{most: outputMost}
	t, err := launch(ctx, Record{Name: verb}, func() *exec.Cmd {
		cmd := prog.command([]string{verb})
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
		cmd.WaitDelay = 500 * time.Millisecond // should something still hold the pipes
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
		return cmd
	})
	if err != nil {
		return nil, nil, notExecutable(path, err)
	}
	t.wipeSession = true
	stop := context.AfterFunc(ctx, func() { t.signal(unix.SIGKILL) })
	go t.watch()
	<-t.done
	inTime := stop()

	tail = lastLines(stderr.b, tailLines)
	fail := func(detail string) ([]byte, []string, error) {
		return nil, tail, &BuildError{Path: path, Reason: NotABuild, Detail: "`" + verb + "` " + detail, Tail: tail}
	}
	switch {
	case !inTime && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fail(fmt.Sprintf("did not end within %s", within))
	case !inTime:
		return nil, tail, ctx.Err()
	case stdout.over:
		return fail(fmt.Sprintf("printed more than %d bytes", outputMost))
	case !t.cmd.ProcessState.Success():
		return fail("ended with " + t.state)
	}
	return stdout.b, tail, nil
}

// bounded keeps the first bytes written to it and refuses more, which ends a program that floods.
type bounded struct {
	most int
	b    []byte
	over bool
}

func (w *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), w.most-len(w.b))
	w.b = append(w.b, p[:keep]...)
	if keep < len(p) {
		w.over = true
		return keep, io.ErrShortWrite
	}
	return keep, nil
}

// lastBytes keeps the last bytes written to it.
type lastBytes struct {
	most int
	b    []byte
}

func (w *lastBytes) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if over := len(w.b) - w.most; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(p), nil
}
