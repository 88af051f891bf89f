package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/doctor"
)

// doctorPatience is how long doctor waits for a control plane that may be the patient.
const doctorPatience = 10 * time.Second

func newDoctor(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong, with a command that mends it",
		Long:  `Doctor works when the control plane is down too. It exits with 1 when it finds an error; warnings are fine.`,
		Example: `  kmsctl doctor
  kmsctl doctor -o json`,
		Args: args(0, 0),
		RunE: c.with(func(ctx context.Context, k *api.Client, _ []string) error {
			findings, err := c.examine(ctx, k)
			if err != nil {
				return err
			}
			if c.forPrograms() {
				err = c.encode(findings)
			} else {
				c.printFindings(findings)
			}
			errors := 0
			for _, f := range findings {
				if f.Level == "error" {
					errors++
				}
			}
			if err != nil || errors == 0 {
				return err
			}
			return controlplane.Errorf(controlplane.Failed, "%s", plural(errors, "thing needs mending", "things need mending"))
		}),
	}
}

// examine asks the control plane and looks at the host. What both looked at, the control plane knows better.
func (c *cli) examine(ctx context.Context, k *api.Client) ([]controlplane.Finding, error) {
	cfg, err := c.load(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	inside, err := k.Doctor(ctx)
	self := controlplane.Finding{Level: "ok", Check: "control plane", Message: "answers at " + cfg.Paths().ControlSocket()}
	if err != nil {
		e := controlplane.AsError(err)
		self = controlplane.Finding{Level: "error", Check: self.Check, Message: e.Message, Fix: e.Hint}
		if e.Kind == controlplane.TimedOut {
			self.Fix = "kill -QUIT its pid for a trace into its log, then restart it: chat goes on meanwhile"
		}
	}
	findings := []controlplane.Finding{self}
	for _, f := range doctor.Host(cfg, err == nil) {
		if !slices.ContainsFunc(inside, func(g controlplane.Finding) bool { return g.Check == f.Check }) {
			findings = append(findings, f)
		}
	}
	return append(findings, inside...), nil
}

// printFindings gives each its own lines: messages and commands are there to be read and copied whole.
func (c *cli) printFindings(findings []controlplane.Finding) {
	for _, f := range findings {
		if c.quiet && f.Level == "ok" {
			continue
		}
		fmt.Fprintf(c.out, "%s  %s  %s\n", c.paint(cells.FillRight(f.Level, 7)), cells.FillRight(clean(f.Check), 15), clean(f.Message))
		if f.Fix != "" {
			fmt.Fprintf(c.out, "%s  fix: %s\n", cells.FillRight("", 7), clean(f.Fix))
		}
	}
}
