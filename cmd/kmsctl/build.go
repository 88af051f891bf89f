package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newBuild(c *cli) *cobra.Command {
	return group("build", "Look at stored builds, verify and collect them", `  kmsctl build list
  kmsctl build verify
  kmsctl build gc --dry-run`, newBuildList(c), newBuildShow(c), newBuildVerify(c), newBuildGC(c))
}

func newBuildList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the stored builds",
		Example: `  kmsctl build list
  kmsctl build list -o wide`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			list, err := k.Builds(ctx)
			if err != nil {
				return err
			}
			t := table{data: list, empty: "no builds yet: kmsctl deploy PATH", columns: []column{{title: "BUILD"}, {title: "VERSION", flex: true}, {title: "LABEL", flex: true},
				{title: "SIZE", right: true}, {title: "AGE"}, {title: "BY", flex: true}, {title: "USED BY", flex: true}, {title: "CONTRACT", wide: true, right: true}, {title: "SCHEMA", wide: true}, {title: "DIGEST", wide: true}}}
			for _, b := range list {
				t.rows = append(t.rows, []string{short(b.Digest), b.Version, dash(b.Label), size(b.Size), c.age(b.CreatedAt), dash(b.By), dash(strings.Join(b.UsedBy, " ")),
					fmt.Sprint(b.Contract), fmt.Sprintf("%d-%d", b.SchemaMin, b.SchemaMax), b.Digest})
			}
			return c.print(t)
		}),
	}
}

func newBuildShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show BUILD",
		Short: "Show one stored build",
		Long:  `Show takes a digest, or a prefix of it that only one build has.`,
		Example: `  kmsctl build show 3f9a01c2
  kmsctl build show 3f9a01c2 -o json`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			b, err := k.Build(ctx, args[0])
			if err != nil {
				return err
			}
			file := "here"
			if b.Missing {
				file = "missing on this host: kmsctl deploy PATH uploads it again"
			}
			return c.print(table{data: b, columns: []column{{title: "BUILD"}, {title: b.Digest}}, rows: [][]string{
				{"version", b.Version}, {"label", dash(b.Label)}, {"size", fmt.Sprintf("%d bytes", b.Size)}, {"file", file},
				{"contract", fmt.Sprint(b.Contract)}, {"schema", fmt.Sprintf("%d to %d", b.SchemaMin, b.SchemaMax)},
				{"uploaded", stamp(b.CreatedAt)}, {"by", dash(b.By)}, {"used by", dash(strings.Join(b.UsedBy, ", "))}}})
		}),
		ValidArgsFunction: c.names(false, buildNames),
	}
}

func newBuildVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [BUILD...]",
		Short: "Hash the files of stored builds again",
		Long: `Verify reads the files on the control plane's host and holds their sha256 against their names: of the BUILDs, or of all. It exits
with 1 when one is damaged or missing; deploying the same file again puts it back. What runs is not in danger: a file is verified
once more whenever a process is started from it.`,
		Example: `  kmsctl build verify
  kmsctl build verify 3f9a01c2`,
		Args: args(0, -1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			if len(args) == 0 {
				list, err := k.Builds(ctx)
				if err != nil {
					return err
				}
				for _, b := range list {
					args = append(args, b.Digest)
				}
			}
			checks := make([]controlplane.BuildCheck, 0, len(args))
			for _, build := range args {
				check, err := k.VerifyBuild(ctx, build)
				if err != nil {
					return err
				}
				checks = append(checks, *check)
			}
			return c.verified(checks)
		}),
		ValidArgsFunction: c.names(true, buildNames),
	}
}

func (c *cli) verified(checks []controlplane.BuildCheck) error {
	t := table{data: checks, empty: "no builds yet: kmsctl deploy PATH", columns: []column{{title: "BUILD"}, {title: "VERSION", flex: true}, {title: "LABEL", flex: true}, {title: "OK"}, {title: "PROBLEM", flex: true}}}
	bad := 0
	for _, b := range checks {
		ok := "yes"
		if !b.OK {
			ok = "no"
			bad++
		}
		t.rows = append(t.rows, []string{short(b.Build), b.Version, dash(b.Label), ok, dash(b.Problem)})
	}
	if err := c.print(t); err != nil {
		return err
	}
	if bad > 0 {
		return controlplane.Errorf(controlplane.Failed, "%d of %s cannot be started", bad, plural(len(checks), "build", "builds")).
			WithHint("kmsctl deploy PATH of the same file puts it back")
	}
	return nil
}

func newBuildGC(c *cli) *cobra.Command {
	var r controlplane.GCRequest
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove stored builds that nothing needs",
		Long: `Gc removes builds, entry and file, that do not serve, are not warm, pinned or a canary, are in no release that is under way or waits
for the lease, and are not among the last --keep of a version, deployed or uploaded. Files that belong to no build go too. Where several
hosts share the database only this host's files go: what the others need is not known here.`,
		Example: `  kmsctl build gc --dry-run
  kmsctl build gc --keep 3 --yes --message 'disk'`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			plan, err := k.CollectBuilds(ctx, controlplane.GCRequest{Keep: r.Keep, DryRun: true})
			if err != nil {
				return err
			}
			gone, bytes := collected(plan)
			switch {
			case r.DryRun:
				if err := c.print(gcTable(c, plan)); err != nil || gone == 0 {
					return err
				}
				return errChanges
			case gone > 0:
				if err := c.confirm(ctx, "remove %s, %s", plural(gone, "build", "builds"), size(bytes)); err != nil {
					return err
				}
				if plan, err = k.CollectBuilds(ctx, r); err != nil {
					return err
				}
				gone, bytes = collected(plan)
			}
			if c.forPrograms() {
				return c.encode(plan)
			}
			c.say("%s removed, %s; %d kept", plural(gone, "build", "builds"), size(bytes), len(plan)-gone)
			return nil
		}),
	}
	cmd.Flags().IntVar(&r.Keep, "keep", 0, "of each version, used or not (default: the setting gc.keep)")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "show what would go and why the rest stays; exit code 10 when something would")
	return c.destructive(cmd)
}

func collected(list []controlplane.GCBuild) (n int, bytes int64) {
	for _, b := range list {
		if b.Kept == "" {
			n++
			bytes += b.Size
		}
	}
	return n, bytes
}

func gcTable(c *cli, list []controlplane.GCBuild) table {
	t := table{data: list, empty: "no builds yet: kmsctl deploy PATH", columns: []column{{title: "BUILD"}, {title: "VERSION", flex: true}, {title: "LABEL", flex: true}, {title: "SIZE", right: true}, {title: "AGE"}, {title: "VERDICT", flex: true}}}
	for _, b := range list {
		verdict := "goes"
		if b.Kept != "" {
			verdict = "stays: " + b.Kept
		}
		t.rows = append(t.rows, []string{short(b.Build), dash(b.Version), dash(b.Label), size(b.Size), c.age(b.CreatedAt), verdict})
	}
	return t
}
