package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

// drainLook is how often a drain is looked at; the control plane itself looks once a second.
const drainLook = time.Second

func newDrain(c *cli) *cobra.Command {
	var r controlplane.DrainRequest
	var deadline time.Duration
	var dryRun, noWait bool
	cmd := &cobra.Command{
		Use:   "drain VERSION|SET",
		Short: "Move a set's clients, and watch them go",
		Long: `Drain tells clients to move, some a second, and shows who is left. After a deploy, rollback or unpin the old set is drained by
itself: drain VERSION watches that, and changes its pace with --rate and --deadline; what is not given stays as it is. drain SET on a set that serves makes those who are
connected reconnect once, to wherever they are led: a canary's share, another pin.

2.0 clients open the new connection first and miss nothing; 1.0 clients get an announced close (1012). While the sets they come to fail
logins or requests the pace is a tenth, while one of them is down nobody is told; what is left at the deadline is closed with 1012.

Ctrl-C and --timeout (exit code 3) end the watching, not the drain.`,
		Example: `  kmsctl drain 2.0
  kmsctl drain 2.0 --rate 500 --deadline 2m
  kmsctl drain s1a2b3c4d --yes --message 'to spread the canary'
  kmsctl drain s1a2b3c4d --dry-run`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			r.Target, r.Deadline, r.Message = args[0], int64(deadline/time.Second), c.message
			if deadline < 0 || deadline > 0 && deadline < time.Second {
				return controlplane.Errorf(controlplane.Usage, "bad --deadline %s: want at least 1s", deadline)
			}
			list, err := k.Drains(ctx, r.Target)
			if err != nil {
				return err
			}
			if dryRun {
				return c.drainPlan(list)
			}
			if err := c.mayDrain(ctx, list); err != nil {
				return err
			}
			if r.Rate > 0 || r.Deadline > 0 || r.Message != "" || !underWay(list) { // else somebody only looks
				if list, err = k.Drain(ctx, r); err != nil {
					return err
				}
			}
			if noWait {
				return c.drained(list)
			}
			return c.watchDrain(ctx, k, list)
		}),
		ValidArgsFunction: c.names(false, drainNames),
	}
	cmd.Flags().Float64Var(&r.Rate, "rate", 0, "clients told a second (default: as now, or the setting drain.rate)")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "close what is left after this long (default: as now, or the setting drain.deadline)")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not watch it")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show who would be told; exit code 10 when somebody would")
	return c.destructive(cmd)
}

func drainNames(ctx context.Context, k *api.Client, args []string) ([]string, error) {
	versions, err := versionNames(ctx, k, args)
	if err != nil {
		return nil, err
	}
	sets, err := setNames(ctx, k, args)
	return append(versions, sets...), err
}

// underWay reports whether the sets are being left by themselves already.
func underWay(list []controlplane.Drain) bool {
	return !slices.ContainsFunc(list, func(d controlplane.Drain) bool { return !d.Running || d.Once })
}

// mayDrain asks before the clients of a set that serves are made to reconnect.
func (c *cli) mayDrain(ctx context.Context, list []controlplane.Drain) error {
	for _, d := range list {
		if !underWay([]controlplane.Drain{d}) {
			if err := c.confirm(ctx, "make the %s of set %s (%s, %s) reconnect", plural(d.Left, "client", "clients"), d.Set, d.Version, d.State); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cli) drainPlan(list []controlplane.Drain) error {
	if err := c.print(drainTable(list)); err != nil {
		return err
	}
	if drainLeft(list) > 0 {
		return errChanges
	}
	return nil
}

func drainTable(list []controlplane.Drain) table {
	t := table{data: list, columns: []column{{title: "SET"}, {title: "VERSION", flex: true}, {title: "STATE"}, {title: "BUILD"}, {title: "LEFT", right: true}, {title: "PACE", right: true},
		{title: "TENANTS", flex: true}}}
	for _, d := range list {
		t.rows = append(t.rows, []string{d.Set, d.Version, string(d.State), short(d.Build), fmt.Sprint(d.Left), rate(d.Pace) + "/s", dash(byTenant(d.Tenants, 5))})
	}
	return t
}

// byTenant lists the tenants with the most connections first.
func byTenant(tenants map[string]int64, most int) string {
	names := slices.Sorted(maps.Keys(tenants))
	slices.SortStableFunc(names, func(a, b string) int { return int(tenants[b] - tenants[a]) })
	var parts []string
	for i, name := range names {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, tenants[name]))
	}
	return strings.Join(parts, ", ")
}

