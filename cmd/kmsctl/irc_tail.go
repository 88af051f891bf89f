package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newIRCTail(c *cli) *cobra.Command {
	var q controlplane.BusQuery
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show what travels on the bus, until Ctrl-C",
		Long: `Tail shows who sends, what kind of message, in which channel, its seq and size, and how long after its commit it came here. The control
plane joins the link for it with a connection of its own. Lines without the link's HMAC, which processes drop, are shown as REFUSED
when nothing is filtered. What people write is private: it is shown with --text only, which leaves an entry in the audit trail.`,
		Example: `  kmsctl irc tail
  kmsctl irc tail --tenant wonderland --channel hall
  kmsctl irc tail --link backup --version 2.0 -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			err := k.TailBus(ctx, q, c.busLine)
			if ctx.Err() != nil { // Ctrl-C, or the time that was given, is how one stops
				return nil
			}
			return err
		}),
	}
	f := cmd.Flags()
	f.StringVar(&q.Link, "link", "", "of this link (default: the active one)")
	f.StringVar(&q.Tenant, "tenant", "", "of this tenant only")
	f.StringVar(&q.Channel, "channel", "", "of this channel only")
	f.StringVar(&q.Version, "version", "", "sent by this version only; known of sets on this host")
	f.BoolVar(&q.Text, "text", false, "show what people wrote; the audit trail says that you did")
	c.completeFlag(cmd, "link", linkNames)
	c.completeFlag(cmd, "tenant", tenantNames)
	c.completeFlag(cmd, "version", versionNames)
	return cmd
}

func (c *cli) busLine(l controlplane.BusLine) error {
	if c.forPrograms() {
		return c.encodeLine(l)
	}
	at := l.At.Local().Format("15:04:05.000")
	if l.Refused != "" {
		_, err := fmt.Fprintf(c.out, "%s  %s  REFUSED  %s  %s\n", at, clean(l.Nick), size(int64(l.Size)), clean(l.Refused))
		return err
	}
	where, lag := dash(strings.Trim(l.Tenant+"/"+l.Channel, "/")), dash(took(l.Lag))
	if l.Seq > 0 {
		where += fmt.Sprintf(" #%d", l.Seq)
	}
	_, err := fmt.Fprintf(c.out, "%s  %s %s  %-6s  %s  %s  %s  %s%s\n", at, dash(l.Version), clean(sender(l)), clean(l.Kind), clean(where),
		dash(clean(l.User)), size(int64(l.Size)), lag, text(l))
	return err
}

// sender is the process without its node, or its nick where a newer build says less.
func sender(l controlplane.BusLine) string {
	if _, process, ok := strings.Cut(l.Origin, "/"); ok {
		return process
	}
	return l.Nick
}

func text(l controlplane.BusLine) string {
	if l.Text == "" {
		return ""
	}
	return "  " + clean(l.Name) + ": " + clean(l.Text)
}
