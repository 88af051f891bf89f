// Package daemon is the control plane as a running program: it puts hostdb, supervise, nginx, the IRC server, the shared
// store and the control API together, keeps what should run running, and executes releases.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/nginx"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/store"
)

// Options are what kmsctl passes on.
type Options struct {
	Config  *config.Config
	Log     *slog.Logger
	Version string // kmsctl's own
	// Laptop is `kmsctl up`: everything is stopped at the end, and a first start deploys the builds beside the binary and
	// makes the tenant demo. Without it (`kmsctl server`) all that runs stays when the control plane goes.
	Laptop   bool
	Progress func(string)               // what takes a moment, one line each; may be nil
	Ready    func(*controlplane.Status) // called once when everything serves; may be nil
}

// Daemon is the running control plane.
type Daemon struct {
	o          Options
	cfg        *config.Config
	log        *slog.Logger
	home       *home
	node       string
	identity   string // this home, as leases name it
	nginxGroup int    // gid that may enter the sets' directories, -1 for our own
	startedAt  time.Time

	host   *hostdb.DB
	store  atomic.Pointer[store.Store] // replaced by a restore
	events *events
	nginx  *nginx.Manager
	router *nginx.Router
	probe  atomic.Pointer[probeIdentity] // nil until the store was there once

	nginxProc *keeper // nil when the system runs nginx
	ircProc   *keeper // nil without an IRC server of our own

	mu        sync.Mutex // guards what follows; never held over a call to a process or the shared store
	sets      map[string]*set
	routes    map[string]hostdb.Route
	flights   map[string]*flight                     // by version
	queues    map[string][]*flight                   // who waits for a version, in the order in which they came
	links     []store.Link                           // as last read from the store
	restoring bool                                   // no release begins and no set moves along
	pins      map[string]map[string]controlplane.Pin // version -> tenant
	canaries  map[string]controlplane.Canary         // by version
	notices   map[string]controlplane.Deprecation    // by version, as last read from the store
	stuck     map[string]*controlplane.Error         // by version, why this host cannot follow a release, and the next command
	tested    map[string]string                      // by version, the set to which nginx leads the probe's tenant alone

	nginxMu sync.Mutex   // one change of nginx at a time
	noticed time.Time    // when the notices were last asked for; the watch's own
	rotated time.Time    // when the logs were last looked after; the watch's own
	linkMu  sync.Mutex   // one change of a slot at a time, made of what is known when it begins
	damaged sync.Map     // digests of files that a verification found to be other bytes
	storing sync.RWMutex // held for writing while builds are collected
	copying sync.RWMutex // held for reading while a backup is written
	auditMu sync.Mutex   // one at a time enters what host.db owes the audit trail
	ctx     context.Context
	work    sync.WaitGroup // whatever runs until ctx ends: releases, the watch, the control API
}

// Run is the control plane from start to end; it returns when ctx ends or the start fails. What fails names the thing and
// the next command to type.
func Run(ctx context.Context, o Options) error { return newDaemon(o).run(ctx) }

func newDaemon(o Options) *Daemon {
	d := &Daemon{
		o: o, cfg: o.Config, log: o.Log, node: o.Config.Node(), nginxGroup: -1, startedAt: time.Now(), events: newEvents(),
		sets: map[string]*set{}, routes: map[string]hostdb.Route{}, flights: map[string]*flight{},
		queues: map[string][]*flight{},
		pins:   map[string]map[string]controlplane.Pin{}, canaries: map[string]controlplane.Canary{}, tested: map[string]string{},
	}
	if o.Progress == nil {
		d.o.Progress = func(string) {}
	}
	return d
}

func (d *Daemon) run(ctx context.Context) error {
	if err := supervise.CloseInheritedFDs(); err != nil {
		return err
	}
	h, err := openHome(d.cfg.Paths())
	if err != nil {
		return err
	}
	defer h.close()
	d.home = h
	if h.Moved {
		d.o.Progress(fmt.Sprintf("the sockets are in %s: their paths below %s would be too long", h.Run, h.State))
	}
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	d.ctx = working
	defer stopWork()
	defer d.shutDown(stopWork)
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted while starting is no failure
		}
		return err
	}
	<-ctx.Done()
	return nil
}

