package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	demoTenant  = "demo"
	demoChannel = "lobby"
	demoLife    = 365 * 24 * time.Hour
)

// demo is what the chat page needs to log in. It lies in a 0600 file below the web root, which nginx serves on loopback.
type demo struct {
	Tenant  string     `json:"tenant"`
	Channel string     `json:"channel"`
	Users   []demoUser `json:"users"`
}

type demoUser struct {
	User  string `json:"user"`
	Name  string `json:"name"`
	Token string `json:"token"`
}

// firstStart deploys the builds beside kmsctl for versions that nobody has deployed or retired yet, and makes the tenant
// demo. What is there already stays as it is.
func (d *Daemon) firstStart(ctx context.Context) error {
	preparing, cancel := asking(ctx)
	defer cancel()
	err := d.ensureDemo(preparing)
	if errors.Is(err, store.ErrUnavailable) && len(d.versions()) > 0 {
		d.log.Error("the shared database is away; nothing is deployed at this start", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	builds, err := d.buildsBeside()
	if err != nil {
		return err
	}
	for _, path := range builds {
		if err := d.deployFirst(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// buildsBeside lists the files kms-<version> in the builds directory, by name.
func (d *Daemon) buildsBeside() ([]string, error) {
	dir := d.cfg.String("builds")
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find this program: %v", err)
		}
		dir = filepath.Dir(self)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "kms-[0-9]*"))
	paths = slices.DeleteFunc(paths, func(path string) bool { // kms-2.0.old is nobody's version
		return names.Version(strings.TrimPrefix(filepath.Base(path), "kms-")) != nil
	})
	sort.Strings(paths)
	if err == nil && len(paths) == 0 && len(d.versions()) == 0 {
		return nil, controlplane.Errorf(controlplane.NotFound, "there are no builds kms-VERSION in %q", dir).
			WithHint("make build, or name their directory: --builds DIR")
	}
	return paths, err
}

func (d *Daemon) deployFirst(ctx context.Context, path string) error {
	version := strings.TrimPrefix(filepath.Base(path), "kms-")
	d.mu.Lock()
	_, known := d.routes[version]
	d.mu.Unlock()
	if known {
		return nil
	}
	d.o.Progress("deploying " + version)
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read build %q: %v", path, errors.Unwrap(err))
	}
	defer file.Close()
	build, err := d.AddBuild(ctx, file, "kmsctl up")
	if err != nil {
		return err
	}
	starting, cancel := asking(ctx)
	defer cancel()
	release, err := d.Start(starting, controlplane.ReleaseRequest{
		Kind: controlplane.KindDeploy, Version: version, Build: build.Digest, Who: "kmsctl up", Message: "first start",
	})
	if err != nil {
		return err
	}
	return d.awaitRelease(ctx, release.ID)
}

// awaitRelease returns when a release has ended, with its error.
func (d *Daemon) awaitRelease(ctx context.Context, id int64) error {
	events, err := d.Events(ctx, controlplane.EventQuery{Release: id, Follow: true})
	if err != nil {
		return err
	}
	for e := range events {
		if e.Ended != nil && e.Ended.Error != nil {
			return e.Ended.Error
		}
	}
	return ctx.Err()
}

// ensureDemo makes the tenant with its channels, users and NG words. Its tokens are made once and kept in the page's file.
func (d *Daemon) ensureDemo(ctx context.Context) error {
	path := filepath.Join(d.home.Nginx(), "web", "demo.json")
	_, err := d.Store().Tenant(ctx, demoTenant)
	if _, gone := os.Stat(path); err == nil && gone == nil {
		return nil
	}
	_, err = d.Store().CreateTenant(ctx, store.Tenant{ID: demoTenant, Name: "デモ Demo"})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	if err := d.demoChannels(ctx); err != nil {
		return err
	}
	page := demo{Tenant: demoTenant, Channel: demoChannel, Users: []demoUser{{User: "aiko", Name: "あいこ"}, {User: "ben", Name: "Ben"}}}
	for i := range page.Users {
		u := &page.Users[i]
		u.Token = auth.NewSecret("kmt")
		token := store.Token{Tenant: demoTenant, User: u.User, Name: u.Name, Hash: auth.Hash(u.Token), ExpiresAt: time.Now().Add(demoLife)}
		if err := d.Store().PutToken(ctx, token); err != nil {
			return err
		}
		if err := d.Store().AddMember(ctx, demoTenant, "guild", u.User); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	text, err := json.Marshal(page)
	if err != nil {
		return fmt.Errorf("internal error: %v", err)
	}
	return renameio.WriteFile(path, text, 0o600)
}

func (d *Daemon) demoChannels(ctx context.Context) error {
	for _, c := range []store.Channel{
		{Tenant: demoTenant, ID: demoChannel, Kind: "world", History: "log", Name: "ロビー Lobby"},
		{Tenant: demoTenant, ID: "guild", Kind: "guild", History: "log", Name: "ギルド Guild"},
	} {
		if _, err := d.Store().CreateChannel(ctx, c); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	list, err := d.Store().NGRead(ctx, demoTenant, store.NGDefault)
	if err != nil || list.Revision > 0 {
		return err
	}
	_, err = d.Store().NGChange(ctx, store.NGEdit{
		Tenant: demoTenant, Base: -1, Author: "kmsctl up", Message: "words to try on the chat page",
		Add: []store.NGEntry{{Word: "ばか", Action: store.NGMask}, {Word: "spam", Action: store.NGReject}},
	})
	return err
}
