package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newCanary(c *cli) *cobra.Command {
	return group("canary", "Try a build on a share of a version's users", `  kmsctl deploy ./kms-2.0 --canary 10%
  kmsctl canary show 2.0
  kmsctl canary promote 2.0
  kmsctl canary withdraw 2.0`, newCanaryShow(c), newCanaryPromote(c), newCanaryWithdraw(c))
}

// percent reads a share, as 10% or 10.
func percent(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 1 || n > 99 {
		return 0, controlplane.Errorf(controlplane.Usage, "bad --canary %q: want a share of 1%% to 99%%", text)
	}
	return n, nil
}

// startCanary is `deploy --canary`.
func (c *cli) startCanary(ctx context.Context, k *api.Client, r controlplane.CanaryRequest) error {
	var begun *controlplane.Canary
	err := c.waiting(ctx, k, r.Version, r.Wait, func() (err error) {
		begun, err = k.StartCanary(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	if c.forPrograms() {
		return c.encode(begun)
	}
	c.say("%d%% of the users of %s go to build %s %s", begun.Percent, begun.Version, short(begun.Build), begun.Label)
	c.say("next: kmsctl canary show %s, then promote or withdraw", begun.Version)
	return nil
}

func newCanaryShow(c *cli) *cobra.Command {
	var maxErrors string
	cmd := &cobra.Command{
		Use:   "show VERSION",
		Short: "Hold a canary against the build beside it",
		Long: `Show puts both builds side by side. Requests, their errors and how long they took, WebSockets and refused handshakes are
what nginx saw since the canary began, without pinned tenants; the rest is what the processes counted since then. CLOSED lists
close codes: 1012 is ours when clients are asked to move, 1006 an end without a close frame.

With --max-errors the exit code is 7 when the canary crashed, is not well, or has an error rate above that share and above the other
build's.`,
		Example: `  kmsctl canary show 2.0
  kmsctl canary show 2.0 --max-errors 1%
  kmsctl canary show 2.0 -o json`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			most, err := share(maxErrors)
			if err != nil {
				return err
			}
			r, err := k.Canary(ctx, args[0])
			if err != nil {
				return err
			}
			if !c.forPrograms() && !c.quiet {
				c.say("%s: %d%% of the users go to the canary since %s (%s), by %s", r.Canary.Version, r.Canary.Percent, stamp(r.Canary.Since), c.age(r.Canary.Since), r.Canary.Who)
				if r.From.After(r.Canary.Since) {
					c.say("nginx's log reaches back to %s only", stamp(r.From))
				}
			}
			if err := c.print(canaryTable(r)); err != nil || maxErrors == "" {
				return err
			}
			return canaryVerdict(r, most)
		}),
		ValidArgsFunction: c.names(false, canaryNames),
	}
	cmd.Flags().StringVar(&maxErrors, "max-errors", "", "exit with 7 above this error rate, as 1%")
	return cmd
}

// share reads an error rate, as 0.5%, from 0 to 1; an empty one is 0.
func share(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return 0, controlplane.Errorf(controlplane.Usage, "bad --max-errors %q: want a share of 0%% to 100%%", text)
	}
	return percent / 100, nil
}

// canaryVerdict is an error when the canary is worse than it may be and than the build beside it is.
func canaryVerdict(r *controlplane.CanaryReport, most float64) error {
	var why string
	switch rate := r.New.Traffic.ErrorRate(); {
	case rate > most && rate > r.Stable.Traffic.ErrorRate():
		why = fmt.Sprintf("fails %.2f%% of what it is asked, the build beside it %.2f%%", 100*rate, 100*r.Stable.Traffic.ErrorRate())
	case r.New.Restarts > 0:
		why = "crashed"
	case !r.New.Healthy:
		why = "is not well"
	default:
		return nil
	}
	return controlplane.Errorf(controlplane.Unhealthy, "the canary of %s %s", r.Canary.Version, why).
		WithHint("kmsctl canary withdraw %s", r.Canary.Version)
}

