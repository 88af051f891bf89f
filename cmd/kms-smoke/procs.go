package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// proc is a process of this machine.
type proc struct {
	pid     int
	command string
}

func (p proc) kill() { _ = syscall.Kill(p.pid, syscall.SIGKILL) } // gone already is what we want

// processesOf lists the processes, but for this one, that have to do with a directory: by their command line, their
// working directory, the program they run or a file they hold open.
func processesOf(dir string) []proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if command, ok := mentions(filepath.Join("/proc", e.Name()), dir); ok {
			out = append(out, proc{pid, command})
		}
	}
	return out
}

// mentions looks into /proc/PID; whatever cannot be read belongs to somebody else or has just ended.
func mentions(proc, dir string) (command string, ok bool) {
	if state, err := os.ReadFile(filepath.Join(proc, "stat")); err != nil || bytes.Contains(state, []byte(") Z ")) {
		return "", false
	}
	text, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
	command = string(bytes.ReplaceAll(bytes.TrimRight(text, "\x00"), []byte{0}, []byte{' '}))
	if strings.Contains(command, dir) {
		return command, true
	}
	links := []string{filepath.Join(proc, "cwd"), filepath.Join(proc, "exe")}
	files, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, link := range append(links, files...) {
		if target, err := os.Readlink(link); err == nil && strings.Contains(target, dir) {
			return command, true
		}
	}
	return "", false
}
