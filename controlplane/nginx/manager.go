package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// verifyWithin bounds how long all new workers may take to answer; 11-21 ms were measured.
const verifyWithin = 5 * time.Second

// Manager owns the generated files of one nginx. It starts no process: whoever supervises nginx does, with Command.
type Manager struct {
	o  Options
	mu sync.Mutex // one change of the files at a time
}

// NewManager makes the directories nginx needs.
func NewManager(o Options) (*Manager, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	for _, dir := range []string{o.Dir, filepath.Join(o.Dir, "tmp"), filepath.Dir(o.AccessLog)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make %q: %v", dir, err)
		}
	}
	if err := EnsureCertificate(o.Dir); err != nil {
		return nil, err
	}
	return &Manager{o: o}, WritePage(o.Dir)
}

func (m *Manager) path() string { return filepath.Join(m.o.Dir, "nginx.conf") }

// Command is how to run nginx in the foreground.
func (m *Manager) Command() []string {
	return []string{m.o.Program, "-p", m.o.Dir, "-c", m.path(), "-g", "daemon off;"}
}

// BeforeStart removes the check socket of an nginx that was killed: nginx would refuse to bind over it.
func (m *Manager) BeforeStart() { os.Remove(checkSocket(m.o)) }

// Write puts the configuration for these versions in place after nginx itself has tested it. It reports whether the text
// changed, in which case a running nginx needs Reload. A configuration that nginx refuses leaves the old one in place.
func (m *Manager) Write(ctx context.Context, versions []Version) (generation string, changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := WriteBodies(m.o.Dir, versions); err != nil {
		return "", false, err
	}
	text, generation, err := Render(m.o, versions)
	if err != nil {
		return "", false, err
	}
	old, err := os.ReadFile(m.path())
	if err == nil && bytes.Equal(old, text) {
		return generation, false, nil
	}
	if _, err := m.test(ctx, text); err != nil {
		return "", false, err
	}
	if err := renameio.WriteFile(m.path(), text, 0o644); err != nil {
		return "", false, fmt.Errorf("cannot write %q: %v", m.path(), err)
	}
	return generation, true, nil
}

// WriteBodies writes what nginx answers by itself; it reads that at each request.
func (m *Manager) WriteBodies(versions []Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return WriteBodies(m.o.Dir, versions)
}

// Test lets nginx check what would be written now, without writing it.
func (m *Manager) Test(ctx context.Context, versions []Version) (output string, err error) {
	text, _, err := Render(m.o, versions)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.test(ctx, text)
}

// Current returns the configuration on disk, empty when there is none.
func (m *Manager) Current() string {
	text, _ := os.ReadFile(m.path())
	return string(text)
}

// Rendered returns the configuration as it would be written.
func (m *Manager) Rendered(versions []Version) (string, error) {
	text, _, err := Render(m.o, versions)
	return string(text), err
}

// test runs `nginx -t` on a candidate beside the real file. Its pid path is the real one, so it gets its own prefix file.
func (m *Manager) test(ctx context.Context, text []byte) (string, error) {
	candidate := m.path() + ".candidate"
	if err := os.WriteFile(candidate, text, 0o644); err != nil {
		return "", fmt.Errorf("cannot write %q: %v", candidate, err)
	}
	defer os.Remove(candidate)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, m.o.Program, "-t", "-p", m.o.Dir, "-c", candidate).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("nginx refuses the configuration: %s", lastLines(string(out), 3))
	}
	return string(out), nil
}

// Reload tells the master to read the configuration and waits until every new worker answers with the generation.
func (m *Manager) Reload(ctx context.Context, master int, generation string) (workers int, err error) {
	if err := unix.Kill(master, unix.SIGHUP); err != nil {
		return 0, fmt.Errorf("cannot reload nginx (pid %d): %v", master, err)
	}
	return m.Verify(ctx, master, generation)
}

// Verify waits until every worker that is not shutting down answers with the generation, and returns how many did. One
// answer proves one worker only.
func (m *Manager) Verify(ctx context.Context, master int, generation string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	answered := map[int]string{}
	for {
		if pid, gen, err := m.ask(ctx); err == nil {
			answered[pid] = gen
		}
		workers := Workers(master)
		if allAnswered(workers, answered, generation) {
			return len(workers), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("nginx (pid %d) did not take generation %s within %s: %d workers, answers %v",
				master, generation, verifyWithin, len(workers), answered)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func allAnswered(workers []int, answered map[int]string, generation string) bool {
	for _, pid := range workers {
		if answered[pid] != generation {
			return false
		}
	}
	return len(workers) > 0
}

// ask opens a fresh connection, so that any worker may take it.
func (m *Manager) ask(ctx context.Context) (pid int, generation string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", checkSocket(m.o))
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nginx/generation", nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 256))
	if err != nil {
		return 0, "", err
	}
	first, rest, ok := strings.Cut(strings.TrimSpace(string(text)), " ")
	if !ok {
		return 0, "", errors.New("nginx answered without a generation")
	}
	pid, err = strconv.Atoi(first)
	return pid, rest, err
}

// Workers lists the pids of a master's workers that still take connections.
func Workers(master int) []int {
	var out []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parent(pid) != master {
			continue
		}
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.HasPrefix(title, []byte("nginx: worker process")) && !bytes.Contains(title, []byte("shutting down")) {
			out = append(out, pid)
		}
	}
	return out
}

// parent reads the parent's pid; the program's name before it may hold spaces and brackets, so it counts from the last one.
func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return -1
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return -1
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return -1
	}
	return ppid
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "; ")
}
