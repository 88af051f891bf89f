package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newIRC(c *cli) *cobra.Command {
	return group("irc", "Look after the bus: the IRC network between UA and API servers", `  kmsctl irc status
  kmsctl irc tail --tenant wonderland
  kmsctl irc link list`, newIRCStatus(c), newIRCTail(c), newIRCPing(c), newIRCLink(c), newIRCConfig(c))
}

func newIRCStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show each process's connection to the bus",
		Long: `Status shows, for each process: LAG, the time its IRC server takes to answer; RATE, messages a second over the bus, both ways; HEALED,
messages that only the log had, holes of the bus; REFUSED, lines without the link's HMAC. Wide output adds totals, references, what was not sent, and
reconnections.`,
		Example: `  kmsctl irc status
  kmsctl irc status -o wide`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Bus(ctx)
			if err != nil {
				return err
			}
			return c.print(busTable(list))
		}),
	}
}

func busTable(list []controlplane.BusStatus) table {
	t := table{data: list, empty: "no process is on the bus", columns: []column{{title: "VERSION", flex: true}, {title: "SET"}, {title: "ROLE"}, {title: "BUS"},
		{title: "LAG", right: true}, {title: "RATE", right: true}, {title: "HEALED", right: true}, {title: "REFUSED", right: true},
		{title: "SENT", right: true, wide: true}, {title: "RECEIVED", right: true, wide: true}, {title: "REFS", right: true, wide: true},
		{title: "DROPPED", right: true, wide: true}, {title: "RECONNECTS", right: true, wide: true}, {title: "DETAIL", flex: true}}}
	for _, b := range list {
		state := "up"
		if !b.Up {
			state = "down"
		}
		t.rows = append(t.rows, []string{b.Version, b.Set, b.Role, state, dash(took(b.Lag)), rate(b.PerSecond), count(b.Healed), count(b.Refused),
			count(b.Sent), count(b.Got), count(b.Refs), count(b.Dropped), count(b.Reconnects), dash(b.Detail)})
	}
	return t
}

func count(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) }

func newIRCPing(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "ping",
		Short:   "Measure a round trip through the active link",
		Example: "  kmsctl irc ping",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			report, err := k.PingBus(ctx)
			if err != nil {
				return err
			}
			return c.linkReport(report)
		}),
	}
}

// linkReport prints what a ping or a test found; a link that does not work is an error.
func (c *cli) linkReport(r *controlplane.LinkReport) error {
	if c.forPrograms() {
		if err := c.encode(r); err != nil {
			return err
		}
	}
	if !r.OK {
		return controlplane.Errorf(controlplane.Failed, "link %q at %s does not work: %s", r.Name, dash(r.Server), dash(r.Problem)).WithHint("kmsctl irc link list")
	}
	if c.quiet && !c.forPrograms() {
		fmt.Fprintln(c.out, took(r.RoundTrip))
	}
	c.say("link %s at %s (%s): round trip %s, lines of %d bytes", r.Name, r.Server, dash(r.Software), took(r.RoundTrip), r.MaxLine)
	return nil
}
