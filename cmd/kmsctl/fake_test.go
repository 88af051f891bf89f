package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api/apitest"
)

// fakeDaemon plays a control plane by fixed rules, so that a script's words decide what happens: a build whose bytes say
// "unwell" fails its probe, version 5.0 is held by another's lease, version 3.0 never gets done.
func fakeDaemon(ctx context.Context, dir string) (*apitest.Backend, error) {
	b, err := apitest.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	f := &fake{builds: fakeBuilds(), releases: map[int64]*controlplane.Release{}}
	b.StatusFunc, b.BuildsFunc, b.AddBuildFunc = f.status, func(context.Context) ([]controlplane.BuildInfo, error) { return f.builds, nil }, f.addBuild
	b.PlanFunc, b.StartFunc, b.ReleaseFunc, b.ReleasesFunc, b.EventsFunc = f.plan, f.start, f.release, f.list, f.events
	b.LogsFunc, b.ConnectionsFunc, b.KickFunc = f.logs, f.connections, f.kick
	b.BusFunc = func(context.Context) ([]controlplane.BusStatus, error) {
		return []controlplane.BusStatus{{Version: "2.0", Set: "s1a2b3c4d", Role: "ua", Up: true, Detail: "link local, 127.0.0.1:16667, lag 420µs", Lag: 420 * time.Microsecond,
			PerSecond: 2.5, Sent: 12, Got: 34, Refs: 5, Healed: 6, Refused: 7, Dropped: 8, Reconnects: 9},
			{Version: "2024.12.31-wonderland-1234", Set: "s9z8y7x6w", Role: "api", Detail: "link backup is down: dial tcp 10.0.0.5:6667: \x1b[2Jconnection refused", Lag: 12 * time.Second,
				PerSecond: 123456, Sent: 1e12, Got: 1e12, Healed: 87654321, Refused: 87654321}}, nil
	}
	b.LimitedFunc = func(_ context.Context, tenant string) (map[string]int64, error) {
		return map[string]int64{"messages_per_second": 4711}, nil
	}
	b.TailBusFunc = func(_ context.Context, q controlplane.BusQuery, line func(controlplane.BusLine) error) error {
		l := controlplane.BusLine{Nick: "s1a2b3c4du", Origin: "n1/s1a2b3c4d/ua", Version: "2.0", Kind: "say", Tenant: "wonderland", Channel: "hall", Seq: 12, User: "alice", Size: 143, Lag: 3 * time.Millisecond}
		if q.Text {
			l.Name, l.Text = "Alice", "hi\x1b[2J"
		}
		if err := line(l); err != nil {
			return err
		}
		return line(controlplane.BusLine{Nick: "stranger", Size: 5, Refused: "the line is not sealed with the link's key"})
	}
	b.PingBusFunc = func(context.Context) (*controlplane.LinkReport, error) {
		return &controlplane.LinkReport{Name: "local", Server: "127.0.0.1:16667", Software: "InspIRCd-3", RoundTrip: 420 * time.Microsecond, MaxLine: 4096, OK: true}, nil
	}
	b.TestLinkFunc = func(_ context.Context, name string) (*controlplane.LinkReport, error) {
		return &controlplane.LinkReport{Name: name, Server: "10.0.0.5:6667", Problem: "bad password"}, nil
	}
	b.RenderFunc = func(context.Context) (map[string]string, error) {
		return map[string]string{"nginx.conf": "events {}\n", "maps.conf": "map a b {}\n"}, nil
	}
	applied := []*controlplane.NginxReport{{OK: true, Generation: "g7", Workers: 2, Reloaded: true}, {OK: true, Generation: "g7", Workers: 2}, {OK: true, Generation: "g7"}}
	b.NginxFunc = func(_ context.Context, verb string) (*controlplane.NginxReport, error) {
		if verb == "apply" { // then once more, then while nginx is down
			r := applied[0]
			applied = append(applied[1:], r)
			return r, nil
		}
		return map[string]*controlplane.NginxReport{"diff": {OK: true, Diff: "-old\n+new\n"}, "test": {Output: "unknown directive \"mpa\""}}[verb], nil
	}
	f.leadElsewhere(b)
	b.LeasesFunc = func(context.Context) ([]controlplane.LeaseInfo, error) {
		return []controlplane.LeaseInfo{{Version: "5.0", Node: "host2", Purpose: "deploy of 5.0 by bob", Waiting: 1}}, nil
	}
	b.RestoreFunc = func(context.Context, string) error { return nil }
	b.DoctorFunc = func(context.Context) ([]controlplane.Finding, error) {
		return []controlplane.Finding{{Level: "warning", Check: "disk", Message: "from inside", Fix: "df -h"}}, nil
	}
	return b, nil
}

