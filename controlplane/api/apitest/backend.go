// Package apitest has what tests of the control API and of its callers share: a daemon made of function fields over a real
// SQLite store, served on a real unix socket. Only tests import it.
package apitest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

// Backend answers through its fields; one that is nil answers that it is not there. Audit entries go to the real store.
type Backend struct {
	DB              *store.Store
	StatusFunc      func(context.Context) (*controlplane.Status, error)
	AddBuildFunc    func(context.Context, io.Reader, string) (*controlplane.BuildInfo, error)
	BuildsFunc      func(context.Context) ([]controlplane.BuildInfo, error)
	PlanFunc        func(context.Context, controlplane.ReleaseRequest) (*controlplane.Plan, error)
	StartFunc       func(context.Context, controlplane.ReleaseRequest) (*controlplane.Release, error)
	ReleaseFunc     func(context.Context, int64) (*controlplane.Release, error)
	ReleasesFunc    func(context.Context, string, int) ([]controlplane.Release, error)
	PinFunc         func(context.Context, controlplane.PinRequest) (*controlplane.Pin, error)
	UnpinFunc       func(context.Context, controlplane.UnpinRequest) error
	PinsFunc        func(context.Context) ([]controlplane.Pin, error)
	LeasesFunc      func(context.Context) ([]controlplane.LeaseInfo, error)
	EventsFunc      func(context.Context, controlplane.EventQuery) (<-chan controlplane.Event, error)
	CanaryFunc      func(context.Context, controlplane.CanaryRequest) (*controlplane.Canary, error)
	ReportFunc      func(ctx context.Context, version string) (*controlplane.CanaryReport, error)
	WithdrawFunc    func(context.Context, controlplane.WithdrawRequest) error
	VerifyFunc      func(ctx context.Context, digest string) (*controlplane.BuildCheck, error)
	CollectFunc     func(context.Context, controlplane.GCRequest) ([]controlplane.GCBuild, error)
	DeprecateFunc   func(context.Context, controlplane.DeprecationRequest) (*controlplane.Deprecation, error)
	UndeprecateFunc func(ctx context.Context, version string) error
	DrainFunc       func(context.Context, controlplane.DrainRequest) ([]controlplane.Drain, error)
	DrainsFunc      func(ctx context.Context, target string) ([]controlplane.Drain, error)
	LogsFunc        func(context.Context, controlplane.LogQuery, func(controlplane.LogLine) error) error
	ConnectionsFunc func(context.Context, controlplane.Connection) ([]controlplane.Connection, error)
	KickFunc        func(context.Context, controlplane.Connection, string) (int, error)
	LimitedFunc     func(ctx context.Context, tenant string) (map[string]int64, error)
	BusFunc         func(context.Context) ([]controlplane.BusStatus, error)
	TailBusFunc     func(context.Context, controlplane.BusQuery, func(controlplane.BusLine) error) error
	TestLinkFunc    func(context.Context, string) (*controlplane.LinkReport, error)
	PingBusFunc     func(context.Context) (*controlplane.LinkReport, error)
	LinksFunc       func(context.Context) error
	RenderFunc      func(context.Context) (map[string]string, error)
	NginxFunc       func(ctx context.Context, verb string) (*controlplane.NginxReport, error)
	BackupFunc      func(context.Context, string) error
	RestoreFunc     func(context.Context, string) error
	DoctorFunc      func(context.Context) ([]controlplane.Finding, error)
}

// Open makes a Backend over a new migrated SQLite store in dir.
func Open(ctx context.Context, dir string) (*Backend, error) {
	st, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "kms.db"), store.Options{})
	if err != nil {
		return nil, err
	}
	if err := st.Migrate(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &Backend{DB: st}, nil
}

// Serve serves b on a unix socket until stop is called, which also ends its streams.
func Serve(socket string, b api.Backend) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{Handler: api.NewServer(b, slog.New(slog.DiscardHandler)), ConnContext: api.ConnContext,
		BaseContext: func(net.Listener) context.Context { return ctx }, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	return func() {
		cancel()
		lingering, end := context.WithTimeout(context.Background(), time.Second) // as connections do whose body was refused
		defer end()
		srv.Shutdown(lingering)
		srv.Close()
		<-done
	}, nil
}

func absent(what string) error {
	return controlplane.Errorf(controlplane.Failed, "this fake has no %s", what)
}

func (b *Backend) Store() *store.Store { return b.DB }

