package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/irclink"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	ircName = "irc"
	// localLink is the link to the IRC server that this control plane supervises.
	localLink = "local"
)

// startIRC starts or adopts the supervised IRC server. Its password lives with the link, so both ends always agree.
func (d *Daemon) startIRC(ctx context.Context) error {
	kind, program, err := d.findIRC()
	if err != nil {
		return err
	}
	listen := d.cfg.String("irc.listen")
	conf := filepath.Join(d.home.IRC(), kind+".conf")
	if err := d.writeIRC(ctx, kind, listen, conf); err != nil {
		return err
	}
	argv := irclink.Command(kind, program, conf)
	d.ircProc = &keeper{
		name: ircName, host: d.host, log: d.log, emit: d.events.emit, stop: unix.SIGTERM,
		spec:   supervise.DaemonSpec{Name: ircName, Program: program, Args: argv[1:], Dir: d.home.IRC(), Log: d.home.Log(ircName)},
		before: func(supervise.Record) error { return d.freePort("irc.listen") },
		ready: func(ctx context.Context, _ int) error {
			c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", listen)
			if err != nil {
				return err
			}
			return c.Close()
		},
	}
	return d.ircProc.start(ctx)
}

// writeIRC writes the server's configuration. While the shared database is away the one that is there has the link's
// password, and stays.
func (d *Daemon) writeIRC(ctx context.Context, kind, listen, conf string) error {
	asked, cancel := asking(ctx)
	defer cancel()
	link, err := d.ensureLocalLink(asked, kind)
	if _, missing := os.Stat(conf); errors.Is(err, store.ErrUnavailable) && missing == nil {
		d.log.Warn("the IRC server keeps its configuration", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	text, err := irclink.Render(kind, irclink.ServerOptions{
		Name: "irc.kms.internal", Listen: listen, Password: link.Password, Dir: d.home.IRC(),
	})
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(conf, text, 0o600); err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot write %q: %v", conf, err)
	}
	return nil
}

// findIRC takes the configured kind, or whichever is installed, InspIRCd first: its lines are eight times as long.
func (d *Daemon) findIRC() (kind, program string, err error) {
	kinds := []string{bus.InspIRCd, bus.NgIRCd}
	if wanted := d.cfg.String("irc.kind"); wanted != "" {
		kinds = []string{wanted}
	}
	for _, kind := range kinds {
		if program, err := lookProgram(kind); err == nil {
			return kind, program, nil
		}
	}
	return "", "", controlplane.Errorf(controlplane.Failed, "there is no IRC server (looked for %v)", kinds).
		WithHint("apt-get install inspircd, or use a network of your own: --irc-run none and kmsctl irc link add")
}

// ensureLocalLink makes the link of the supervised server, or follows it to another address or kind.
func (d *Daemon) ensureLocalLink(ctx context.Context, kind string) (store.Link, error) {
	listen := []string{d.cfg.String("irc.listen")}
	link, err := d.Store().Link(ctx, localLink)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if link, err = irclink.NewLink(localLink, kind, listen); err != nil {
			return link, err
		}
		link.Password, link.Node, link.State = irclink.NewPassword(), d.node, store.LinkActive
	case err != nil:
		return link, err
	case link.Kind == kind && slices.Equal(link.Servers, listen):
		return link, nil
	}
	link.Kind, link.Servers, link.MaxLine = kind, listen, irclink.MaxLine(kind)
	if err := d.Store().PutLink(ctx, link); err != nil {
		return link, err
	}
	return link, d.readLinks(ctx)
}

// readLinks remembers the links for instances that start while the database is away.
func (d *Daemon) readLinks(ctx context.Context) error {
	links, err := d.Store().Links(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links = links
	return nil
}

// LinksChanged tells every instance the links of the store.
func (d *Daemon) LinksChanged(ctx context.Context) error {
	if err := d.readLinks(ctx); err != nil {
		return err
	}
	var failures []error
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			failures = append(failures, in.reload(ctx))
		}
	}
	return errors.Join(failures...)
}

func (in *instance) reload(ctx context.Context) error {
	proc := in.process()
	if proc == nil {
		return nil // it reads the links when it starts
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request := &pb.ReloadRequest{Links: in.d.pbLinks(), Limits: &pb.Limits{}, LogLevel: in.d.cfg.String("log.level")}
	if _, err := proc.Client().Reload(ctx, request); err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot reload %s of set %q: %s", in.role, in.set, grpcText(err))
	}
	return nil
}

// TestLink tries a stored link for real: two clients, lines both ways.
func (d *Daemon) TestLink(ctx context.Context, name string) (*controlplane.LinkReport, error) {
	link, err := d.Store().Link(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, controlplane.Errorf(controlplane.NotFound, "there is no link %q", name).WithHint("kmsctl irc link list")
	}
	if err != nil {
		return nil, err
	}
	report, err := irclink.Test(ctx, irclink.BusLink(link))
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Unhealthy, "%v", err).WithHint("kmsctl doctor")
	}
	return &report, nil
}

// PingBus tests the active link.
func (d *Daemon) PingBus(ctx context.Context) (*controlplane.LinkReport, error) {
	name, err := d.activeLink()
	if err != nil {
		return nil, err
	}
	return d.TestLink(ctx, name)
}

// freePort says plainly when somebody else listens where we should.
func (d *Daemon) freePort(setting string) error { return freePort(d.cfg, setting) }

func freePort(cfg *config.Config, setting string) error {
	if err := waitForPort(cfg.String(setting)); err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot listen on %s: %v", cfg.String(setting), err).
			WithHint("choose another address: --%s 127.0.0.1:PORT", flagName(setting))
	}
	return nil
}

// flagName is how a setting is called on the command line.
func flagName(setting string) string { return strings.ReplaceAll(setting, ".", "-") }