func fakeBuilds() []controlplane.BuildInfo {
	return []controlplane.BuildInfo{{Digest: strings.Repeat("a1", 32), Label: "二〇版・とても長い名前のビルドです", Version: "2.0", Contract: 1, SchemaMin: 1, SchemaMax: 1, Size: 13 << 20, By: "alice",
		CreatedAt: time.Now().Add(-3 * time.Minute), UsedBy: []string{"2.0", "s1a2b3c4d"}}}
}

type fake struct {
	builds   []controlplane.BuildInfo
	releases map[int64]*controlplane.Release
}

func (f *fake) status(context.Context) (*controlplane.Status, error) {
	now := time.Now()
	set := controlplane.Set{ID: "s1a2b3c4d", Version: "2.0", Build: f.builds[0].Digest, Label: f.builds[0].Label, State: controlplane.SetServing, Instances: []controlplane.Instance{
		{Role: "ua", State: controlplane.InstanceReady, PID: 4711, Socket: "/run/kms/i/s1a2b3c4d/ua.sock", StartedAt: now.Add(-3 * time.Minute), Connections: 12, MessagesPS: 2.5, RSS: 14 << 20},
		{Role: "api", State: controlplane.InstanceRestarting, Socket: "/run/kms/i/s1a2b3c4d/api.sock", Problem: "exit status 2: panic"}}}
	return &controlplane.Status{Node: "host1", PID: 4242, Binary: "1.0", StartedAt: now.Add(-time.Hour), State: "/var/lib/kms", Run: "/run/kms", HTTP: "http://127.0.0.1:8080",
		Components: []controlplane.Component{{Name: "nginx", State: "ok", PID: 99, Address: "127.0.0.1:8080"}, {Name: "irc", State: "down", Detail: "接続できません: connection refused by the server at 127.0.0.1:16667, trying again"}},
		Versions: []controlplane.VersionInfo{
			{Name: "2.0", State: controlplane.Live, Build: f.builds[0].Digest, Label: f.builds[0].Label, Connections: 12, MessagesPS: 2.5, UpdatedAt: now.Add(-3 * time.Minute), Sets: []controlplane.Set{set},
				Pins:    []controlplane.Pin{{Version: "2.0", Tenant: "dragon", Build: f.builds[0].Digest, Set: "s1a2b3c4d"}},
				Canary:  &controlplane.Canary{Version: "2.0", Build: strings.Repeat("c3", 32), Set: "s5c6d7e8f", Percent: 10, Since: now.Add(-time.Minute)},
				Running: &controlplane.Release{ID: 7, Kind: controlplane.KindDeploy, Version: "2.0", Who: "alice", StartedAt: now.Add(-time.Minute), Steps: []controlplane.Step{{Name: "check", State: "running"}}},
				Stuck:   &controlplane.Error{Message: "cannot follow release 12: the file of build c3 is not on this host", Hint: "kmsctl deploy PATH uploads it again"}},
			{Name: "1000.1000.1000-abcdefghijklmnop", State: controlplane.Live, Healthy: true, Build: strings.Repeat("b2", 32), Label: "one", Connections: 1234567, MessagesPS: 12345, UpdatedAt: now.Add(-50 * time.Hour)},
			{Name: "0.9", State: controlplane.Retired, UpdatedAt: now, Message: "end of life"}}}, nil
}

func (f *fake) addBuild(_ context.Context, r io.Reader, who string) (*controlplane.BuildInfo, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(text), "build ") {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot describe build: exec format error")
	}
	sum := sha256.Sum256(text)
	b := controlplane.BuildInfo{Digest: hex.EncodeToString(sum[:]), Label: strings.TrimSpace(string(text[6:])), Version: "2.0", Contract: 1, Size: int64(len(text)), By: who}
	f.builds = append(f.builds, b)
	return &b, nil
}

func (f *fake) plan(_ context.Context, r controlplane.ReleaseRequest) (*controlplane.Plan, error) {
	if r.Version == "9.9" {
		return nil, controlplane.Errorf(controlplane.NotFound, "no version %q", r.Version).WithHint("kmsctl list")
	}
	if r.Kind == controlplane.KindDeploy && r.Build == f.builds[0].Digest {
		return &controlplane.Plan{Version: r.Version}, nil
	}
	p := &controlplane.Plan{Version: r.Version, From: f.builds[0].Digest, To: r.Build, Steps: []string{"start a set", "probe", "swap the slot"}}
	if r.Kind == controlplane.KindRetire {
		p.Holders = []string{"demo: 12 open connections"}
	}
	return p, nil
}

