package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// tickTime is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux.
const tickTime = 10 * time.Millisecond

// cpuOf is what the kernel has charged to some processes since their start, user and system.
func cpuOf(pids []int) (time.Duration, error) {
	total := time.Duration(0)
	for _, pid := range pids {
		fields, err := statOf(pid)
		if err != nil {
			return 0, err
		}
		for _, field := range fields[11:13] { // utime, stime
			ticks, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read the CPU time of process %d: %v", pid, err)
			}
			total += time.Duration(ticks) * tickTime
		}
	}
	return total, nil
}

// statOf returns the fields of /proc/PID/stat that follow the command's name: state, parent and so on.
func statOf(pid int) ([][]byte, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("cannot read the CPU time of process %d: %v", pid, err)
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return nil, fmt.Errorf("cannot read the CPU time of process %d: %d fields", pid, len(fields))
	}
	return fields, nil
}

// ownCPU is this process's, which is the load's.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it takes no other argument that could be wrong
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pssOf is the memory of some processes in bytes, shared pages by their share.
func pssOf(pids []int) (int64, error) {
	total := int64(0)
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("cannot read the memory of process %d: %v", pid, err)
		}
		for line := range bytes.Lines(text) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
				kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("cannot read the memory of process %d: %v", pid, err)
				}
				total += kib << 10
			}
		}
	}
	return total, nil
}

// childrenOf lists a process's children, such as nginx's workers.
func childrenOf(parent int) []int {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	var list []int
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if fields, err := statOf(pid); err == nil && string(fields[1]) == strconv.Itoa(parent) {
			list = append(list, pid)
		}
	}
	return list
}
