package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	probeUser    = "probe"
	probeChannel = "probe"
	// probeLife is long since the identity never leaves this host; every start of the control plane renews it.
	probeLife = 365 * 24 * time.Hour
	// probeKeep is how long what probes said is kept: nobody reads it after the probe.
	probeKeep = store.MinRetention
)

// probeIdentity is the internal tenant's user token and API key, which builds test themselves with. It lies in a 0600 file;
// the store has the hashes.
type probeIdentity struct {
	Token string `json:"token"`
	Key   string `json:"key"`
}

// ensureProbe makes the internal tenant, its channel and this host's identity in it.
func (d *Daemon) ensureProbe(ctx context.Context) error {
	_, err := d.Store().CreateTenant(ctx, store.Tenant{ID: names.ProbeTenant, Name: "probe"})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	if err := d.Store().SetTenantRetention(ctx, names.ProbeTenant, probeKeep); err != nil {
		return err
	}
	_, err = d.Store().CreateChannel(ctx, store.Channel{Tenant: names.ProbeTenant, ID: probeChannel, Kind: "world", History: "log"})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	probe, err := d.loadProbe(ctx)
	if err != nil {
		return err
	}
	err = d.Store().PutToken(ctx, store.Token{
		Tenant: names.ProbeTenant, User: probeUser, Name: "probe", Hash: auth.Hash(probe.Token), ExpiresAt: time.Now().Add(probeLife),
	})
	if err == nil {
		d.probe.Store(&probe)
	}
	return err
}

// loadProbe reads the identity, or makes one: also when the store does not know its key, as after a change of database.
func (d *Daemon) loadProbe(ctx context.Context) (probe probeIdentity, err error) {
	path := filepath.Join(d.home.State, "probe.json")
	text, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(text, &probe) == nil {
		if _, err = d.Store().LookupKey(ctx, auth.Hash(probe.Key)); err == nil || !errors.Is(err, store.ErrNotFound) {
			return probe, err
		}
	}
	probe = probeIdentity{Token: auth.NewSecret("kmt"), Key: auth.NewSecret("kmk")}
	if _, err := d.Store().CreateKey(ctx, names.ProbeTenant, "probe of "+d.node, auth.Hash(probe.Key)); err != nil {
		return probe, err
	}
	if text, err = json.Marshal(probe); err != nil {
		return probe, fmt.Errorf("internal error: %v", err)
	}
	return probe, renameio.WriteFile(path, text, 0o600)
}

// probeTarget is what a build needs to test itself. After a start without the shared database the identity is made now.
func (d *Daemon) probeTarget(ctx context.Context, version string) (plugin.ProbeTarget, error) {
	if d.probe.Load() == nil {
		ctx, cancel := asking(ctx)
		defer cancel()
		if err := d.ensureProbe(ctx); err != nil {
			return plugin.ProbeTarget{}, err
		}
	}
	return d.probe.Load().target(version), nil
}

func (p probeIdentity) target(version string) plugin.ProbeTarget {
	return plugin.ProbeTarget{Version: version, Tenant: names.ProbeTenant, Token: p.Token, Key: p.Key, Channel: probeChannel, User: probeUser}
}

// probeSet lets the build talk to itself over its own sockets.
func (d *Daemon) probeSet(ctx context.Context, s *set) (string, error) {
	target, err := d.probeTarget(ctx, s.Version)
	if err != nil {
		return "", err
	}
	target.UA, target.API = "unix:"+s.ua.socket(), "unix:"+s.api.socket()
	return d.runProbe(ctx, s, target)
}

// probeThroughNginx is the same through the front door.
func (d *Daemon) probeThroughNginx(ctx context.Context, s *set) (string, error) {
	ca, err := os.ReadFile(d.certificate())
	if err != nil {
		return "", fmt.Errorf("cannot read the certificate: %v", err)
	}
	target, err := d.probeTarget(ctx, s.Version)
	if err != nil {
		return "", err
	}
	target.UA, target.API, target.CA = "https://"+d.cfg.String("https"), "https://"+d.cfg.String("https"), string(ca)
	return d.runProbe(ctx, s, target)
}

// probeAlone is probeThroughNginx for a set that nobody else is led to: the probe's tenant is, as long as it takes.
func (d *Daemon) probeAlone(ctx context.Context, s *set) (took string, err error) {
	d.mu.Lock()
	d.tested[s.Version] = s.ID
	d.mu.Unlock()
	err = d.link(s.Version)
	failpoint.Reach(failpoint.ProbeLinked)
	if err == nil {
		took, err = d.probeThroughNginx(ctx, s)
	}
	d.mu.Lock()
	delete(d.tested, s.Version)
	d.mu.Unlock()
	return took, errors.Join(err, d.link(s.Version))
}

func (d *Daemon) runProbe(ctx context.Context, s *set, target plugin.ProbeTarget) (string, error) {
	began := time.Now()
	err := supervise.Probe(ctx, d.home.Artifact(s.Build), s.Build, target)
	return time.Since(began).Round(time.Millisecond).String(), err
}
