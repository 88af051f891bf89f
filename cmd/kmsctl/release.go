package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// release plans or starts a release, follows it to its end and tells how it went.
func (c *cli) release(ctx context.Context, k *api.Client, r controlplane.ReleaseRequest) error {
	if r.DryRun {
		plan, err := k.Plan(ctx, r)
		if err != nil {
			return err
		}
		return c.plan(plan)
	}
	var begun *controlplane.Release
	err := c.waiting(ctx, k, r.Version, r.Wait, func() (err error) {
		begun, err = k.Start(ctx, r)
		return err
	})
	switch {
	case err != nil:
		return err
	case begun.Queued:
		return c.ended(begun)
	case begun.Ended():
		return c.nothingToDo(begun)
	}
	return c.follow(ctx, k, begun)
}

// waitFlag adds --wait-for-lease.
func (c *cli) waitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait-for-lease", 0, "wait this long (10m) for another change of the version to end, first come first served, instead of exit code 5")
	cmd.Flags().Lookup("wait-for-lease").NoOptDefVal = "10m"
}

// waiting begins something; while that waits for the version's lease, it tells now and then for whom. Who stops waiting, by Ctrl-C
// or --timeout, has begun nothing, and gets what who does not wait gets.
func (c *cli) waiting(ctx context.Context, k *api.Client, version string, wait time.Duration, begin func() error) error {
	waiting, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		if wait > 0 {
			c.tellWaiting(waiting, k, version)
		}
	}()
	err := begin()
	stop()
	<-told
	if err != nil && wait > 0 && ctx.Err() != nil {
		return controlplane.Errorf(controlplane.LeaseHeld, "stopped waiting for the lease of version %s", version).WithHint("kmsctl history %s", version)
	}
	return err
}

// tellWaiting says who has the lease, again when it is somebody else.
func (c *cli) tellWaiting(ctx context.Context, k *api.Client, version string) {
	said := ""
	for ; ctx.Err() == nil; pause(ctx, time.Second) {
		if said == "" { // most releases wait for nobody
			pause(ctx, 300*time.Millisecond)
		}
		leases, err := k.Leases(ctx)
		if err != nil {
			continue
		}
		for _, l := range leases {
			if l.Version != version || l.Waiting == 0 { // it is ours by now
				continue
			}
			text := fmt.Sprintf("waiting: %s, on %s, has the lease; %d wait", l.Purpose, l.Node, l.Waiting)
			if text != said && ctx.Err() == nil {
				c.note("%s", text)
				said = text
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// nothingToDo tells of a release that would change nothing: no entry was made in the ledger.
func (c *cli) nothingToDo(r *controlplane.Release) error {
	if c.forPrograms() {
		return c.encode(r)
	}
	if !c.quiet {
		c.say("%s serves build %s %s already; nothing to do", r.Version, short(r.Build), r.Label)
	}
	return nil
}

// follow tells a release's steps until it has ended. Ctrl-C and --timeout end the telling, not the release.
func (c *cli) follow(ctx context.Context, k *api.Client, begun *controlplane.Release) error {
	c.note("release %d: %s %s", begun.ID, begun.Kind, begun.Version)
	told := steps{c: c}
	ended, err := k.Follow(ctx, begun.ID, told.at)
	told.end()
	if err != nil {
		return err
	}
	return c.ended(ended)
}

// ended tells what came of a release.
func (c *cli) ended(r *controlplane.Release) error {
	if c.forPrograms() {
		if err := c.encode(r); err != nil {
			return err
		}
	}
	return c.verdict(r)
}

// verdict says what came of a release and how to take it back.
func (c *cli) verdict(r *controlplane.Release) error {
	switch r.State {
	case controlplane.ReleaseDone:
	case controlplane.ReleaseRunning:
		return controlplane.Errorf(controlplane.TimedOut, "release %d still runs", r.ID).WithHint("kmsctl attach %d", r.ID)
	case controlplane.ReleaseSuperseded:
		return controlplane.Errorf(controlplane.Failed, "release %d of %s was superseded by a newer one", r.ID, r.Version).WithHint("kmsctl history %s", r.Version)
	default:
		e := controlplane.Errorf(controlplane.Failed, "release %d of %s came to nothing", r.ID, r.Version)
		if r.Error != nil {
			e = r.Error
		}
		if e.Hint == "" {
			e = e.WithHint("kmsctl show %d", r.ID)
		}
		return e
	}
	if c.quiet {
		if !c.forPrograms() {
			fmt.Fprintln(c.out, r.ID)
		}
		return nil
	}
	if r.Queued {
		c.say("%s serves build %s %s on this host", r.Version, short(r.Build), r.Label)
		c.note("the shared database is away; the ledger gets this release when it is back")
	} else if r.Kind == controlplane.KindRetire {
		c.say("%s is retired (release %d)", r.Version, r.ID)
	} else {
		c.say("%s serves build %s %s (release %d)", r.Version, short(r.Build), r.Label, r.ID)
	}
	if r.Undo != "" {
		c.say("undo: %s", r.Undo)
	}
	return nil
}

// plan prints what would be done. Exit code 10 says that something would.
func (c *cli) plan(p *controlplane.Plan) error {
	if c.forPrograms() {
		if err := c.encode(p); err != nil {
			return err
		}
	} else if !c.quiet {
		c.printPlan(p)
	}
	if len(p.Steps) > 0 {
		return errChanges
	}
	return nil
}

func (c *cli) printPlan(p *controlplane.Plan) {
	if len(p.Steps) == 0 {
		c.say("nothing would change")
		return
	}
	if p.Version != "" {
		c.say("%s: %s -> %s", p.Version, dash(short(p.From)), dash(short(p.To)))
	}
	for i, step := range p.Steps {
		c.say("%3d. %s", i+1, step)
	}
	for _, holder := range p.Holders {
		c.say("  held by %s", holder)
	}
}
