package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/controlplane/irclink"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit/freeport"
)

const tenant = "bench"

// host is a store with a tenant, IRC servers and UA processes, without a control plane: each UA may have another IRC server.
type host struct {
	builds, home string
	url          string // of the store
	link         bus.Link
	uas          []*ua
	closers      []func() error
}

// newHost makes a store with users u0, u1, …, and the channels c0, c1, … and "hall".
func newHost(ctx context.Context, builds, kind string, users, channels int) (h *host, err error) {
	h = &host{builds: builds}
	if h.home, err = os.MkdirTemp("/tmp", "kmsblog"); err != nil {
		return nil, fmt.Errorf("cannot make a home: %v", err)
	}
	h.later(func() error { return os.RemoveAll(h.home) })
	if err = h.makeStore(ctx, kind, users, channels); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *host) later(f func() error) { h.closers = append(h.closers, f) }

// close ends everything in the reverse order of its making.
func (h *host) close() error {
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	h.closers = nil
	return errors.Join(errs...)
}

// unlimited are rates that no benchmark comes to.
var unlimited = map[string]int{"messages_per_second": 1e6, "channel_messages_per_second": 1e6}

func (h *host) makeStore(ctx context.Context, kind string, users, channels int) error {
	h.url = "sqlite:" + filepath.Join(h.home, "kms.db")
	if kind == "mariadb" {
		if err := h.makeDatabase(ctx, os.Getenv("KMS_TEST_MYSQL")); err != nil {
			return err
		}
	}
	st, err := store.Open(ctx, h.url, store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	names := []string{"hall"}
	for n := range channels {
		names = append(names, channelName(n))
	}
	return addTenant(ctx, st, tenant, unlimited, 0, users, names...)
}

// addTenant makes a tenant with so many users, numbered from first, and world channels.
func addTenant(ctx context.Context, st *store.Store, id string, limits map[string]int, first, users int, channels ...string) error {
	if _, err := st.CreateTenant(ctx, store.Tenant{ID: id}); err != nil {
		return err
	}
	if err := st.SetTenantLimits(ctx, id, limits); err != nil {
		return err
	}
	for _, name := range channels {
		if _, err := st.CreateChannel(ctx, store.Channel{Tenant: id, ID: name, Kind: store.KindWorld}); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for n := first; n < first+users; n++ {
		g.Go(func() error {
			return st.PutToken(ctx, store.Token{Tenant: id, User: "u" + strconv.Itoa(n), Hash: auth.Hash(tokenOf(n))})
		})
	}
	return g.Wait()
}

func channelName(n int) string { return "c" + strconv.Itoa(n) }

func tokenOf(n int) string { return "bench-token-of-user-" + strconv.Itoa(n) }

// makeDatabase makes an empty database on the server at mysql://user:password@host:port/ that is dropped at the end.
func (h *host) makeDatabase(ctx context.Context, server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.User == nil || u.Port() == "" {
		return errors.New("cannot use KMS_TEST_MYSQL: want mysql://user:password@host:port/")
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Timeout = "tcp", u.Host, u.User.Username(), 5*time.Second
	c.Passwd, _ = u.User.Password()
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		return fmt.Errorf("cannot open the database server: %v", err)
	}
	name := "kmsbenchlog_" + strings.ToLower(rand.Text()[:12])
	if _, err := db.ExecContext(ctx, "CREATE DATABASE `"+name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return errors.Join(fmt.Errorf("cannot make database %q: %v", name, err), db.Close())
	}
	h.later(func() error {
		_, err := db.Exec("DROP DATABASE `" + name + "`")
		return errors.Join(err, db.Close())
	})
	u.Path, u.RawQuery = "/"+name, ""
	h.url = u.String()
	return nil
}

// ircd is a running InspIRCd.
type ircd struct {
	options irclink.ServerOptions
	cmd     *exec.Cmd
	ended   chan struct{}
}

// startIRC starts n InspIRCds, each linked with the one before. via, if not nil, returns the address through which a server
// reaches the one before it.
func (h *host) startIRC(n int, via func(peer string) (string, error)) ([]*ircd, error) {
	var all []*ircd
	for i := range n {
		o := irclink.ServerOptions{
			Name: fmt.Sprintf("irc%d.kms.internal", i+1), Dir: filepath.Join(h.home, "irc"+strconv.Itoa(i)), Password: "bench", LinkPassword: "between",
		}
		for _, address := range []*string{&o.Listen, &o.LinkListen} {
			var err error
			if *address, _, err = freeport.Claim(); err != nil {
				return nil, err
			}
		}
		if n == 1 {
			o.LinkListen, o.LinkPassword = "", ""
		}
		all = append(all, &ircd{options: o, ended: make(chan struct{})})
	}
	for i := 1; i < n; i++ {
		before, o := &all[i-1].options, &all[i].options
		address := before.LinkListen
		if via != nil {
			var err error
			if address, err = via(address); err != nil {
				return nil, err
			}
		}
		o.Peers = append(o.Peers, irclink.Peer{Name: before.Name, Address: address, Connect: true})
		before.Peers = append(before.Peers, irclink.Peer{Name: o.Name, Address: o.LinkListen})
	}
	for _, s := range all {
		if err := s.start(); err != nil {
			return nil, err
		}
		h.later(s.kill)
	}
	stored, err := irclink.NewLink("main", bus.InspIRCd, []string{all[0].options.Listen})
	if err != nil {
		return nil, err
	}
	stored.Password, stored.State = "bench", store.LinkActive
	h.link = irclink.BusLink(stored)
	return all, nil
}

func (s *ircd) start() error {
	program, err := exec.LookPath("inspircd")
	if err != nil {
		program = "/usr/sbin/inspircd"
	}
	text, err := irclink.Render(bus.InspIRCd, s.options)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.options.Dir, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(s.options.Dir, "inspircd.conf")
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		return err
	}
	argv := irclink.Command(bus.InspIRCd, program, conf)
	var said bytes.Buffer
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start InspIRCd: %v", err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", s.options.Listen)
		if err == nil {
			return c.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("InspIRCd ended at once: %s", said.String())
		default:
		}
	}
	return errors.New("InspIRCd does not listen")
}