// start brings everything up, in an order in which each part finds what it needs. What runs already is adopted first of all,
// so that an upgrade of the control plane is short.
func (d *Daemon) start(ctx context.Context) error {
	if err := d.openStores(ctx); err != nil {
		return err
	}
	if err := d.startSurroundings(ctx); err != nil {
		return err
	}
	sets, err := d.host.Sets()
	if err != nil {
		return err
	}
	if err := d.loadFlights(); err != nil {
		return err
	}
	d.adoptSets(ctx, sets)
	d.work.Go(d.watch)
	settled := d.settleFlights()
	if err := d.listen(); err != nil {
		return err
	}
	d.work.Go(d.purge)
	if d.o.Laptop {
		settled.Wait()
		if err := d.firstStart(ctx); err != nil {
			return err
		}
	}
	if d.o.Ready != nil {
		d.awaitBus(ctx)
		status, err := d.Status(ctx)
		if err != nil {
			return err
		}
		d.o.Ready(status)
	}
	return nil
}

// awaitBus gives new instances a moment to register with the IRC server, which takes InspIRCd a second or two, so that what is
// shown as ready is.
func (d *Daemon) awaitBus(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil && d.busComponent().State == "degraded" {
		d.pollAll()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// openStores opens host.db and the shared database. A shared database that is away is no reason not to adopt what runs.
func (d *Daemon) openStores(ctx context.Context) (err error) {
	if d.host, err = hostdb.Open(ctx, d.home.HostDB()); err != nil {
		return err
	}
	if d.identity, err = d.host.Identity(); err != nil {
		return err
	}
	routes, err := d.host.Routes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		d.routes[r.Version] = r
	}
	if err := d.loadPlaces(); err != nil {
		return err
	}
	if err := d.openShared(ctx); err != nil {
		return err
	}
	if err := d.finishRestore(ctx); err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = d.prepareStore(opening)
	if errors.Is(err, store.ErrUnavailable) && len(routes) > 0 {
		d.log.Error("the shared database is away; what runs goes on", "error", err)
		d.work.Go(d.prepareLater)
		return nil
	}
	if errors.Is(err, store.ErrSchemaNewer) {
		return controlplane.Errorf(controlplane.Failed, "%v", err).WithHint("upgrade kmsctl; this one is %s", d.o.Version)
	}
	return err
}

// prepareStore migrates and reads what the host needs of the shared database.
func (d *Daemon) prepareStore(ctx context.Context) error {
	if err := d.mayMigrate(ctx, store.Schema); err != nil {
		return err
	}
	if err := d.Store().Migrate(ctx); err != nil {
		return err
	}
	if err := d.Store().PutNode(ctx, store.Node{ID: d.node, Host: d.node}); err != nil {
		return err
	}
	if err := d.ensureProbe(ctx); err != nil {
		return err
	}
	return errors.Join(d.readLinks(ctx), d.readNotices(ctx))
}

// prepareLater tries until the database is back.
func (d *Daemon) prepareLater() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-ticker.C:
			ctx, cancel := asking(d.ctx)
			err := d.prepareStore(ctx)
			if err == nil {
				d.log.Info("the shared database is back")
				d.logError("tell the links", d.LinksChanged(ctx)) // what started meanwhile knows of none
			}
			cancel()
			if err == nil {
				return
			}
		}
	}
}

// storeAway reports whether the shared database does not answer now.
func (d *Daemon) storeAway(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := d.Store().Now(ctx)
	return err != nil
}

// startSurroundings starts or adopts the IRC server and nginx.
func (d *Daemon) startSurroundings(ctx context.Context) error {
	var err error
	if d.router, err = nginx.NewRouter(d.home.Run); err != nil {
		return err
	}
	if d.cfg.String("irc.run") == "child" {
		d.o.Progress("starting the IRC server")
		if err := d.startIRC(ctx); err != nil {
			return err
		}
	}
	d.o.Progress("starting nginx")
	return d.startNginx(ctx)
}

// listen serves the control API.
func (d *Daemon) listen() error {
	l, err := listenPrivate(d.home.PluginDir("control"), d.home.ControlSocket())
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: api.NewServer(d, d.log), ConnContext: api.ConnContext, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return d.ctx },
	}
	d.work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("the control API ended", "error", err)
		}
	})
	context.AfterFunc(d.ctx, func() { server.Close() })
	return nil
}

