package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/nginx"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/names"
)

const nginxName = "nginx"

// startNginx lays out the slots as host.db knows them, writes the configuration and starts or adopts nginx.
func (d *Daemon) startNginx(ctx context.Context) error {
	program, err := lookProgram(d.cfg.String("nginx.program"))
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "there is no program %q", d.cfg.String("nginx.program")).
			WithHint("apt-get install nginx, or name another: --nginx-program PATH")
	}
	if group := d.cfg.String("nginx.group"); group != "" {
		if d.nginxGroup, err = groupID(group); err != nil {
			return err
		}
	}
	if err := d.letNginxIn(); err != nil {
		return err
	}
	if d.nginx, err = nginx.NewManager(d.nginxOptions(program)); err != nil {
		return err
	}
	d.mu.Lock()
	versions := slices.Collect(maps.Keys(d.routes))
	d.mu.Unlock()
	for _, version := range versions {
		if err := d.link(version); err != nil {
			return err
		}
	}
	generation, _, err := d.nginx.Write(ctx, d.nginxVersions())
	if err != nil {
		return err
	}
	if d.cfg.String("nginx.run") == "system" {
		return d.adoptSystemNginx(ctx, generation)
	}
	return d.keepNginx(ctx, program)
}

// letNginxIn opens to nginx's group the way to what workers read at each request: sockets, slots, bodies and the page. What is
// made below the latter directories later belongs to the group by itself; the keys in tls are the master's alone.
func (d *Daemon) letNginxIn() error {
	for _, dir := range []string{d.home.State, d.home.Run, filepath.Join(d.home.Run, "i")} {
		if err := nginx.Enterable(dir, d.nginxGroup); err != nil {
			return err
		}
	}
	files := d.home.Nginx()
	dirs := []string{d.home.Slots(), d.home.Routes(), files, filepath.Join(files, "bodies"), filepath.Join(files, "web")}
	known, _ := filepath.Glob(filepath.Join(d.home.Routes(), "*")) // of a start with another group
	for _, dir := range append(dirs, known...) {
		if err := nginx.Inheritable(dir, d.nginxGroup); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) nginxOptions(program string) nginx.Options {
	o := nginx.Options{
		Program: program, Dir: d.home.Nginx(), Run: d.home.Run, AccessLog: d.home.Log("nginx-access"),
		HTTP: d.cfg.String("http"), HTTPS: d.cfg.String("https"),
		Workers: d.cfg.Int("nginx.workers"), Connections: d.cfg.Int("nginx.connections"),
	}
	if os.Geteuid() == 0 {
		o.User = "root" // a master of root would make its workers nobody, whom nothing here lets in
		if group := d.cfg.String("nginx.group"); group != "" {
			o.User = "nobody " + group
		}
	}
	return o
}

func (d *Daemon) keepNginx(ctx context.Context, program string) error {
	argv := d.nginx.Command()
	d.nginxProc = &keeper{
		name: nginxName, host: d.host, log: d.log, emit: d.events.emit, stop: unix.SIGTERM,
		spec:   supervise.DaemonSpec{Name: nginxName, Program: program, Args: argv[1:], Log: d.home.Log(nginxName)},
		before: d.clearNginx,
		ready: func(ctx context.Context, pid int) error {
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			return d.verifyNginx(ctx, pid)
		},
	}
	d.refreshNginx(ctx)
	return d.nginxProc.start(ctx)
}

// refreshNginx reloads an nginx that lived on while we were away if it still has the configuration of before. One that is up
// to date is left alone: each reload keeps old workers until their last WebSocket closes.
func (d *Daemon) refreshNginx(ctx context.Context) {
	rec, ok, _ := d.host.Process(nginxName)
	if !ok || supervise.SignalRecord(rec, unix.Signal(0)) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if d.verifyNginx(ctx, rec.PID) != nil {
		_ = supervise.SignalRecord(rec, unix.SIGHUP) // one that went meanwhile is replaced
	}
}

// verifyNginx holds the workers against the configuration on disk.
func (d *Daemon) verifyNginx(ctx context.Context, master int) error {
	_, generation, err := nginx.Render(d.nginxOptions(d.cfg.String("nginx.program")), d.nginxVersions())
	if err != nil {
		return err
	}
	_, err = d.nginx.Verify(ctx, master, generation)
	return err
}

// adoptSystemNginx reloads the nginx that the system runs with our file, unless it has it already.
func (d *Daemon) adoptSystemNginx(ctx context.Context, generation string) error {
	master := d.nginxMaster()
	if master == 0 {
		return controlplane.Errorf(controlplane.Failed, "the system's nginx does not run with %q", filepath.Join(d.home.Nginx(), "nginx.conf")).
			WithHint("docs/operations.md shows the unit; or let kms run its own: --nginx-run child")
	}
	if d.upToDate(ctx, master, generation) > 0 {
		return nil
	}
	_, err := d.nginx.Reload(ctx, master, generation)
	return err
}

// nginxMaster is the pid of nginx's master, 0 when it does not run.
func (d *Daemon) nginxMaster() int {
	if d.nginxProc != nil {
		return d.nginxProc.pid()
	}
	text, err := os.ReadFile(filepath.Join(d.home.Nginx(), "nginx.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return 0
	}
	// The file outlives an nginx that was killed, and its number may be another's by now.
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.HasPrefix(title, []byte("nginx: master process")) {
		return 0
	}
	return pid
}

// clearNginx makes way for a new master. The workers of one that was killed hold the ports; told to quit, they let go of
// them in milliseconds and keep their open WebSockets.
func (d *Daemon) clearNginx(last supervise.Record) error {
	for _, worker := range supervise.Leftovers(last) {
		_ = supervise.SignalRecord(worker, unix.SIGQUIT) // gone is what we want
	}
	d.nginx.BeforeStart()
	return errors.Join(d.freePort("http"), d.freePort("https"))
}

// waitForPort gives whoever was told to leave a port half a second to do so.
func waitForPort(address string) error {
	deadline := time.Now().Add(500 * time.Millisecond)
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return errors.Unwrap(err)
		}
		if time.Now().After(deadline) {
			return errors.New("the port is in use")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// route makes the routing of a version durable, then real. The slot of a retired version stays until nginx's map answers for
// it, or requests in between would find nothing.
func (d *Daemon) route(r hostdb.Route) error {
	if err := d.host.PutRoute(r); err != nil {
		return err
	}
	failpoint.Reach(failpoint.RouteWritten)
	d.mu.Lock()
	d.routes[r.Version] = r
	d.mu.Unlock()
	if err := d.link(r.Version); err != nil {
		return err
	}
	failpoint.Reach(failpoint.SlotSwapped)
	return nil
}

// intendSwap makes durable that a set is to serve. link makes it real: here, or at the start of the next control plane.
func (d *Daemon) intendSwap(f hostdb.Flight, s *set, r hostdb.Route) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := s.Set
	next.State = controlplane.SetServing
	if err := d.host.PutSwap(f, next, r); err != nil {
		return err
	}
	failpoint.Reach(failpoint.SwapIntended)
	s.State, d.routes[r.Version] = next.State, r
	return nil
}

// link makes the slot of a version lead where stable set, pins and canary say.
func (d *Daemon) link(version string) error {
	_, err := d.swapLink(version)
	return err
}

// swapLink is link and tells how long the rename took, which is all that nginx sees. One after the other: each link is made of what is
// known when its turn comes, so the last one is right.
func (d *Daemon) swapLink(version string) (renamed time.Duration, err error) {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	route, live := d.slot(version)
	if !live {
		return 0, nil
	}
	return d.router.Swap(version, route)
}

// slot is the routing directory that a version should have.
func (d *Daemon) slot(version string) (route nginx.Route, live bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.routes[version]
	route = nginx.Route{Stable: d.home.SetDir(r.Stable), Pins: map[string]string{}, Buckets: map[int]string{}}
	for tenant, p := range d.pins[version] {
		route.Pins[tenant] = d.home.SetDir(p.Set)
	}
	if set, ok := d.tested[version]; ok {
		route.Pins[names.ProbeTenant] = d.home.SetDir(set)
	}
	if c, ok := d.canaryLocked(version); ok {
		for bucket := range c.Percent {
			route.Buckets[bucket] = d.home.SetDir(c.Set)
		}
	}
	return route, r.State == controlplane.Live
}

// routeBack makes the routing what it was before a release: the slot leads to the set that served, a name that was retired is
// so again with its message, and one that was unknown goes.
func (d *Daemon) routeBack(ctx context.Context, f hostdb.Flight) error {
	if !f.NewName() {
		return d.serveAgain(ctx, f.Before)
	}
	version, err := f.Release.Version, error(nil)
	if f.Before.Version != "" {
		err = d.route(f.Before)
	} else if err = d.host.DeleteRoute(version); err == nil {
		d.mu.Lock()
		delete(d.routes, version)
		d.mu.Unlock()
	}
	if err != nil {
		return err
	}
	_, err = d.applyNginx(ctx) // one that refuses its configuration mostly never took the name in
	return errors.Join(err, d.router.Remove(version))
}

// serveAgain leads a version's slot back to a set, which is started again when it runs no more.
func (d *Daemon) serveAgain(ctx context.Context, before hostdb.Route) error {
	old := d.setByID(before.Stable)
	if old == nil {
		return fmt.Errorf("set %q, which served version %s before, is gone", before.Stable, before.Version)
	}
	d.reviveSet(ctx, old)
	if err := d.route(before); err != nil {
		return err
	}
	_, err := d.applyNginx(ctx) // a retired name is live again
	return err
}

// nginxBackWithin is what a release waits for an nginx that died.
const nginxBackWithin = 10 * time.Second

// applyNginx tells nginx the names there are, when they changed, and returns once every new worker knows them. One that dies meanwhile
// is waited for.
func (d *Daemon) applyNginx(ctx context.Context) (string, error) {
	before := d.nginxMaster()
	report, err := d.NginxApply(ctx)
	if d.nginxProc != nil && (before == 0 || d.nginxMaster() != before) {
		if err := d.nginxProc.awaitBack(ctx, nginxBackWithin); err != nil {
			return "", err
		}
		report, err = d.NginxApply(ctx)
	}
	if err != nil {
		return "", err
	}
	if !report.Reloaded {
		return "unchanged", nil
	}
	return fmt.Sprintf("reloaded, generation %s on %d workers", report.Generation, report.Workers), nil
}

// NginxApply writes the configuration and reloads nginx if it changed.
func (d *Daemon) NginxApply(ctx context.Context) (*controlplane.NginxReport, error) {
	d.nginxMu.Lock()
	defer d.nginxMu.Unlock()
	generation, changed, err := d.nginx.Write(ctx, d.nginxVersions())
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Unhealthy, "%v", err).WithHint("kmsctl nginx diff")
	}
	failpoint.Reach(failpoint.NginxWritten)
	report := &controlplane.NginxReport{OK: true, Generation: generation}
	master := d.nginxMaster()
	if master == 0 {
		return report, nil // an nginx that is down reads the file when it starts again
	}
	if !changed {
		report.Workers = d.upToDate(ctx, master, generation)
	}
	if report.Workers > 0 {
		return report, nil
	}
	report.Reloaded = true
	if report.Workers, err = d.nginx.Reload(ctx, master, generation); err != nil {
		return nil, controlplane.Errorf(controlplane.Unhealthy, "%v", err).WithHint("kmsctl logs --role nginx")
	}
	failpoint.Reach(failpoint.NginxReloaded)
	return report, nil
}