func (b *Backend) Status(ctx context.Context) (*controlplane.Status, error) {
	if b.StatusFunc == nil {
		return nil, absent("status")
	}
	return b.StatusFunc(ctx)
}

func (b *Backend) AddBuild(ctx context.Context, r io.Reader, who string) (*controlplane.BuildInfo, error) {
	if b.AddBuildFunc == nil {
		return nil, absent("artifacts")
	}
	return b.AddBuildFunc(ctx, r, who)
}

func (b *Backend) Builds(ctx context.Context) ([]controlplane.BuildInfo, error) {
	if b.BuildsFunc == nil {
		return nil, nil
	}
	return b.BuildsFunc(ctx)
}

func (b *Backend) Plan(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Plan, error) {
	if b.PlanFunc == nil {
		return nil, absent("plans")
	}
	return b.PlanFunc(ctx, r)
}

func (b *Backend) Start(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error) {
	if b.StartFunc == nil {
		return nil, absent("releases")
	}
	release, err := b.StartFunc(ctx, r)
	if err == nil && (release.Queued || !release.Ended()) {
		b.Audited(ctx, r.Who, "release", string(r.Kind)+" "+r.Version, r.Message, nil)
	}
	return release, err
}

func (b *Backend) Release(ctx context.Context, id int64) (*controlplane.Release, error) {
	if b.ReleaseFunc == nil {
		return nil, controlplane.Errorf(controlplane.NotFound, "no release %d", id)
	}
	return b.ReleaseFunc(ctx, id)
}

func (b *Backend) Releases(ctx context.Context, version string, limit int) ([]controlplane.Release, error) {
	if b.ReleasesFunc == nil {
		return nil, nil
	}
	return b.ReleasesFunc(ctx, version, limit)
}

func (b *Backend) Pin(ctx context.Context, r controlplane.PinRequest) (*controlplane.Pin, error) {
	if b.PinFunc == nil {
		return nil, absent("pins")
	}
	return b.PinFunc(ctx, r)
}

func (b *Backend) Unpin(ctx context.Context, r controlplane.UnpinRequest) error {
	if b.UnpinFunc == nil {
		return absent("pins")
	}
	return b.UnpinFunc(ctx, r)
}

func (b *Backend) Pins(ctx context.Context) ([]controlplane.Pin, error) {
	if b.PinsFunc == nil {
		return nil, nil
	}
	return b.PinsFunc(ctx)
}

func (b *Backend) Leases(ctx context.Context) ([]controlplane.LeaseInfo, error) {
	if b.LeasesFunc == nil {
		return nil, nil
	}
	return b.LeasesFunc(ctx)
}

func (b *Backend) Canary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
	if b.CanaryFunc == nil {
		return nil, absent("canaries")
	}
	return b.CanaryFunc(ctx, r)
}

func (b *Backend) CanaryReport(ctx context.Context, version string) (*controlplane.CanaryReport, error) {
	if b.ReportFunc == nil {
		return nil, absent("canaries")
	}
	return b.ReportFunc(ctx, version)
}

func (b *Backend) VerifyBuild(ctx context.Context, digest string) (*controlplane.BuildCheck, error) {
	if b.VerifyFunc == nil {
		return nil, absent("artifacts")
	}
	return b.VerifyFunc(ctx, digest)
}

func (b *Backend) CollectBuilds(ctx context.Context, r controlplane.GCRequest) ([]controlplane.GCBuild, error) {
	if b.CollectFunc == nil {
		return nil, absent("artifacts")
	}
	return b.CollectFunc(ctx, r)
}

func (b *Backend) Deprecate(ctx context.Context, r controlplane.DeprecationRequest) (*controlplane.Deprecation, error) {
	if b.DeprecateFunc == nil {
		return nil, absent("versions")
	}
	return b.DeprecateFunc(ctx, r)
}

func (b *Backend) Undeprecate(ctx context.Context, version string) error {
	if b.UndeprecateFunc == nil {
		return absent("versions")
	}
	return b.UndeprecateFunc(ctx, version)
}

func (b *Backend) Drain(ctx context.Context, r controlplane.DrainRequest) ([]controlplane.Drain, error) {
	if b.DrainFunc == nil {
		return nil, absent("drains")
	}
	return b.DrainFunc(ctx, r)
}

func (b *Backend) Drains(ctx context.Context, target string) ([]controlplane.Drain, error) {
	if b.DrainsFunc == nil {
		return nil, nil
	}
	return b.DrainsFunc(ctx, target)
}

