package daemon

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/controlplane/nginx"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
)

// set is a build started for a version: its two instances. State, WarmUntil, DrainingSince and Leaving are guarded by Daemon.mu;
// the rest of the record never changes.
type set struct {
	hostdb.Set
	ua, api *instance
	ending  bool // its stop is under way; guarded by Daemon.mu
	told    told // what its ua was last told of Leaving; guarded by Daemon.mu
}

func (s *set) instances() []*instance { return []*instance{s.ua, s.api} }

// running reports whether both processes are there.
func (s *set) running() bool { return s.ua.process() != nil && s.api.process() != nil }

// newSetID makes an id that is short enough for socket paths.
func newSetID() string {
	b := make([]byte, 5)
	rand.Read(b)
	return "s" + strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

var setIDs = regexp.MustCompile(`^s[a-z2-7]{8}$`)

func isSetID(name string) bool { return setIDs.MatchString(name) }

func (d *Daemon) newSet(h hostdb.Set) *set {
	newInstance := func(role string) *instance {
		return &instance{d: d, set: h.ID, version: h.Version, build: h.Build, role: role, state: controlplane.InstanceStarting}
	}
	return &set{Set: h, ua: newInstance(plugin.RoleUA), api: newInstance(plugin.RoleAPI)}
}

// startSet starts a build for a version and returns when both instances serve. Intent first: the set is written down before
// any process of it exists. On an error nothing of it is left.
func (d *Daemon) startSet(ctx context.Context, h hostdb.Set) (*set, error) {
	if err := d.host.PutSet(h); err != nil {
		return nil, err
	}
	failpoint.Reach(failpoint.SetWritten)
	s := d.newSet(h)
	d.mu.Lock()
	d.sets[h.ID] = s
	d.mu.Unlock()
	if err := d.bringUp(ctx, s); err != nil {
		return nil, errors.Join(err, d.removeSet(context.WithoutCancel(ctx), s))
	}
	for _, in := range s.instances() {
		in.keepUp()
	}
	return s, nil
}

// bringUp starts both instances side by side.
func (d *Daemon) bringUp(ctx context.Context, s *set) error {
	if err := d.makeSetDir(s.ID); err != nil {
		return err
	}
	failpoint.Reach(failpoint.SetDirMade)
	group, ctx := errgroup.WithContext(ctx)
	for _, in := range s.instances() {
		group.Go(func() error { return in.bringUp(ctx) })
	}
	return group.Wait()
}

// makeSetDir makes the directory of the set's sockets, which nginx's group may enter.
func (d *Daemon) makeSetDir(id string) error {
	dir := d.home.SetDir(id)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("cannot make %q: %v", dir, err)
	}
	return nginx.Enterable(dir, d.nginxGroup)
}

// removeSet stops a set's instances and forgets it, its sockets included.
func (d *Daemon) removeSet(ctx context.Context, s *set) error {
	if err := stopInstances(ctx, s); err != nil {
		return err
	}
	failpoint.Reach(failpoint.SetStopped)
	d.mu.Lock()
	delete(d.sets, s.ID)
	d.mu.Unlock()
	os.RemoveAll(d.home.SetDir(s.ID))
	os.RemoveAll(d.home.PluginDir(s.ID))
	failpoint.Reach(failpoint.SetDirsRemoved)
	if err := d.host.DeleteSet(s.ID); err != nil {
		return err
	}
	failpoint.Reach(failpoint.SetForgotten)
	return nil
}

func stopInstances(ctx context.Context, s *set) error {
	var group sync.WaitGroup
	failures := make([]error, 2)
	for i, in := range s.instances() {
		group.Go(func() { failures[i] = in.stop(ctx) })
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("cannot stop set %q: %v", s.ID, err)
	}
	return nil
}

// updateSet changes what may change of a set's record, in host.db first.
func (d *Daemon) updateSet(s *set, change func(*hostdb.Set)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := s.Set
	change(&next)
	if err := d.host.PutSet(next); err != nil {
		return err
	}
	s.State, s.WarmUntil, s.DrainingSince, s.Leaving = next.State, next.WarmUntil, next.DrainingSince, next.Leaving
	return nil
}

