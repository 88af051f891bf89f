package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newNginx(c *cli) *cobra.Command {
	return group("nginx", "Look after nginx's generated configuration", `  kmsctl nginx diff
  kmsctl nginx test
  kmsctl nginx apply`, newNginxRender(c), newNginxDiff(c), newNginxTest(c), newNginxApply(c))
}

func newNginxRender(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "render",
		Short:   "Print the configuration as it would be written",
		Example: "  kmsctl nginx render",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			files, err := k.NginxRender(ctx)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				return c.encode(files)
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				if c.quiet {
					fmt.Fprintln(c.out, name)
					continue
				}
				fmt.Fprintf(c.out, "# ---- %s\n%s\n", name, strings.TrimRight(files[name], "\n"))
			}
			return nil
		}),
	}
}

func newNginxDiff(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "diff",
		Short:   "Compare that with what nginx runs on; exit code 10: they differ",
		Example: "  kmsctl nginx diff",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			r, err := k.NginxDiff(ctx)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				if err := c.encode(r); err != nil {
					return err
				}
			} else if !c.quiet && r.Diff != "" {
				fmt.Fprint(c.out, r.Diff)
			}
			if r.Diff != "" {
				return errChanges
			}
			c.say("nginx runs on what would be rendered")
			return nil
		}),
	}
}

func newNginxTest(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "test",
		Short:   "Have nginx check the configuration",
		Example: "  kmsctl nginx test",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			r, err := k.NginxTest(ctx)
			if err != nil {
				return err
			}
			return c.nginxReport(r, "nginx takes the configuration")
		}),
	}
}

func newNginxApply(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:     "apply",
		Short:   "Render, test, replace, reload, and verify on every worker",
		Example: "  kmsctl nginx apply --message 'new certificate'",
		Args:    args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			r, err := k.NginxApply(ctx)
			if err != nil {
				return err
			}
			return c.nginxReport(r, applied(r))
		}),
	})
}

// applied says what came of applying the configuration.
func applied(r *controlplane.NginxReport) string {
	workers := plural(r.Workers, "worker", "workers")
	switch {
	case r.Reloaded:
		return fmt.Sprintf("nginx runs generation %s on %s", r.Generation, workers)
	case r.Workers > 0:
		return fmt.Sprintf("nothing changed: nginx runs generation %s already, on %s", r.Generation, workers)
	}
	return fmt.Sprintf("nginx does not run; it takes generation %s when it starts", r.Generation)
}

func (c *cli) nginxReport(r *controlplane.NginxReport, fine string) error {
	if c.forPrograms() {
		if err := c.encode(r); err != nil {
			return err
		}
	}
	if !r.OK {
		return controlplane.Errorf(controlplane.Failed, "nginx refuses the configuration: %s", strings.TrimSpace(r.Output)).WithHint("kmsctl nginx diff")
	}
	c.say("%s", fine)
	return nil
}
