package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newPin(c *cli) *cobra.Command {
	var build, until string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "pin TENANT VERSION --build BUILD",
		Short: "Hold a tenant on a build of a version",
		Long: `Pin leads a tenant's users and game servers to BUILD, whatever build serves the others, and moves its open connections there.
The build is started and has to pass its own probe unless it runs already; it runs as long as the pin is there, and deploys, rollbacks and
canaries of the version leave the tenant alone. A pin of a tenant that is pinned already takes the old one's place.

The version is the pin's alone while the build starts, as in a release: another one gets exit code 5 meanwhile, or waits for its turn with
--wait-for-lease. Ctrl-C before it is done undoes it.

--until is a time from now, as 2h, or a date and time, as 2027-01-31T18:00:00+09:00; without it the pin lasts until kmsctl unpin.`,
		Example: `  kmsctl pin dragon 2.0 --build 3f9a01c2 --until 48h
  kmsctl pin dragon 2.0 --build 3f9a01c2 --message 'their client is not ready'
  kmsctl pin dragon 2.0 --build 3f9a01c2 --wait-for-lease
  kmsctl pins
  kmsctl unpin dragon 2.0`,
		Args: args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			end, err := c.moment("--until", until)
			if err != nil {
				return err
			}
			if build == "" {
				return controlplane.Errorf(controlplane.Usage, "want --build BUILD").WithHint("kmsctl build list")
			}
			b, err := k.Build(ctx, build)
			if err != nil {
				return err
			}
			var p *controlplane.Pin
			r := controlplane.PinRequest{Tenant: args[0], Version: args[1], Build: b.Digest, Until: end, Wait: wait}
			err = c.waiting(ctx, k, r.Version, wait, func() (err error) {
				p, err = k.Pin(ctx, r)
				return err
			})
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(p)
			}
			c.say("%s is held on build %s %s of %s%s", p.Tenant, short(p.Build), p.Label, p.Version, c.untilText(p.Until))
			c.say("undo: kmsctl unpin %s %s", p.Tenant, p.Version)
			return nil
		}),
		ValidArgsFunction: c.names(false, tenantNames, versionNames),
	}
	cmd.Flags().StringVar(&build, "build", "", "digest of the build, or a prefix of it")
	cmd.Flags().StringVar(&until, "until", "", "when the pin ends by itself: 2h, or 2027-01-31T18:00:00+09:00")
	c.completeFlag(cmd, "build", buildNames)
	c.waitFlag(cmd, &wait)
	return c.change(cmd)
}

// moment reads a flag that takes a time from now or a date with a time; empty is the zero time.
func (c *cli) moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return c.now().Add(d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, controlplane.Errorf(controlplane.Usage, "bad %s %q: want a time from now, as 90m or 48h, or a date and time, as 2027-01-31T18:00:00+09:00", flag, text)
}

func (c *cli) untilText(end time.Time) string {
	if end.IsZero() {
		return ""
	}
	return " until " + stamp(end)
}

func newUnpin(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:   "unpin TENANT VERSION",
		Short: "Let a pinned tenant follow the version again",
		Long: `Unpin leads a tenant where everybody is led. Its open connections are told to move, at the usual pace; requests under way end
where they began.`,
		Example: `  kmsctl unpin dragon 2.0
  kmsctl unpin dragon 2.0 --message 'their client is ready'`,
		Args: args(2, 2),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := k.Unpin(ctx, args[1], args[0]); err != nil {
				return err
			}
			c.say("%s follows %s again", args[0], args[1])
			return nil
		}),
		ValidArgsFunction: c.names(false, pinnedTenants, pinnedVersions),
	})
}

func newPins(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "pins",
		Short: "List the pinned tenants",
		Example: `  kmsctl pins
  kmsctl pins -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Pins(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no pins: kmsctl pin TENANT VERSION --build BUILD", columns: []column{{title: "TENANT", flex: true}, {title: "VERSION", flex: true},
				{title: "BUILD"}, {title: "LABEL", flex: true}, {title: "SET"}, {title: "AGE"}, {title: "UNTIL"}, {title: "BY", wide: true}, {title: "MESSAGE", wide: true}}}
			for _, p := range list {
				t.rows = append(t.rows, []string{p.Tenant, p.Version, short(p.Build), dash(p.Label), p.Set, c.age(p.Since), stamp(p.Until), p.Who, dash(p.Message)})
			}
			return c.print(t)
		}),
	}
}

func pinnedTenants(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Pins(ctx)
	return each(list, err, func(p controlplane.Pin) string { return p.Tenant + "\t" + p.Version })
}

func pinnedVersions(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	list, err := k.Pins(ctx)
	var out []string
	for _, p := range list {
		if p.Tenant == args[0] {
			out = append(out, p.Version)
		}
	}
	return out, err
}