// setsOf returns a version's sets, the serving one first, then the newest.
func (d *Daemon) setsOf(version string) []*set {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*set
	for _, s := range d.sets {
		if s.Version == version {
			out = append(out, s)
		}
	}
	stable := d.routes[version].Stable
	sort.Slice(out, func(i, j int) bool {
		if serving := out[i].ID == stable; serving != (out[j].ID == stable) {
			return serving
		}
		return out[i].StartedAt.After(out[j].StartedAt)
	})
	return out
}

func (d *Daemon) allSets() []*set {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*set, 0, len(d.sets))
	for _, s := range d.sets {
		out = append(out, s)
	}
	return out
}

func (d *Daemon) setByID(id string) *set {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sets[id]
}

// servingSet returns the set a version's slot leads to, nil when there is none.
func (d *Daemon) servingSet(version string) *set {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sets[d.routes[version].Stable]
}

// warmSet returns a running set of a version with this build that is not the one that serves, nil when there is none.
func (d *Daemon) warmSet(version, build string) *set {
	for _, s := range d.setsOf(version) {
		if s.Build != build || !s.running() {
			continue
		}
		switch d.stateOf(s) {
		case controlplane.SetWarm, controlplane.SetDraining, controlplane.SetCanary, controlplane.SetPinned:
			return s
		}
	}
	return nil
}

func (d *Daemon) stateOf(s *set) controlplane.SetState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.State
}

// configuration is what an instance is told once, at its start.
func (d *Daemon) configuration(in *instance) *pb.ConfigureRequest {
	return &pb.ConfigureRequest{
		Node: d.node, Set: in.set, Version: in.version, Build: in.build, Socket: in.socket(), StoreUrl: d.cfg.Store(),
		Links: d.pbLinks(), Limits: &pb.Limits{}, LogLevel: d.cfg.String("log.level"),
	}
}

func (d *Daemon) pbLinks() []*pb.Link {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*pb.Link, 0, len(d.links))
	for _, l := range d.links {
		out = append(out, &pb.Link{
			Name: l.Name, Kind: l.Kind, Servers: l.Servers, Tls: l.TLS, TlsCa: l.TLSCA, Password: l.Password, Key: l.Key,
			Channels: int32(l.Channels), MaxLine: int32(l.MaxLine), Active: l.State == store.LinkActive,
		})
	}
	return out
}

// stopAside stops a set without holding up the polls, by which frozen instances are found.
func (d *Daemon) stopAside(s *set) {
	d.mu.Lock()
	stays := d.placeLocked(s).held() || s.ending // a pin may have taken it a moment ago
	s.ending = s.ending || !stays
	d.mu.Unlock()
	if stays {
		return
	}
	d.work.Go(func() {
		err := d.removeSet(context.WithoutCancel(d.ctx), s)
		d.logError("stop set", err)
		if err == nil {
			d.tellSet(s, "is stopped")
		}
		d.mu.Lock()
		s.ending = false
		d.mu.Unlock()
	})
}

func (d *Daemon) tellSet(s *set, what string) {
	d.events.emit(controlplane.Event{Kind: "set", Version: s.Version, Set: s.ID, Message: s.ID + " " + what})
}

// stopNow stops a set in the background, unless somebody is led there; tend tries again what does not go well.
func (d *Daemon) stopNow(s *set) {
	if d.stopSoon(s); d.stateOf(s) == controlplane.SetStopping {
		d.stopAside(s)
	}
}

// stopSoon lets the next round of tend stop a set, unless somebody is led there.
func (d *Daemon) stopSoon(s *set) {
	if d.place(s).held() {
		return
	}
	d.logError("stop set", d.updateSet(s, func(h *hostdb.Set) { h.State = controlplane.SetStopping }))
	failpoint.Reach(failpoint.SetStopping)
}