// upToDate returns how many workers have the configuration on disk, 0 unless all do: a reload that failed or was never sent is made
// up for.
func (d *Daemon) upToDate(ctx context.Context, master int, generation string) (workers int) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	workers, err := d.nginx.Verify(ctx, master, generation)
	if err != nil {
		return 0
	}
	return workers
}

// nginxVersions is what the generated map holds.
func (d *Daemon) nginxVersions() []nginx.Version {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]nginx.Version, 0, len(d.routes))
	for _, r := range d.routes {
		v := nginx.Version{Name: r.Version, Retired: r.State == controlplane.Retired, Message: r.Message}
		if notice, ok := d.notices[r.Version]; ok {
			v.Deprecation = &notice
		}
		out = append(out, v)
	}
	return out
}

// NginxRender returns the generated file as it should be.
func (d *Daemon) NginxRender(ctx context.Context) (map[string]string, error) {
	text, err := d.nginx.Rendered(d.nginxVersions())
	return map[string]string{"nginx.conf": text}, err
}

// NginxTest lets nginx check it.
func (d *Daemon) NginxTest(ctx context.Context) (*controlplane.NginxReport, error) {
	output, err := d.nginx.Test(ctx, d.nginxVersions())
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Unhealthy, "%v", err)
	}
	return &controlplane.NginxReport{OK: true, Output: strings.TrimSpace(output)}, nil
}

// NginxDiff compares the file on disk with what it should be, as diff -u does.
func (d *Daemon) NginxDiff(ctx context.Context) (*controlplane.NginxReport, error) {
	want, err := d.nginx.Rendered(d.nginxVersions())
	if err != nil {
		return nil, err
	}
	have := d.nginx.Current()
	if have == want {
		return &controlplane.NginxReport{OK: true}, nil
	}
	cmd := exec.CommandContext(ctx, "diff", "-u", "--label", "on disk", "--label", "wanted", filepath.Join(d.home.Nginx(), "nginx.conf"), "-")
	cmd.Stdin = strings.NewReader(want)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return nil, fmt.Errorf("cannot compare nginx.conf: %v", err)
	}
	return &controlplane.NginxReport{Diff: string(out)}, nil
}

func (d *Daemon) certificate() string { return filepath.Join(d.home.Nginx(), "tls", "cert.pem") }

// lookProgram also finds what lies in the system's own directories, which a user's PATH may leave out.
func lookProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, controlplane.Errorf(controlplane.Failed, "there is no group %q", name).WithHint("--nginx-group NAME")
	}
	return strconv.Atoi(g.Gid)
}