func (f *fake) start(_ context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error) {
	switch {
	case r.Version == "5.0" && r.Wait > 0:
		time.Sleep(700 * time.Millisecond)
	case r.Version == "6.0":
		return &controlplane.Release{Kind: r.Kind, Version: r.Version, Build: f.builds[0].Digest, State: controlplane.ReleaseDone, Queued: true}, nil
	case r.Version == "5.0":
		return nil, controlplane.Errorf(controlplane.LeaseHeld, "5.0 is being released by bob on host2").WithHint("kmsctl history 5.0")
	case r.Version == "9.9":
		return nil, controlplane.Errorf(controlplane.NotFound, "no version %q", r.Version).WithHint("kmsctl list")
	case r.Kind == controlplane.KindRetire && !r.Force:
		return nil, controlplane.Errorf(controlplane.InUse, "%s has holders:\n  demo: 12 open connections", r.Version).WithHint("kmsctl retire %s --force --message 'why'", r.Version)
	}
	id := int64(len(f.releases) + 1)
	rel := &controlplane.Release{ID: id, Kind: r.Kind, Version: r.Version, Build: r.Build, State: controlplane.ReleaseRunning, Who: r.Who, Message: r.Message, Node: "host1", StartedAt: time.Now()}
	if rel.Build == "" && r.Kind == controlplane.KindRollback {
		rel.Build = f.builds[0].Digest
	}
	f.releases[id] = rel
	begun := *rel
	return &begun, nil
}

func (f *fake) release(_ context.Context, id int64) (*controlplane.Release, error) {
	if r := f.releases[id]; r != nil {
		return r, nil
	}
	return nil, controlplane.Errorf(controlplane.NotFound, "no release %d", id).WithHint("kmsctl history")
}

func (f *fake) list(_ context.Context, version string, _ int) ([]controlplane.Release, error) {
	var out []controlplane.Release
	for _, r := range f.releases {
		if version == "" || r.Version == version {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b controlplane.Release) int { return int(b.ID - a.ID) })
	return out, nil
}

func (f *fake) events(_ context.Context, q controlplane.EventQuery) (<-chan controlplane.Event, error) {
	id := q.Release
	if id == 0 {
		out := make(chan controlplane.Event, 10)
		for i := range min(q.Last, 2) {
			out <- controlplane.Event{At: time.Now(), Kind: "step", Version: "2.0", Release: int64(i + 1), Message: "swap done"}
		}
		if !q.Follow {
			close(out)
		}
		return out, nil
	}
	r := f.releases[id]
	out := make(chan controlplane.Event, 10)
	out <- controlplane.Event{Kind: "step", Release: id, Step: &controlplane.Step{Name: "start set", State: "done", Took: 310 * time.Millisecond}}
	if r.Version == "3.0" {
		return out, nil
	}
	r.State, r.Undo, r.FinishedAt = controlplane.ReleaseDone, "kmsctl rollback "+r.Version, time.Now()
	r.Steps = []controlplane.Step{{Name: "start set", State: "done", Took: 310 * time.Millisecond}}
	for _, b := range f.builds {
		if b.Digest == r.Build {
			r.Label = b.Label
		}
	}
	if r.Label == "unwell" {
		r.State, r.Undo, r.Error = controlplane.ReleaseFailed, "", controlplane.Errorf(controlplane.Unhealthy, "build %s does not pass its probe; the old build still serves\nits last lines:\n  no licence", short(r.Build))
		out <- controlplane.Event{Kind: "step", Release: id, Step: &controlplane.Step{Name: "probe", State: "failed", Message: "exit status 1"}}
	}
	out <- controlplane.Event{Kind: "release", Release: id, Ended: r}
	close(out)
	return out, nil
}

func (f *fake) logs(_ context.Context, q controlplane.LogQuery, line func(controlplane.LogLine) error) error {
	if q.Version == "9.9" {
		return controlplane.Errorf(controlplane.NotFound, "no version %q", q.Version).WithHint("kmsctl list")
	}
	return line(controlplane.LogLine{Source: "2.0/s1a2b3c4d/ua", Text: fmt.Sprintf("\x1b[31mlast %d lines of %q", q.Lines, q.Role)})
}

func (f *fake) connections(_ context.Context, filter controlplane.Connection) ([]controlplane.Connection, error) {
	all := []controlplane.Connection{{ID: "c1", Version: "2.0", Set: "s1a2b3c4d", Tenant: "demo", User: "user-with-a-rather-long-id:0123456789012345678901234567890123", Name: "とても長い表示名のアリスさんですよ", Channels: []string{"lobby", "guild-7"}, ConnectedAt: time.Now().Add(-time.Minute)}}
	if filter.User != "" && filter.User != all[0].User {
		return nil, nil
	}
	return all, nil
}

func (f *fake) kick(_ context.Context, filter controlplane.Connection, _ string) (int, error) {
	if filter.ID == "c1" || filter.Tenant == "demo" {
		return 1, nil
	}
	return 0, nil
}

// startFake serves a fake daemon on a home of its own and tells where.
func startFake() (home string, stop func(), err error) {
	dir, err := os.MkdirTemp("/tmp", "kms")
	if err != nil {
		return "", nil, err
	}
	b, err := fakeDaemon(context.Background(), dir)
	if err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(dir+"/run", 0o700); err != nil {
		return "", nil, err
	}
	end, err := apitest.Serve(dir+"/run/kms.sock", b)
	return dir, func() {
		end()
		b.DB.Close()
		os.RemoveAll(dir)
	}, err
}
