package main

import (
	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/daemon"
)

func newUp(c *cli) *cobra.Command {
	cmd := settings(&cobra.Command{
		Use:   "up",
		Short: "Bring up a whole KMS on this machine, in the foreground",
		Long: `Up runs the control plane with a supervised nginx and IRC server, deploys the builds it finds beside kmsctl, and makes the
tenant demo. Ctrl-C stops all of it; the next up finds everything as it was left.`,
		Example: `  kmsctl up
  kmsctl up --home ./var --http 127.0.0.1:9080
  KMS_STORE=mysql://kms:secret@127.0.0.1:3306/kms kmsctl up`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runDaemon(cmd, daemon.Options{Laptop: true, Ready: c.tellReady, Progress: func(text string) { c.note("%s", text) }})
		},
	})
	return cmd
}

// daemon runs the control plane until a signal comes.
func (c *cli) runDaemon(cmd *cobra.Command, o daemon.Options) error {
	cfg, err := c.loadFor(cmd)
	if err != nil {
		return err
	}
	if err := daemon.CheckPorts(cfg); err != nil {
		return err
	}
	log, done := c.daemonLogger(cfg)
	defer done()
	o.Config, o.Version, o.Log = cfg, thisVersion().Version, log
	return daemon.Run(cmd.Context(), o)
}

// tellReady ends the start of up: what runs where, the chat page, and what to type next.
func (c *cli) tellReady(st *controlplane.Status) {
	if c.quiet {
		return
	}
	if c.forPrograms() {
		c.encodeLine(st)
		return
	}
	if err := c.printReady(c.out, st); err != nil {
		c.note("%v", err)
	}
}
