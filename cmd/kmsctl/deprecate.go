package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newDeprecate(c *cli) *cobra.Command {
	var sunset string
	var off bool
	cmd := &cobra.Command{
		Use:   "deprecate VERSION",
		Short: "Announce that a version will go away",
		Long: `Deprecate tells it to clients when they log in, to callers of the API in the headers Deprecation and Sunset of every answer, and
to everybody in GET /versions, with the --message. Nothing stops working: kmsctl retire takes the version away.

--sunset is the day, or the day and time, at which that is meant to happen. --off takes the announcement back.`,
		Example: `  kmsctl deprecate 1.0 --sunset 2027-03-31 --message 'move to 2.0'
  kmsctl deprecate 1.0 --off`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if off {
				return c.undeprecate(ctx, k, args[0])
			}
			day, err := parseDay(sunset)
			if err != nil {
				return err
			}
			d, err := k.Deprecate(ctx, controlplane.DeprecationRequest{Version: args[0], Sunset: day, Message: c.message})
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(d)
			}
			text := ""
			if !d.Sunset.IsZero() {
				text = " and goes at " + stamp(d.Sunset)
			}
			c.say("%s is deprecated%s", args[0], text)
			c.say("undo: kmsctl deprecate %s --off", args[0])
			return nil
		}),
		ValidArgsFunction: c.names(false, versionNames),
	}
	cmd.Flags().StringVar(&sunset, "sunset", "", "when it will go away: 2027-03-31, or 2027-03-31T18:00:00+09:00")
	cmd.Flags().BoolVar(&off, "off", false, "take the announcement back")
	return c.change(cmd)
}

func (c *cli) undeprecate(ctx context.Context, k *api.Client, version string) error {
	if err := k.Undeprecate(ctx, version); err != nil {
		return err
	}
	c.say("%s is no longer deprecated", version)
	return nil
}

// parseDay reads a day, which ends at midnight here, or a day and time. Empty is the zero time.
func parseDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, controlplane.Errorf(controlplane.Usage, "bad --sunset %q: want a day, as 2027-03-31, or a day and time, as 2027-03-31T18:00:00+09:00", text)
}