func (s *ircd) kill() error {
	_ = s.cmd.Process.Kill() // gone already is what we want
	<-s.ended
	return nil
}

// ua is one process of 2.0, and whose clients dial it.
type ua struct {
	process *supervise.Process
	socket  string
	tenant  string
}

// startUA starts a UA whose bus is the given IRC server, and returns when it is ready and on the bus.
func (h *host) startUA(ctx context.Context, server *ircd) (*ua, error) {
	return h.startRole(ctx, plugin.RoleUA, server)
}

// startRole starts a process of another role likewise.
func (h *host) startRole(ctx context.Context, role string, server *ircd) (*ua, error) {
	set := "set" + strconv.Itoa(len(h.uas))
	dir := filepath.Join(h.home, set)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := supervise.Start(ctx, supervise.Spec{
		Set: set, Role: role, Program: filepath.Join(h.builds, "kms-2.0"), Dir: filepath.Join(dir, "p"), Log: filepath.Join(dir, role+".log"),
	})
	if err != nil {
		return nil, err
	}
	u := &ua{process: p, socket: filepath.Join(dir, role+".sock"), tenant: tenant}
	h.later(u.stop)
	h.uas = append(h.uas, u)
	l := h.link
	_, err = p.Client().Configure(ctx, &pb.ConfigureRequest{
		Node: "bench", Set: set, Version: "2.0", Socket: u.socket, StoreUrl: h.url, LogLevel: "info",
		Links: []*pb.Link{{
			Name: l.Name, Kind: l.Kind, Servers: []string{server.options.Listen}, Password: l.Password, Key: l.Key,
			Channels: int32(l.Channels), MaxLine: int32(l.MaxLine), Active: true,
		}},
		Limits: &pb.Limits{MessagesPerSecond: 1e6, Burst: 1e6},
	})
	if err != nil {
		return nil, err
	}
	return u, u.awaitBus(ctx)
}

func (u *ua) awaitBus(ctx context.Context) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		health, err := u.process.Client().Health(ctx, &pb.HealthRequest{})
		if err == nil && health.GetReady() && u.value(ctx, "bus_up") > 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a process does not get ready: %v %v", health, err)
		}
	}
}

// value is one of the process's counters.
func (u *ua) value(ctx context.Context, name string) float64 {
	stats, err := u.process.Client().Stats(ctx, &pb.StatsRequest{})
	if err != nil {
		return 0
	}
	return stats.GetValues()[name]
}

func (u *ua) stop() error {
	if u.process == nil {
		return nil
	}
	p := u.process
	u.process = nil
	return p.Kill()
}
