package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newStatus(c *cli) *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show components, versions, sets and sockets",
		Long:  `Status exits with 1 when something is not healthy.`,
		Example: `  kmsctl status
  kmsctl status --watch
  kmsctl status -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			if watch {
				return c.watchStatus(ctx, k, max(every, 100*time.Millisecond))
			}
			st, err := k.Status(ctx)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				err = c.encode(st)
			} else {
				err = c.printStatus(c.out, st)
			}
			if err != nil || st.Healthy {
				return err
			}
			return controlplane.Errorf(controlplane.Failed, "not all is well on %s", st.Node).WithHint("kmsctl doctor")
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again until Ctrl-C")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often with --watch")
	return cmd
}

// watchStatus redraws in place on a terminal and goes on over a control plane that is away for a while.
func (c *cli) watchStatus(ctx context.Context, k *api.Client, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		st, err := k.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var page bytes.Buffer
		switch {
		case err != nil:
			fmt.Fprintln(&page, clean(err.Error()))
		case c.forPrograms():
			if err := c.encodeLine(st); err != nil {
				return err
			}
		default:
			if err := c.printStatus(&page, st); err != nil {
				return err
			}
		}
		if c.outTTY {
			fmt.Fprint(c.out, "\x1b[H\x1b[2J")
		}
		if _, err := page.WriteTo(c.out); err != nil {
			return controlplane.Errorf(controlplane.Failed, "cannot write: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *cli) printStatus(out io.Writer, st *controlplane.Status) error {
	if c.quiet {
		return nil
	}
	fmt.Fprintln(out, clean(fmt.Sprintf("node %s, control plane %s, pid %d, up %s", st.Node, st.Binary, st.PID, c.age(st.StartedAt))))
	fmt.Fprintln(out, clean("state "+st.State))
	fmt.Fprintln(out, clean("run   "+st.Run))
	for _, address := range []string{st.HTTP, st.HTTPS} {
		if address != "" {
			fmt.Fprintln(out, clean("      "+address))
		}
	}
	fmt.Fprintln(out)
	t := table{columns: []column{{title: "COMPONENT"}, {title: "STATE"}, {title: "PID", right: true}, {title: "ADDRESS", flex: true}, {title: "DETAIL", flex: true}}}
	for _, p := range st.Components {
		t.rows = append(t.rows, []string{p.Name, p.State, pid(p.PID), dash(p.Address), dash(p.Detail)})
	}
	if err := c.draw(out, t); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := c.draw(out, c.setTable(st.Versions)); err != nil {
		return err
	}
	c.printPlaces(out, st.Versions)
	c.printSockets(out, st)
	return nil
}

// setTable has one row for each process.
func (c *cli) setTable(versions []controlplane.VersionInfo) table {
	t := table{columns: []column{{title: "VERSION", flex: true}, {title: "SET"}, {title: "STATE"}, {title: "BUILD", wide: true}, {title: "LABEL", flex: true}, {title: "ROLE"},
		{title: "PROCESS"}, {title: "PID", right: true}, {title: "AGE"}, {title: "CONNS", right: true}, {title: "MSG/S", right: true}, {title: "RSS", right: true, wide: true}, {title: "RESTARTS", right: true, wide: true}}}
	for _, v := range versions {
		if len(v.Sets) == 0 {
			t.rows = append(t.rows, []string{v.Name, "-", string(v.State), short(v.Build), dash(v.Label), "", "", "", "", "", "", "", ""})
		}
		for _, s := range v.Sets {
			for _, p := range s.Instances {
				t.rows = append(t.rows, []string{v.Name, s.ID, string(s.State), short(s.Build), dash(s.Label), p.Role, string(p.State), pid(p.PID), c.age(p.StartedAt),
					strconv.Itoa(p.Connections), rate(p.MessagesPS), size(p.RSS), strconv.Itoa(p.Restarts)})
			}
		}
	}
	return t
}

// printPlaces tells of what is under way, canaries and pins, if there are any, and of what waits for the operator.
func (c *cli) printPlaces(out io.Writer, versions []controlplane.VersionInfo) {
	var lines []string
	for _, v := range versions {
		if r := v.Running; r != nil {
			lines = append(lines, c.runningText(r))
		}
		if v.Canary != nil {
			lines = append(lines, fmt.Sprintf("canary of %s: %d%% of the users to %s (%s), %s old", v.Name, v.Canary.Percent, short(v.Canary.Build), v.Canary.Set, c.age(v.Canary.Since)))
		}
		for _, p := range v.Pins {
			lines = append(lines, fmt.Sprintf("pin on %s: %s to %s (%s)%s", v.Name, p.Tenant, short(p.Build), p.Set, c.untilText(p.Until)))
		}
		if v.Stuck != nil {
			lines = append(lines, fmt.Sprintf("stuck on %s: %s", v.Name, v.Stuck.Message), "  next: "+v.Stuck.Hint)
		}
	}
	if len(lines) > 0 {
		fmt.Fprintln(out)
		for _, line := range lines {
			fmt.Fprintln(out, clean(line))
		}
	}
}

// runningText tells how far a release, or a pin or canary that begins, is.
func (c *cli) runningText(r *controlplane.Release) string {
	what := "under way" // a pin or canary, which has no number
	if r.ID != 0 {
		what = fmt.Sprintf("release %d runs", r.ID)
	}
	text := fmt.Sprintf("%s: %s of %s by %s, for %s", what, r.Kind, r.Version, r.Who, c.age(r.StartedAt))
	if n := len(r.Steps); n > 0 {
		text += fmt.Sprintf(", %s %s", r.Steps[n-1].Name, r.Steps[n-1].State)
	}
	return text
}

// printSockets tells where each process listens, whole, because paths are there to be copied, and what is wrong with it.
func (c *cli) printSockets(out io.Writer, st *controlplane.Status) {
	fmt.Fprintln(out)
	for _, v := range st.Versions {
		for _, s := range v.Sets {
			for _, p := range s.Instances {
				fmt.Fprintln(out, clean(fmt.Sprintf("%s/%s/%s  %s", v.Name, s.ID, p.Role, p.Socket)))
				if p.Problem != "" {
					fmt.Fprintln(out, clean("  "+p.Problem))
				}
			}
		}
	}
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func healthy(ok bool, state controlplane.VersionState) string {
	switch {
	case state == controlplane.Retired:
		return "-"
	case ok:
		return "yes"
	}
	return "no"
}
