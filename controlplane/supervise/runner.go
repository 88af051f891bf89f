package supervise

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/plugin"
)

// program is an executable, held open so that the bytes that were checked are the bytes that run.
type program struct {
	path   string
	file   *os.File
	script bool
}

// openProgram opens path; with a digest given its bytes must have that sha256.
func openProgram(path, digest string) (*program, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, notExecutable(path, err)
	}
	p := &program{path: path, file: f}
	if err := p.check(digest); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func (p *program) check(digest string) error {
	info, err := p.file.Stat()
	if err != nil {
		return notExecutable(p.path, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return &BuildError{Path: p.path, Reason: NotExecutable, Detail: "it is " + info.Mode().String() + ", want an executable file"}
	}
	magic := make([]byte, 2)
	n, _ := p.file.ReadAt(magic, 0)
	p.script = string(magic[:n]) == "#!"
	if digest == "" {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, p.file); err != nil {
		return fmt.Errorf("cannot read build %q: %v", p.path, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return &BuildError{Path: p.path, Reason: WrongDigest, Detail: fmt.Sprintf("sha256 is %s, want %s", got, digest)}
	}
	return nil
}

func notExecutable(path string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &BuildError{Path: path, Reason: NotExecutable, Detail: err.Error()}
}

// command executes the open file in a session of its own, with no more of our environment than a program needs anywhere.
func (p *program) command(args []string) *exec.Cmd {
	cmd := &exec.Cmd{
		Path:        "/proc/self/fd/" + strconv.Itoa(int(p.file.Fd())),
		Args:        append([]string{p.path}, args...),
		Dir:         "/",
		Env:         baseEnv(),
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
	if p.script { // its interpreter opens the path again, so the descriptor has to stay open beyond exec
		cmd.ExtraFiles = []*os.File{p.file}
		cmd.Path = "/proc/self/fd/3"
	}
	return cmd
}

// baseEnv leaves out what may hold secrets: everything else.
func baseEnv() []string {
	var env []string
	for _, key := range []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}

// startBusy starts what make returns. "Text file busy" passes: a fork elsewhere in this process, on its way to exec, still holds
// the descriptor the file was written through.
func startBusy(ctx context.Context, build func() *exec.Cmd) (*exec.Cmd, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		cmd := build()
		err := cmd.Start()
		if !errors.Is(err, unix.ETXTBSY) || wait > 200*time.Millisecond {
			return cmd, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return cmd, err
		}
	}
}

// launch starts a command whose exit is watched by pidfd and returns the task before it is watched.
func launch(ctx context.Context, rec Record, build func() *exec.Cmd) (*task, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	pidfd := -1
	cmd, err := startBusy(ctx, func() *exec.Cmd {
		cmd := build()
		cmd.SysProcAttr.PidFD = &pidfd
		return cmd
	})
	if err != nil {
		return nil, err
	}
	rec.PID, rec.BootID = cmd.Process.Pid, boot
	t, err := watchable(rec, pidfd, cmd)
	if err != nil {
		unix.Kill(-rec.PID, unix.SIGKILL)
		cmd.Wait()
		return nil, fmt.Errorf("cannot watch the new process: %v", err)
	}
	return t, nil
}

// watchable makes the task of our own new child. It cannot vanish meanwhile: it stays, as a zombie if need be, until we reap it.
func watchable(rec Record, pidfd int, cmd *exec.Cmd) (*task, error) {
	if pidfd < 0 { // neither every kernel nor every sandbox gives one with the clone
		var err error
		if pidfd, err = unix.PidfdOpen(rec.PID, 0); err != nil {
			return nil, err
		}
	}
	s, err := readStat(rec.PID)
	if err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	rec.StartTicks = s.ticks
	return newTask(rec, pidfd, cmd)
}

// runner is what go-plugin starts an instance through.
type runner struct {
	ctx   context.Context
	spec  Spec
	prog  *program
	log   *os.File
	env   []string // what go-plugin tells the child
	dir   string   // go-plugin's socket directory
	first firstLine

	stdout *os.File
	task   *task
	disarm func() bool // the handshake is over, ctx kills no more
}

func (r *runner) Start(context.Context) error {
	out, childOut, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %v", err)
	}
	t, err := launch(r.ctx, Record{Set: r.spec.Set, Role: r.spec.Role}, func() *exec.Cmd {
		args := r.spec.Args
		if len(args) == 0 {
			args = []string{r.spec.Role}
		}
		cmd := r.prog.command(args)
		cmd.Env = append(append(cmd.Env, r.spec.Env...), r.env...)
		cmd.Stdout, cmd.Stderr = childOut, r.log
		return cmd
	})
	childOut.Close()
	if err != nil {
		out.Close()
		return err
	}
	t.wipeSession = true
	dir := r.dir
	t.cleanup = func() { os.RemoveAll(dir) }
	r.stdout, r.task = out, t
	r.first.from = out
	go t.watch()
	r.disarm = context.AfterFunc(r.ctx, func() {
		t.killed.Store(true)
		t.signal(unix.SIGKILL)
		out.Close()
	})
	return nil
}

// Wait returns when the process has ended or was let go, so that go-plugin's goroutines end either way.
func (r *runner) Wait(context.Context) error { return waitTask(r.task) }

func waitTask(t *task) error {
	select {
	case <-t.exited:
	case <-t.detached:
	}
	return nil
}

// Kill comes from go-plugin when the handshake went wrong.
func (r *runner) Kill(context.Context) error {
	if r.first.ended() {
		r.task.waitExit(r.ctx, dyingPatience)
	}
	err := r.task.kill()
	r.stdout.Close() // a grandchild may hold the other end
	return err
}

func (r *runner) Stdout() io.ReadCloser { return readCloser{&r.first, r.stdout} }

// Stderr is empty: the child writes to the log itself, also when we are gone.
func (r *runner) Stderr() io.ReadCloser           { return io.NopCloser(strings.NewReader("")) }
func (r *runner) Name() string                    { return r.spec.Role }
func (r *runner) ID() string                      { return strconv.Itoa(r.task.rec.PID) }
func (r *runner) Diagnose(context.Context) string { return "" }

func (r *runner) PluginToHost(network, addr string) (string, string, error) {
	// Whoever answers is checked on connecting; the place is, because we delete it later.
	if network != "unix" || filepath.Dir(addr) != r.dir {
		return "", "", fmt.Errorf("it listens on %s %q, want a unix socket in $PLUGIN_UNIX_SOCKET_DIR", network, addr)
	}
	return network, addr, nil
}

func (r *runner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// firstLine remembers the beginning of what it passes on: the handshake, or what stood in its place.
type firstLine struct {
	from io.Reader
	mu   sync.Mutex
	seen []byte
	eof  bool
}

func (l *firstLine) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := 1024 - len(l.seen); room > 0 {
		l.seen = append(l.seen, p[:min(n, room)]...)
	}
	l.eof = l.eof || err != nil
	return n, err
}

func (l *firstLine) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.eof
}