func (b *Backend) WithdrawCanary(ctx context.Context, r controlplane.WithdrawRequest) error {
	if b.WithdrawFunc == nil {
		return absent("canaries")
	}
	return b.WithdrawFunc(ctx, r)
}

func (b *Backend) Events(ctx context.Context, q controlplane.EventQuery) (<-chan controlplane.Event, error) {
	if b.EventsFunc == nil {
		return nil, absent("events")
	}
	return b.EventsFunc(ctx, q)
}

func (b *Backend) Logs(ctx context.Context, q controlplane.LogQuery, line func(controlplane.LogLine) error) error {
	if b.LogsFunc == nil {
		return absent("logs")
	}
	return b.LogsFunc(ctx, q, line)
}

func (b *Backend) Connections(ctx context.Context, f controlplane.Connection) ([]controlplane.Connection, error) {
	if b.ConnectionsFunc == nil {
		return nil, nil
	}
	return b.ConnectionsFunc(ctx, f)
}

func (b *Backend) Kick(ctx context.Context, f controlplane.Connection, reason string) (int, error) {
	if b.KickFunc == nil {
		return 0, nil
	}
	return b.KickFunc(ctx, f, reason)
}

func (b *Backend) Limited(ctx context.Context, tenant string) (map[string]int64, error) {
	if b.LimitedFunc == nil {
		return nil, nil
	}
	return b.LimitedFunc(ctx, tenant)
}

func (b *Backend) Bus(ctx context.Context) ([]controlplane.BusStatus, error) {
	if b.BusFunc == nil {
		return nil, nil
	}
	return b.BusFunc(ctx)
}

func (b *Backend) TailBus(ctx context.Context, q controlplane.BusQuery, line func(controlplane.BusLine) error) error {
	if b.TailBusFunc == nil {
		return absent("bus")
	}
	return b.TailBusFunc(ctx, q, line)
}

func (b *Backend) TestLink(ctx context.Context, name string) (*controlplane.LinkReport, error) {
	if b.TestLinkFunc == nil {
		return nil, absent("IRC")
	}
	return b.TestLinkFunc(ctx, name)
}

func (b *Backend) PingBus(ctx context.Context) (*controlplane.LinkReport, error) {
	if b.PingBusFunc == nil {
		return nil, absent("IRC")
	}
	return b.PingBusFunc(ctx)
}

func (b *Backend) LinksChanged(ctx context.Context) error {
	if b.LinksFunc == nil {
		return nil
	}
	return b.LinksFunc(ctx)
}

func (b *Backend) NginxRender(ctx context.Context) (map[string]string, error) {
	if b.RenderFunc == nil {
		return nil, absent("nginx")
	}
	return b.RenderFunc(ctx)
}

func (b *Backend) nginx(ctx context.Context, verb string) (*controlplane.NginxReport, error) {
	if b.NginxFunc == nil {
		return nil, absent("nginx")
	}
	return b.NginxFunc(ctx, verb)
}

func (b *Backend) NginxTest(ctx context.Context) (*controlplane.NginxReport, error) {
	return b.nginx(ctx, "test")
}

func (b *Backend) NginxApply(ctx context.Context) (*controlplane.NginxReport, error) {
	return b.nginx(ctx, "apply")
}

func (b *Backend) NginxDiff(ctx context.Context) (*controlplane.NginxReport, error) {
	return b.nginx(ctx, "diff")
}

func (b *Backend) Backup(ctx context.Context, path string) error {
	if b.BackupFunc == nil {
		return b.DB.Backup(ctx, path, ".kms-backup-")
	}
	return b.BackupFunc(ctx, path)
}

func (b *Backend) Restore(ctx context.Context, path string) error {
	if b.RestoreFunc == nil {
		return absent("restore")
	}
	return b.RestoreFunc(ctx, path)
}

func (b *Backend) Doctor(ctx context.Context) ([]controlplane.Finding, error) {
	if b.DoctorFunc == nil {
		return nil, nil
	}
	return b.DoctorFunc(ctx)
}

func (b *Backend) Audited(ctx context.Context, who, action, subject, message string, err error) {
	result := "ok"
	if err != nil {
		result = err.Error()
	}
	if err := b.DB.AppendAudit(ctx, store.Audit{Who: who, Action: action, Subject: subject, Message: message, Result: result, Node: "test"}); err != nil {
		panic(err)
	}
}

func (b *Backend) Uptime() time.Duration { return time.Minute }