func drainLeft(list []controlplane.Drain) (n int) {
	for _, d := range list {
		n += d.Left
	}
	return n
}

// watchDrain counts down until all have gone, or until what was drained is no more.
func (c *cli) watchDrain(ctx context.Context, k *api.Client, list []controlplane.Drain) error {
	began, told := list, c.countdown()
	defer told.end()
	for drainLeft(list) > 0 {
		told.tell(list)
		select {
		case <-ctx.Done():
			return controlplane.Errorf(controlplane.TimedOut, "%s left; the drain goes on", plural(drainLeft(list), "client", "clients")).
				WithHint("kmsctl drain %s watches it", began[0].Version)
		case <-time.After(drainLook):
		}
		now, err := c.drainsOf(ctx, k, began)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			list = now
		}
	}
	told.end()
	return c.drained(list)
}

// drainsOf looks at the same sets again. One that is drained is warm, or stopped and gone.
func (c *cli) drainsOf(ctx context.Context, k *api.Client, began []controlplane.Drain) ([]controlplane.Drain, error) {
	out := slices.Clone(began)
	for i, d := range out {
		now, err := k.Drains(ctx, d.Set)
		switch {
		case err == nil && len(now) == 1 && now[0].Running:
			out[i] = now[0]
		case err == nil || controlplane.AsError(err).Kind == controlplane.NotFound || controlplane.AsError(err).Kind == controlplane.InUse:
			out[i].Left, out[i].Tenants, out[i].Running = 0, map[string]int64{}, false
		default:
			return nil, err
		}
	}
	return out, nil
}

func (c *cli) drained(list []controlplane.Drain) error {
	if c.forPrograms() {
		return c.encode(list)
	}
	for _, d := range list {
		if d.Left > 0 {
			c.say("%s of set %s are told to move at %s/s", plural(d.Left, "client", "clients"), d.Set, rate(d.Rate))
		} else {
			c.say("set %s is drained", d.Set)
		}
	}
	return nil
}

// countdown tells how a drain goes: one line redrawn on a terminal, a plain line now and then elsewhere.
type countdown struct {
	c    *cli
	last time.Time
	over bool
}

func (c *cli) countdown() *countdown { return &countdown{c: c} }

func (p *countdown) tell(list []controlplane.Drain) {
	now := p.c.now()
	if p.c.quiet || !p.c.errTTY && now.Sub(p.last) < lineEvery {
		return
	}
	p.last = now
	for _, d := range list {
		if d.Left == 0 {
			continue
		}
		text := fmt.Sprintf("%s %s: %d left at %s/s", d.Version, d.Set, d.Left, rate(d.Pace))
		if !d.Until.IsZero() {
			text += ", " + span(d.Until.Sub(now)) + " to the deadline"
		}
		if d.Why != "" {
			text += ", slower: " + d.Why
		}
		if by := byTenant(d.Tenants, 3); by != "" {
			text += " (" + by + ")"
		}
		if p.c.errTTY {
			fmt.Fprintf(p.c.err, "\r\x1b[K%s", cells.Truncate(clean(text), tableWidth-1, "…"))
		} else {
			fmt.Fprintln(p.c.err, clean(text))
		}
	}
}

func (p *countdown) end() {
	if !p.over && p.c.errTTY && !p.last.IsZero() {
		fmt.Fprint(p.c.err, "\r\x1b[K")
	}
	p.over = true
}
