package daemon

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
)

// Status is the whole host at a glance. It answers from what is known here; only the store is asked, briefly.
func (d *Daemon) Status(ctx context.Context) (*controlplane.Status, error) {
	s := &controlplane.Status{
		Node: d.node, PID: os.Getpid(), Binary: d.o.Version, StartedAt: d.startedAt, State: d.home.State, Run: d.home.Run, Healthy: true,
		HTTP: "http://" + d.cfg.String("http"), HTTPS: "https://" + d.cfg.String("https"), Versions: d.versions(),
	}
	s.Components = d.components(ctx)
	for _, c := range s.Components {
		s.Healthy = s.Healthy && c.State == "ok"
	}
	for _, v := range s.Versions {
		s.Healthy = s.Healthy && (v.Healthy || v.State == controlplane.Retired) && v.Stuck == nil
	}
	return s, nil
}

func (d *Daemon) components(ctx context.Context) []controlplane.Component {
	out := []controlplane.Component{d.storeComponent(ctx)}
	if d.ircProc != nil {
		out = append(out, d.ircProc.component(d.cfg.String("irc.listen")))
	}
	out = append(out, d.busComponent())
	if d.nginxProc != nil {
		return append(out, d.nginxProc.component(d.cfg.String("http")+", "+d.cfg.String("https")))
	}
	c := controlplane.Component{Name: nginxName, State: "ok", PID: d.nginxMaster(), Address: d.cfg.String("http")}
	if c.PID == 0 {
		c.State = "down"
	}
	return append(out, c)
}

func (d *Daemon) storeComponent(ctx context.Context) controlplane.Component {
	c := controlplane.Component{Name: "store", State: "ok", Address: store.Redact(d.cfg.Store())}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	schema, err := d.Store().Schema(ctx)
	if err != nil {
		c.State, c.Detail = "down", err.Error()
		return c
	}
	c.Detail = fmt.Sprintf("%s, schema %d", d.Store().Dialect(), schema)
	return c
}

// busComponent is the bus as the instances see it.
func (d *Daemon) busComponent() controlplane.Component {
	c := controlplane.Component{Name: "bus", State: "ok"}
	d.mu.Lock()
	for _, l := range d.links {
		if l.State == store.LinkActive {
			c.Address = l.Name + " (" + strings.Join(l.Servers, ", ") + ")"
		}
	}
	d.mu.Unlock()
	if c.Address == "" {
		c.State, c.Detail = "absent", "no active link; kmsctl irc link add"
		return c
	}
	all, up := 0, 0
	for _, b := range d.busStatus() {
		all++
		if b.Up {
			up++
		}
	}
	c.Detail = fmt.Sprintf("%d of %d instances connected", up, all)
	if up < all {
		c.State = "degraded"
	}
	return c
}

// versions lists what the routing knows, by name.
func (d *Daemon) versions() []controlplane.VersionInfo {
	d.mu.Lock()
	routes := make([]hostdb.Route, 0, len(d.routes))
	for _, r := range d.routes {
		routes = append(routes, r)
	}
	for version := range d.flights {
		if _, known := d.routes[version]; !known {
			routes = append(routes, hostdb.Route{Version: version, State: controlplane.Live})
		}
	}
	d.mu.Unlock()
	sort.Slice(routes, func(i, j int) bool { return routes[i].Version < routes[j].Version })
	out := make([]controlplane.VersionInfo, 0, len(routes))
	for _, r := range routes {
		out = append(out, d.versionInfo(r))
	}
	return out
}

func (d *Daemon) versionInfo(r hostdb.Route) controlplane.VersionInfo {
	v := controlplane.VersionInfo{Name: r.Version, State: r.State, Message: r.Message, Pins: d.pinsOf(r.Version), Sets: []controlplane.Set{}}
	for _, s := range d.setsOf(r.Version) {
		info := d.setInfo(s)
		v.Sets = append(v.Sets, info)
		serving := s.ID == r.Stable
		if serving {
			v.Build, v.Label, v.UpdatedAt, v.Healthy = info.Build, info.Label, info.StartedAt, true
		}
		for _, in := range info.Instances {
			v.Connections += in.Connections
			v.MessagesPS += in.MessagesPS
			if serving && in.State != controlplane.InstanceReady {
				v.Healthy = false
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if notice, ok := d.notices[r.Version]; ok && r.State == controlplane.Live {
		v.Deprecation = &notice
	}
	if c, ok := d.canaryLocked(r.Version); ok {
		c.Counted = nil
		v.Canary = &c
	}
	v.Stuck = d.stuck[r.Version]
	if f := d.flights[r.Version]; f != nil {
		running := f.record.Release
		running.Steps = append([]controlplane.Step{}, running.Steps...)
		v.Running = &running
	}
	return v
}

func (d *Daemon) setInfo(s *set) controlplane.Set {
	d.mu.Lock()
	h := s.Set
	d.mu.Unlock()
	out := controlplane.Set{ID: h.ID, Node: d.node, Version: h.Version, Build: h.Build, Label: h.Label, State: h.State, StartedAt: h.StartedAt}
	if h.State == controlplane.SetWarm || h.State == controlplane.SetDraining {
		out.WarmUntil = h.WarmUntil
	}
	for _, in := range s.instances() {
		info := in.info()
		if info.State == controlplane.InstanceFailed && d.place(s).held() {
			out.State = controlplane.SetFailed
		}
		out.Instances = append(out.Instances, info)
	}
	return out
}

// Bus tells how each instance's connection to the bus does.
func (d *Daemon) Bus(ctx context.Context) ([]controlplane.BusStatus, error) {
	return d.busStatus(), nil
}

func (d *Daemon) busStatus() []controlplane.BusStatus {
	out := []controlplane.BusStatus{}
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			if in.process() == nil {
				continue
			}
			health, stats := in.lastPoll()
			b := controlplane.BusStatus{Version: in.version, Set: in.set, Role: in.role, Detail: "not asked yet"}
			for _, c := range health.GetChecks() {
				if c.GetName() == "bus" {
					b.Up, b.Detail = c.GetOk(), c.GetDetail()
				}
			}
			v := stats.GetValues()
			b.Lag, b.PerSecond = time.Duration(v["bus_lag_seconds"]*float64(time.Second)), in.busRate()
			b.Sent, b.Got, b.Refused = v["bus_out_total"], v["bus_in_total"], v["bus_refused_total"]
			b.Refs, b.Healed, b.Dropped, b.Reconnects = v["bus_refs_total"], v["healed_total"], v["bus_dropped_total"], v["bus_reconnects_total"]
			out = append(out, b)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		return a.Version+a.Set+b.Role < b.Version+b.Set+a.Role
	})
	return out
}

// onBus reports whether the last poll found the instance connected to the bus.
func (in *instance) onBus() bool {
	health, _ := in.lastPoll()
	for _, c := range health.GetChecks() {
		if c.GetName() == "bus" {
			return c.GetOk()
		}
	}
	return false
}

func (in *instance) busRate() float64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last.busRate
}

func (in *instance) lastPoll() (*pb.HealthReply, *pb.StatsReply) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last.health, in.last.stats
}