// adoptSets takes over the sets that host.db knows, then decides what becomes of each.
func (d *Daemon) adoptSets(ctx context.Context, known []hostdb.Set) {
	d.adoptInstances(ctx, known)
	d.endStrays()
	d.settleSets(ctx)
}

func (d *Daemon) adoptInstances(ctx context.Context, known []hostdb.Set) {
	var group errgroup.Group
	group.SetLimit(16)
	for _, h := range known {
		s := d.newSet(h)
		d.mu.Lock()
		d.sets[h.ID] = s
		d.mu.Unlock()
		for _, in := range s.instances() {
			group.Go(func() error {
				d.adoptInstance(ctx, in)
				return nil
			})
		}
	}
	group.Wait()
}

// endStrays ends what an earlier control plane started and did not live to write down, and removes the sockets of such. All that is
// ours has been adopted, and nothing else has been started yet.
func (d *Daemon) endStrays() {
	ours, sockets := map[int]bool{}, map[string]bool{}
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			if proc := in.process(); proc != nil {
				ours[proc.Record().PID], sockets[filepath.Dir(proc.Record().Addr)] = true, true
			}
		}
	}
	for _, stray := range supervise.Strays(filepath.Dir(d.home.PluginDir("any")), ours) {
		d.log.Warn("a process that nobody wrote down is killed", "pid", stray.PID, "program", stray.Exe)
		d.logError("kill a stray process", supervise.KillRecord(stray))
	}
	for _, s := range d.allSets() {
		left, _ := filepath.Glob(filepath.Join(d.home.PluginDir(s.ID), "plugin-dir*"))
		for _, dir := range left {
			if !sockets[dir] {
				os.RemoveAll(dir)
			}
		}
	}
}

// settleSets settles all sets side by side: after a reboot each of them has to start.
func (d *Daemon) settleSets(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(8)
	for _, s := range d.allSets() {
		group.Go(func() error {
			d.settleSet(ctx, s)
			return nil
		})
	}
	group.Wait()
}

func (d *Daemon) adoptInstance(ctx context.Context, in *instance) {
	err := in.adopt(ctx)
	if err == nil || errors.Is(err, errNothingToAdopt) || errors.Is(err, supervise.ErrGone) {
		return
	}
	d.log.Warn("cannot adopt; another is started", "set", in.set, "role", in.role, "error", err)
}

// settleSet decides what becomes of a set after a restart of the control plane: one that anybody is led to is made to run, one that was
// warm and runs stays, one of a release in flight is left to that, and the rest goes.
func (d *Daemon) settleSet(ctx context.Context, s *set) {
	d.mu.Lock()
	state, held := s.State, d.placeLocked(s).held()
	f := d.flights[s.Version]
	flying := f != nil && (f.record.Set == s.ID || f.record.Before.Stable == s.ID)
	d.mu.Unlock()
	switch {
	case held:
		d.reviveSet(ctx, s)
	case s.running() && state != controlplane.SetStopping && state != controlplane.SetStarting:
		for _, in := range s.instances() {
			in.keepUp()
		}
	case flying:
	default:
		d.logError("remove set", d.removeSet(ctx, s))
	}
}

// reviveSet makes sure that the instances of a set that is to serve do run, or are tried again until they do.
func (d *Daemon) reviveSet(ctx context.Context, s *set) {
	d.logError("make directory", d.makeSetDir(s.ID))
	var group sync.WaitGroup
	for _, in := range s.instances() {
		group.Go(func() {
			if in.process() == nil && !in.kept() {
				if err := in.bringUp(ctx); err != nil {
					in.failedStart(ctx, err)
				}
			}
			in.keepUp()
		})
	}
	group.Wait()
	state := controlplane.SetServing
	if p := d.place(s); p.held() {
		state = p.state()
	}
	if d.stateOf(s) != state {
		d.logError("update set", d.updateSet(s, func(h *hostdb.Set) { h.State = state }))
	}
}
