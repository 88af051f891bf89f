package main

import (
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
	"github.com/kmsctl/kms/controlplane/daemon"
	"github.com/kmsctl/kms/templates"
)

func newServer(c *cli) *cobra.Command {
	var printUnit bool
	cmd := settings(&cobra.Command{
		Use:   "server",
		Short: "Run the control plane of a production host",
		Long: `Server runs the control plane in the foreground, for systemd. Versions, nginx and IRC outlive it: the next server adopts
them. --nginx-run system leaves nginx to the system, --irc-run none leaves the bus to links that were added.`,
		Example: `  kmsctl server --home /var/lib/kms --run /run/kms
  kmsctl server --config /etc/kms/kms.yaml
  kmsctl server --home /var/lib/kms --print-unit > kms.service`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printUnit {
				return c.printUnit(cmd, c.out)
			}
			return c.runDaemon(cmd, daemon.Options{})
		},
	})
	cmd.Flags().BoolVar(&printUnit, "print-unit", false, "print a systemd unit for this home instead, and end")
	return cmd
}

// printUnit renders the systemd unit for this program, user and home.
func (c *cli) printUnit(cmd *cobra.Command, out io.Writer) error {
	cfg, err := c.loadFor(cmd)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot find this program: %v", err)
	}
	me, err := user.Current()
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot tell who runs this: %v", err)
	}
	words := c.serverWords(cmd, program, cfg)
	for _, word := range words {
		if strings.ContainsAny(word, " \t%\"'\\") {
			return controlplane.Errorf(controlplane.Usage, "cannot write a unit with %q: systemd would read blanks, quotes and %% otherwise", word)
		}
	}
	unit, err := template.ParseFS(templates.FS, "systemd/kms.service.tmpl")
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "internal error: %v", err)
	}
	if err := unit.Execute(out, map[string]string{"User": me.Username, "Command": strings.Join(words, " ")}); err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot write unit: %v", err)
	}
	return nil
}

// serverWords is the command that the unit runs: this program with the settings it was given now.
func (c *cli) serverWords(cmd *cobra.Command, program string, cfg *config.Config) []string {
	words := []string{program, "server", "--home", cfg.Paths().State}
	if c.config != "" {
		file, err := filepath.Abs(c.config)
		if err != nil {
			file = c.config
		}
		words = append(words, "--config", file)
	}
	for _, key := range config.Keys() {
		if flag := cmd.Flags().Lookup(flagOf(key)); key != "home" && flag != nil && flag.Changed {
			words = append(words, "--"+flag.Name, flag.Value.String())
		}
	}
	return words
}
