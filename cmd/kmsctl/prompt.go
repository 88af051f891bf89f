package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
)

// confirm asks a person, and refuses to guess for a script.
func (c *cli) confirm(ctx context.Context, format string, args ...any) error {
	if c.yes {
		return nil
	}
	question := clean(fmt.Sprintf(format, args...))
	if !c.inTTY {
		return controlplane.Errorf(controlplane.Usage, "cannot ask without a terminal: %s?", question).WithHint("add --yes when you mean it")
	}
	answer, err := ask(ctx, question+"? [y/N] ", true)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return nil
	}
	return controlplane.Errorf(controlplane.Failed, "not confirmed, nothing was changed")
}

// readSecret reads one line from stdin: secrets never stand on a command line, where ps and histories show them.
func (c *cli) readSecret(ctx context.Context, what string) (string, error) {
	if c.inTTY {
		return ask(ctx, what+": ", false)
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, 64<<10)).ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if line == "" || err != nil && err != io.EOF {
		return "", controlplane.Errorf(controlplane.Usage, "cannot read %s: stdin is empty", what)
	}
	return line, nil
}

// ask puts a question to the terminal itself, which is there even when stderr goes into a file. Ctrl-C ends it.
func ask(ctx context.Context, question string, echo bool) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", controlplane.Errorf(controlplane.Usage, "cannot ask: %v", err)
	}
	defer tty.Close()
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if !echo {
		defer hide(tty)()
	}
	fmt.Fprint(tty, question)
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return "", controlplane.Errorf(controlplane.Failed, "no answer, nothing was changed")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// hide turns a terminal's echo off and returns what turns it on again. The descriptor stays in Go's poller, so that a read
// can be given up, which term.ReadPassword does not allow.
func hide(tty *os.File) (restore func()) {
	control := func(do func(fd int)) {
		if raw, err := tty.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { do(int(fd)) })
		}
	}
	var before *unix.Termios
	control(func(fd int) {
		state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return
		}
		before = state
		silent := *state
		silent.Lflag &^= unix.ECHO
		unix.IoctlSetTermios(fd, unix.TCSETS, &silent)
	})
	return func() {
		if before != nil {
			control(func(fd int) { unix.IoctlSetTermios(fd, unix.TCSETS, before) })
			fmt.Fprintln(tty)
		}
	}
}
