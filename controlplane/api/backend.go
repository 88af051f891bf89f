// Package api is the control plane's own API: HTTP and JSON on a unix socket, WebSocket for what streams, and the client
// for it. docs/control-api.yaml describes it. Who calls is taken from the socket's peer credentials.
package api

import (
	"context"
	"io"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
)

// Backend is what the API serves: the running daemon. What only reads or writes the shared database (tenants, keys, tokens,
// channels, NG words, links, audit) the API does itself, through Store.
type Backend interface {
	Store() *store.Store
	Status(ctx context.Context) (*controlplane.Status, error)

	// AddBuild stores an artifact and describes it. The same bytes again return what is there.
	AddBuild(ctx context.Context, artifact io.Reader, who string) (*controlplane.BuildInfo, error)
	Builds(ctx context.Context) ([]controlplane.BuildInfo, error)

	// Plan tells what a request would do. Start begins it and returns when it has the lease, for which it waits up to r.Wait. A release
	// that was begun audits itself when it ends; one that has ended already and is not queued had nothing to do.
	Plan(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Plan, error)
	Start(ctx context.Context, r controlplane.ReleaseRequest) (*controlplane.Release, error)
	Release(ctx context.Context, id int64) (*controlplane.Release, error)
	Releases(ctx context.Context, version string, limit int) ([]controlplane.Release, error)
	// Leases tells which versions are being changed, by whom, and how many wait.
	Leases(ctx context.Context) ([]controlplane.LeaseInfo, error)

	// Pin holds a tenant on a build of a version until it is unpinned or its time is over. Pins and canaries audit themselves, refused
	// ones too.
	Pin(ctx context.Context, r controlplane.PinRequest) (*controlplane.Pin, error)
	Unpin(ctx context.Context, r controlplane.UnpinRequest) error
	Pins(ctx context.Context) ([]controlplane.Pin, error)
	// Canary leads a share of a version's users to another build, or changes the share, until it is promoted by a deploy of its
	// build or withdrawn.
	Canary(ctx context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error)
	CanaryReport(ctx context.Context, version string) (*controlplane.CanaryReport, error)
	WithdrawCanary(ctx context.Context, r controlplane.WithdrawRequest) error
	// VerifyBuild hashes a stored build's file again. CollectBuilds removes builds that nothing needs, and tells of all.
	VerifyBuild(ctx context.Context, digest string) (*controlplane.BuildCheck, error)
	CollectBuilds(ctx context.Context, r controlplane.GCRequest) ([]controlplane.GCBuild, error)
	// Deprecate says of a version that it will go away; Undeprecate takes that back.
	Deprecate(ctx context.Context, r controlplane.DeprecationRequest) (*controlplane.Deprecation, error)
	Undeprecate(ctx context.Context, version string) error
	// Drain moves the clients of a set, or changes the pace of a drain; Drains tells of all that run when target is empty.
	Drain(ctx context.Context, r controlplane.DrainRequest) ([]controlplane.Drain, error)
	Drains(ctx context.Context, target string) ([]controlplane.Drain, error)

	// Events streams what happened lately and happens from now on; the channel is closed when ctx ends, when the release that was
	// asked for has ended, or when no more is wanted.
	Events(ctx context.Context, q controlplane.EventQuery) (<-chan controlplane.Event, error)
	// Logs calls line for each line until all is told, or until ctx ends when following.
	Logs(ctx context.Context, q controlplane.LogQuery, line func(controlplane.LogLine) error) error

	Connections(ctx context.Context, filter controlplane.Connection) ([]controlplane.Connection, error)
	Kick(ctx context.Context, filter controlplane.Connection, reason string) (int, error)

	// Limited tells what a tenant's limits refused in the processes of this host, by the limit's name.
	Limited(ctx context.Context, tenant string) (map[string]int64, error)

	Bus(ctx context.Context) ([]controlplane.BusStatus, error)
	// TailBus calls line for what travels on a link until ctx ends.
	TailBus(ctx context.Context, q controlplane.BusQuery, line func(controlplane.BusLine) error) error
	TestLink(ctx context.Context, name string) (*controlplane.LinkReport, error)
	PingBus(ctx context.Context) (*controlplane.LinkReport, error)
	// LinksChanged tells every instance the links of the store.
	LinksChanged(ctx context.Context) error

	NginxRender(ctx context.Context) (map[string]string, error) // file name -> text
	NginxTest(ctx context.Context) (*controlplane.NginxReport, error)
	NginxApply(ctx context.Context) (*controlplane.NginxReport, error)
	NginxDiff(ctx context.Context) (*controlplane.NginxReport, error)

	// Backup writes an online copy of the shared database to a file on this host, mode 0600.
	Backup(ctx context.Context, path string) error
	// Restore stops all sets with an announced close, restores, changes the epochs and starts them again.
	Restore(ctx context.Context, path string) error
	Doctor(ctx context.Context) ([]controlplane.Finding, error)

	// Audited records one change: who, what, on what, why and how it ended.
	Audited(ctx context.Context, who, action, subject, message string, err error)
	Uptime() time.Duration
}