// line is the first line without its end, empty when there was none.
func (l *firstLine) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	line, _, _ := bytes.Cut(l.seen, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// contractOf reads the contract version from a handshake line.
func contractOf(line string) (int, bool) {
	parts := strings.Split(line, "|")
	if len(parts) < 4 || parts[0] != "1" {
		return 0, false
	}
	v, err := strconv.Atoi(parts[1])
	return v, err == nil && v >= 0
}

// handshakeError says in our words why the handshake went wrong.
func (r *runner) handshakeError(cause error) error {
	path := r.spec.Program
	if r.task == nil {
		if errors.Is(cause, unix.ENOEXEC) || errors.Is(cause, unix.EACCES) || errors.Is(cause, unix.ENOENT) {
			return notExecutable(path, cause)
		}
		return cause
	}
	line := r.first.line()
	if v, ok := contractOf(line); ok {
		if _, known := plugin.Plugins()[v]; !known {
			return &plugin.ContractError{Got: v, Want: plugin.Contracts()}
		}
		return &BuildError{Path: path, Reason: BadHandshake, Detail: cause.Error()}
	}
	if line != "" {
		return &BuildError{Path: path, Reason: BadHandshake, Detail: fmt.Sprintf("it printed %q before the handshake", clip(line, 120))}
	}
	if state := r.task.exitState(); state != "" && !r.task.killed.Load() {
		return &BuildError{Path: path, Reason: DiedAtOnce, Detail: state}
	}
	if r.ctx.Err() != nil {
		return &BuildError{Path: path, Reason: BadHandshake, Detail: "no handshake in time"}
	}
	return &BuildError{Path: path, Reason: BadHandshake, Detail: "no handshake on its standard output"}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
