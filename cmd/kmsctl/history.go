package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newHistory(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history [VERSION]",
		Short: "List the releases of the ledger, newest first",
		Example: `  kmsctl history
  kmsctl history 2.0 -n 5 -o json`,
		Args: args(0, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			version := ""
			if len(args) > 0 {
				version = args[0]
			}
			list, err := k.Releases(ctx, version, limit)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no releases yet", columns: []column{{title: "RELEASE", right: true}, {title: "KIND"}, {title: "VERSION", flex: true},
				{title: "BUILD"}, {title: "LABEL", wide: true}, {title: "STATE"}, {title: "AGE"}, {title: "TOOK", right: true, wide: true}, {title: "WHO", flex: true}, {title: "MESSAGE", flex: true}, {title: "NODE", wide: true}}}
			for _, r := range list {
				t.rows = append(t.rows, []string{itoa(r.ID), string(r.Kind), r.Version, dash(short(r.Build)), dash(r.Label), string(r.State), c.age(r.StartedAt), dash(took(duration(r))), dash(r.Who), dash(r.Message), r.Node})
			}
			return c.print(t)
		}),
		ValidArgsFunction: c.names(false, versionNames),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return cmd
}

// duration is how long a release took, 0 while it runs.
func duration(r controlplane.Release) time.Duration {
	if r.FinishedAt.IsZero() {
		return 0
	}
	return r.FinishedAt.Sub(r.StartedAt)
}

func newShow(c *cli) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "show RELEASE",
		Short: "Show a release with its steps, or follow one that runs",
		Example: `  kmsctl show 12
  kmsctl show 12 --follow`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			r, err := k.Release(ctx, id)
			if err != nil {
				return err
			}
			if follow {
				return c.follow(ctx, k, r)
			}
			if c.forPrograms() {
				return c.encode(r)
			}
			return c.printRelease(r)
		}),
		ValidArgsFunction: c.names(false, releaseNames),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "tell its steps until it has ended; its exit code is the release's")
	return cmd
}

func (c *cli) printRelease(r *controlplane.Release) error {
	c.say("release   %d: %s %s, %s", r.ID, r.Kind, r.Version, r.State)
	if r.Build != "" {
		c.say("build     %s %s", r.Build, r.Label)
	}
	if r.Previous != "" {
		c.say("before    %s", r.Previous)
	}
	c.say("by        %s on %s, %s", r.Who, r.Node, stamp(r.StartedAt))
	if r.Ended() {
		c.say("ended     %s, after %s", stamp(r.FinishedAt), took(duration(*r)))
	}
	if r.Message != "" {
		c.say("message   %s", r.Message)
	}
	if r.Error != nil {
		for i, line := range strings.Split(r.Error.Message, "\n") { // the last lines of the build's log may be among them
			c.say("%-10s%s", []string{"error", ""}[min(i, 1)], line)
		}
	}
	if r.Undo != "" {
		c.say("undo      %s", r.Undo)
	}
	if c.quiet || len(r.Steps) == 0 {
		return nil
	}
	c.say("")
	t := table{columns: []column{{title: "STEP", flex: true}, {title: "STATE"}, {title: "AT", wide: true}, {title: "TOOK", right: true}, {title: "DETAIL", flex: true}}}
	for _, s := range r.Steps {
		t.rows = append(t.rows, []string{s.Name, s.State, s.At.Local().Format("15:04:05.000"), took(s.Took), s.Message})
	}
	return c.draw(c.out, t)
}

func releaseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, controlplane.Errorf(controlplane.Usage, "bad release %q: want its number", text).WithHint("kmsctl history")
	}
	return id, nil
}