// listenPrivate makes a socket for this user alone. It is protected beside its place, in a directory that is private itself,
// and then moved there: a umask would be every thread's, and of the children that they start just now. What is at path is a
// leftover, since the home is locked.
func listenPrivate(made, path string) (net.Listener, error) {
	os.Remove(made)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	l.SetUnlinkOnClose(false) // shutDown does
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot listen on %q: %v", path, err)
	}
	return l, nil
}

// watch polls the instances and moves sets along, once a second.
func (d *Daemon) watch() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-ticker.C:
		}
		d.pollAll()
		d.tend(time.Now())
		d.noticeSoon(time.Now())
		d.rotateSoon(time.Now())
	}
}

func (d *Daemon) pollAll() {
	var group sync.WaitGroup
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			group.Go(func() { in.poll(d.ctx) })
		}
	}
	group.Wait()
}

// shutDown ends the control plane: as `up` with all it started, as `server` alone.
func (d *Daemon) shutDown(stopWork context.CancelFunc) {
	stopWork()
	d.work.Wait()
	if d.host == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if d.o.Laptop {
		d.stopEverything(ctx)
	} else {
		d.leaveRunning()
	}
	os.Remove(d.home.ControlSocket())
	if shared := d.Store(); shared != nil {
		shared.Close()
	}
	d.host.Close()
}

// stopEverything ends all children. Sets that anybody is led to are remembered, so that the next `up` finds everything as it was left.
func (d *Daemon) stopEverything(ctx context.Context) {
	d.o.Progress("stopping")
	var group sync.WaitGroup
	for _, s := range d.allSets() {
		held := d.place(s).held()
		group.Go(func() {
			if held {
				d.logError("stop set", stopInstances(ctx, s))
			} else {
				d.logError("stop set", d.removeSet(ctx, s))
			}
		})
	}
	group.Wait()
	for _, k := range []*keeper{d.nginxProc, d.ircProc} {
		if k != nil {
			k.halt(ctx)
		}
	}
	if d.home.Moved {
		os.RemoveAll(d.home.Run)
	}
}

// leaveRunning lets go of all children; the next control plane adopts them.
func (d *Daemon) leaveRunning() {
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			in.letGo()
		}
	}
	for _, k := range []*keeper{d.nginxProc, d.ircProc} {
		if k != nil {
			k.letGo()
		}
	}
}

// Store is the shared database.
func (d *Daemon) Store() *store.Store { return d.store.Load() }

func (d *Daemon) openShared(ctx context.Context) error {
	shared, err := store.Open(ctx, d.cfg.Store(), store.Options{Logger: d.log})
	if err != nil {
		return err
	}
	d.store.Store(shared)
	return nil
}

// Uptime is how long this control plane has run.
func (d *Daemon) Uptime() time.Duration { return time.Since(d.startedAt) }

// auditPatience is how long a change that was made waits for its entry, while the shared database hangs.
const auditPatience = 500 * time.Millisecond

// Audited records one change in the audit trail; a trail that cannot be written is logged, since the change has happened.
func (d *Daemon) Audited(ctx context.Context, who, action, subject, message string, err error) {
	entry := store.Audit{Who: who, Action: action, Subject: subject, Message: message, Result: resultOf(err), Node: d.node}
	written := make(chan struct{})
	d.work.Go(func() {
		defer close(written)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		d.logError("write the audit trail", d.Store().AppendAudit(ctx, entry))
	})
	d.tellAudit(who, action, subject, entry.Result, written)
}

// tellAudit waits a moment for an entry of the audit trail, and tells followers of it.
func (d *Daemon) tellAudit(who, action, subject, result string, written <-chan struct{}) {
	select {
	case <-written:
	case <-time.After(auditPatience):
	}
	d.events.emit(controlplane.Event{Kind: "audit", Message: fmt.Sprintf("%s: %s %s: %s", who, action, subject, result)})
}

// resultOf is how a change ended, as the audit trail has it.
func resultOf(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}

func (d *Daemon) logError(what string, err error) {
	if err != nil {
		d.log.Error("cannot "+what, "error", err)
	}
}
