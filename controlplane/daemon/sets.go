package daemon

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

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

// set is a build started for a version: its two instances. State, WarmUntil and DrainingSince are guarded by Daemon.mu; the
// rest of the record never changes.
type set struct {
	hostdb.Set
	ua, api *instance
	ending  bool // its stop is under way; guarded by Daemon.mu
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
	s.State, s.WarmUntil, s.DrainingSince = next.State, next.WarmUntil, next.DrainingSince
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

// warmSet returns a running set of a version with this build that does not serve, nil when there is none.
func (d *Daemon) warmSet(version, build string) *set {
	for _, s := range d.setsOf(version) {
		state := d.stateOf(s)
		if (state == controlplane.SetWarm || state == controlplane.SetDraining) && s.Build == build && s.running() {
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

// drain tells a set's clients to move, paced; tend watches until they have, or the deadline has closed what was left.
func (d *Daemon) drain(s *set, deadline time.Duration, message string) error {
	now := time.Now()
	err := d.updateSet(s, func(h *hostdb.Set) {
		h.State, h.DrainingSince = controlplane.SetDraining, now
		h.WarmUntil = now.Add(d.cfg.Duration("warm"))
	})
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.DrainWritten)
	proc := s.ua.process()
	if proc == nil {
		return nil // nobody is connected to a process that is not there
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	request := &pb.DrainRequest{Rate: d.cfg.Float("drain.rate"), DeadlineMs: deadline.Milliseconds(), Message: message}
	if _, err := proc.Client().Drain(ctx, request); err != nil {
		return fmt.Errorf("cannot drain set %q: %s", s.ID, grpcText(err))
	}
	failpoint.Reach(failpoint.DrainTold)
	return nil
}

// cancelDrain makes a draining set keep its clients again.
func (d *Daemon) cancelDrain(ctx context.Context, s *set) error {
	proc := s.ua.process()
	if proc == nil {
		return fmt.Errorf("cannot use set %q: its ua does not run", s.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := proc.Client().CancelDrain(ctx, &pb.CancelDrainRequest{}); err != nil {
		return fmt.Errorf("cannot cancel the drain of set %q: %s", s.ID, grpcText(err))
	}
	failpoint.Reach(failpoint.DrainCancelled)
	return nil
}

// tend moves the sets that do not serve along: drained ones become warm, those whose time is over stop, and one that nobody
// answers for any more is drained. It runs once a second, after the poll.
func (d *Daemon) tend(now time.Time) {
	for _, s := range d.allSets() {
		d.mu.Lock()
		h, hold := s.Set, d.routes[s.Version].Stable == s.ID || d.restoring || s.ending
		_, changing := d.flights[s.Version]
		d.mu.Unlock()
		if hold {
			continue
		}
		switch h.State {
		case controlplane.SetDraining:
			if s.ua.emptySince(h.DrainingSince) {
				d.logError("tend", d.updateSet(s, func(h *hostdb.Set) { h.State = controlplane.SetWarm }))
				d.tellSet(s, "is drained and warm")
			}
		case controlplane.SetWarm:
			if now.After(h.WarmUntil) {
				d.stopSoon(s)
			}
		case controlplane.SetStopping:
			d.stopAside(s)
		default: // starting, or serving without a slot that leads there: a release's, unless that ended before it could undo it
			if !changing {
				d.log.Warn("a set that no version leads to is drained", "set", h.ID, "version", h.Version, "state", h.State)
				d.logError("tend", d.drain(s, d.cfg.Duration("drain.deadline"), "version "+h.Version+" moves to another build"))
			}
		}
	}
}

// stopAside stops a set without holding up the polls, by which frozen instances are found.
func (d *Daemon) stopAside(s *set) {
	d.mu.Lock()
	s.ending = true
	d.mu.Unlock()
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

// stopSoon lets the next round of tend stop a set.
func (d *Daemon) stopSoon(s *set) {
	d.logError("stop set", d.updateSet(s, func(h *hostdb.Set) { h.State = controlplane.SetStopping }))
	failpoint.Reach(failpoint.SetStopping)
}

// adoptSets takes over the sets that host.db knows, then decides what becomes of each.
func (d *Daemon) adoptSets(ctx context.Context, known []hostdb.Set) {
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
	d.settleSets(ctx)
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

// settleSet decides what becomes of a set after a restart of the control plane: one that serves is made to run, one that was
// warm and runs stays, one of a release in flight is left to that, and the rest goes.
func (d *Daemon) settleSet(ctx context.Context, s *set) {
	d.mu.Lock()
	state, serving := s.State, d.routes[s.Version].Stable == s.ID
	f := d.flights[s.Version]
	flying := f != nil && (f.record.Set == s.ID || f.record.Before.Stable == s.ID)
	d.mu.Unlock()
	switch {
	case serving:
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
	if d.stateOf(s) != controlplane.SetServing {
		d.logError("update set", d.updateSet(s, func(h *hostdb.Set) { h.State = controlplane.SetServing }))
	}
}
