package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api/apitest"
)

// leadElsewhere adds pins and canaries to the fake: 2.0 has both from the start.
func (f *fake) leadElsewhere(b *apitest.Backend) {
	began := time.Now().Add(-90 * time.Minute)
	pins := []controlplane.Pin{{Version: "2.0", Tenant: "dragon", Build: f.builds[0].Digest, Label: "一", Set: "s1a2b3c4d", Since: began, Until: time.Now().Add(time.Hour), Who: "alice"}}
	b.PinsFunc = func(context.Context) ([]controlplane.Pin, error) { return pins, nil }
	b.PinFunc = func(_ context.Context, r controlplane.PinRequest) (*controlplane.Pin, error) {
		if r.Version == "9.9" {
			return nil, controlplane.Errorf(controlplane.NotFound, "there is no version %q", r.Version).WithHint("kmsctl list")
		}
		p := controlplane.Pin{Version: r.Version, Tenant: r.Tenant, Build: r.Build, Label: "一", Set: "s1a2b3c4d", Since: time.Now(), Until: r.Until, Who: r.Who, Message: r.Message}
		pins = append(pins, p)
		return &p, nil
	}
	b.UnpinFunc = func(_ context.Context, r controlplane.UnpinRequest) error {
		is := func(p controlplane.Pin) bool { return p.Version == r.Version && p.Tenant == r.Tenant }
		if !slices.ContainsFunc(pins, is) {
			return controlplane.Errorf(controlplane.NotFound, "tenant %q is not pinned on version %q", r.Tenant, r.Version).WithHint("kmsctl pins")
		}
		pins = slices.DeleteFunc(pins, is)
		return nil
	}
	canary := controlplane.Canary{Version: "2.0", Build: strings.Repeat("c3", 32), Label: "next", Set: "s5c6d7e8f", Beside: "s1a2b3c4d", Percent: 10, Since: began, Who: "bob"}
	b.CanaryFunc = func(_ context.Context, r controlplane.CanaryRequest) (*controlplane.Canary, error) {
		canary.Build, canary.Percent = r.Build, r.Percent
		return &canary, nil
	}
	b.ReportFunc = func(_ context.Context, version string) (*controlplane.CanaryReport, error) {
		if version != "2.0" {
			return nil, controlplane.Errorf(controlplane.NotFound, "version %q has no canary", version)
		}
		return &controlplane.CanaryReport{Canary: canary, From: began.Add(time.Hour),
			Stable: controlplane.CanarySide{Build: f.builds[0].Digest, Label: f.builds[0].Label, Set: "s1a2b3c4d", Healthy: true, Connections: 900, MessagesPS: 12, Logins: 1000, Frames: 5000, FrameErrors: 3,
				Closed: map[string]int64{"1000": 90, "1006": 10}, Traffic: controlplane.Traffic{Requests: 4000, P50: 0.0021, P99: 0.012, WebSockets: 100}},
			New: controlplane.CanarySide{Build: canary.Build, Label: canary.Label, Set: canary.Set, Restarts: 1, Connections: 100, Logins: 120, LoginErrors: 15,
				Traffic: controlplane.Traffic{Requests: 400, Errors: 20, P50: 0.0031, P99: 0.25, WebSockets: 60, Refused: 20}}}, nil
	}
	b.DeprecateFunc = func(_ context.Context, r controlplane.DeprecationRequest) (*controlplane.Deprecation, error) {
		return &controlplane.Deprecation{Since: time.Now(), Sunset: r.Sunset, Message: r.Message}, nil
	}
	b.UndeprecateFunc = func(_ context.Context, version string) error {
		if version != "1.0" {
			return controlplane.Errorf(controlplane.NotFound, "version %q is not deprecated", version)
		}
		return nil
	}
	b.VerifyFunc = func(_ context.Context, digest string) (*controlplane.BuildCheck, error) {
		if digest != f.builds[0].Digest {
			return &controlplane.BuildCheck{Build: digest, Version: "2.0", Problem: "the file has 1 bytes, the build 7"}, nil
		}
		return &controlplane.BuildCheck{Build: digest, Version: "2.0", OK: true}, nil
	}
	b.CollectFunc = func(_ context.Context, r controlplane.GCRequest) ([]controlplane.GCBuild, error) {
		if r.Keep == 9 {
			return []controlplane.GCBuild{{Build: f.builds[0].Digest, Version: "2.0", Size: 13 << 20, Kept: "serves 2.0"}}, nil
		}
		return []controlplane.GCBuild{{Build: f.builds[0].Digest, Version: "2.0", Size: 13 << 20, Kept: "serves 2.0"}, {Build: strings.Repeat("d4", 32), Version: "2.0", Size: 14 << 20},
			{Build: strings.Repeat("e5", 32), Size: 1 << 20}}, nil
	}
	looks := 0
	b.DrainsFunc = func(_ context.Context, target string) ([]controlplane.Drain, error) {
		d := controlplane.Drain{Set: "s1a2b3c4d", Version: "2.0", Build: f.builds[0].Digest, State: controlplane.SetServing, Left: 12, Tenants: map[string]int64{"demo": 9, "dragon": 3}}
		switch target {
		case d.Set:
		case "2.0", "s0l1d2e3f":
			looks++
			d.Set, d.State, d.Running, d.Rate, d.Pace, d.Why, d.Until = "s0l1d2e3f", controlplane.SetDraining, true, 50, 5, "set s1a2b3c4d fails", time.Now().Add(time.Minute)
			if d.Left -= 8 * (looks / 3); d.Left <= 0 {
				looks = 0
				return nil, controlplane.Errorf(controlplane.NotFound, "there is no version or set %q", target)
			}
		default:
			return nil, controlplane.Errorf(controlplane.NotFound, "there is no version or set %q", target).WithHint("kmsctl status")
		}
		return []controlplane.Drain{d}, nil
	}
	b.DrainFunc = func(ctx context.Context, r controlplane.DrainRequest) ([]controlplane.Drain, error) {
		looks = 0
		return b.DrainsFunc(ctx, r.Target)
	}
	b.WithdrawFunc = func(_ context.Context, r controlplane.WithdrawRequest) error {
		if r.Version != "2.0" {
			return controlplane.Errorf(controlplane.NotFound, "version %q has no canary", r.Version)
		}
		return nil
	}
}