func canaryTable(r *controlplane.CanaryReport) table {
	t := table{data: r, columns: []column{{title: "WHAT"}, {title: "STABLE", flex: true}, {title: "CANARY", flex: true}}}
	row := func(what string, of func(controlplane.CanarySide) string) {
		t.rows = append(t.rows, []string{what, of(r.Stable), of(r.New)})
	}
	row("build", func(s controlplane.CanarySide) string { return strings.TrimSpace(short(s.Build) + " " + s.Label) })
	row("set", func(s controlplane.CanarySide) string { return s.Set })
	row("healthy", func(s controlplane.CanarySide) string {
		return fmt.Sprintf("%s, %s", map[bool]string{true: "yes", false: "no"}[s.Healthy], plural(s.Restarts, "restart", "restarts"))
	})
	row("connections", func(s controlplane.CanarySide) string { return strconv.Itoa(s.Connections) })
	row("messages/s", func(s controlplane.CanarySide) string { return rate(s.MessagesPS) })
	row("error rate", func(s controlplane.CanarySide) string { return fmt.Sprintf("%.2f%%", 100*s.Traffic.ErrorRate()) })
	row("requests", func(s controlplane.CanarySide) string {
		return fmt.Sprintf("%d, %d with 5xx", s.Traffic.Requests, s.Traffic.Errors)
	})
	row("request p50/p99", func(s controlplane.CanarySide) string {
		if s.Traffic.Requests == 0 {
			return "-"
		}
		return fmt.Sprintf("%.0f/%.0f ms", 1000*s.Traffic.P50, 1000*s.Traffic.P99)
	})
	row("websockets", func(s controlplane.CanarySide) string {
		return fmt.Sprintf("%d ended, %d refused", s.Traffic.WebSockets, s.Traffic.Refused)
	})
	row("logins", func(s controlplane.CanarySide) string { return fmt.Sprintf("%d, %d refused", s.Logins, s.LoginErrors) })
	row("frames", func(s controlplane.CanarySide) string { return fmt.Sprintf("%d, %d refused", s.Frames, s.FrameErrors) })
	row("closed", func(s controlplane.CanarySide) string { return closedText(s.Closed) })
	return t
}

// closedText lists close codes with how often each came, in the order of codes.
func closedText(closed map[string]int64) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(closed)) {
		parts = append(parts, fmt.Sprintf("%s: %d", code, closed[code]))
	}
	return dash(strings.Join(parts, ", "))
}

func newCanaryPromote(c *cli) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "promote VERSION",
		Short: "Deploy a version's canary to everybody",
		Long: `Promote makes the canary's build the one that serves: a deploy of it, onto its set that runs already. The clients of the build
before are drained as after every deploy.`,
		Example: `  kmsctl canary promote 2.0
  kmsctl canary promote 2.0 --wait-for-lease --message 'a quiet night'`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			r, err := k.Canary(ctx, args[0])
			if err != nil {
				return err
			}
			return c.release(ctx, k, controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: args[0], Build: r.Canary.Build, Wait: wait})
		}),
		ValidArgsFunction: c.names(false, canaryNames),
	}
	c.waitFlag(cmd, &wait)
	return c.change(cmd)
}

func newCanaryWithdraw(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:   "withdraw VERSION",
		Short: "End a version's canary",
		Long: `Withdraw leads the canary's users back to the build that serves the others. New connections go there at once, open ones are
told to move at the pace of a drain. The canary's set stays warm for a while. A canary that only begins, or that a gate's command holds up,
is undone.`,
		Example: `  kmsctl canary withdraw 2.0
  kmsctl canary withdraw 2.0 --message 'logins fail'`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if err := k.WithdrawCanary(ctx, args[0]); err != nil {
				return err
			}
			c.say("the canary of %s is withdrawn; its clients move back", args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, canaryNames),
	})
}

func canaryNames(ctx context.Context, k *api.Client, _ []string) ([]string, error) {
	list, err := k.Versions(ctx)
	list = slices.DeleteFunc(list, func(v controlplane.VersionInfo) bool { return v.Canary == nil })
	return each(list, err, func(v controlplane.VersionInfo) string { return v.Name })
}
