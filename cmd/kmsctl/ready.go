package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kmsctl/kms/controlplane"
)

// printReady ends the start of `up`: what runs where, the chat page, and the next commands worth typing.
func (c *cli) printReady(out io.Writer, st *controlplane.Status) error {
	t := table{columns: []column{{title: "WHAT", flex: true}, {title: "STATE"}, {title: "PID", right: true}, {title: "WHERE", flex: true}}}
	for _, p := range st.Components {
		t.rows = append(t.rows, []string{p.Name, p.State, pid(p.PID), dash(p.Address)})
	}
	for _, v := range st.Versions {
		for _, s := range v.Sets {
			for _, p := range s.Instances {
				t.rows = append(t.rows, []string{v.Name + " " + p.Role, string(p.State), pid(p.PID), p.Socket})
			}
		}
	}
	fmt.Fprintln(out)
	if err := c.draw(out, t); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if st.HTTP != "" {
		fmt.Fprintf(out, "chat page: %s/\n\n", st.HTTP)
	}
	fmt.Fprintln(out, "next, in another terminal:")
	for _, line := range c.nextCommands(st) {
		fmt.Fprintln(out, "  "+clean(line))
	}
	fmt.Fprintln(out, "\nCtrl-C stops all of it.")
	return nil
}

// nextCommands are the five worth typing first, such that they reach this control plane from the same directory.
func (c *cli) nextCommands(st *controlplane.Status) []string {
	kmsctl := c.again(st.Run)
	version := "2.0"
	if n := len(st.Versions); n > 0 {
		version = st.Versions[n-1].Name
	}
	return []string{
		kmsctl + " list",
		kmsctl + " status --watch",
		kmsctl + " logs " + version + " -f",
		kmsctl + " ngword add demo WORD --action mask",
		kmsctl + " rollback " + version + " --dry-run",
	}
}

// again is how this kmsctl was called, for another command on the same home.
func (c *cli) again(run string) string {
	words := []string{"kmsctl"}
	if strings.Contains(os.Args[0], "/") && filepath.Base(os.Args[0]) == "kmsctl" {
		words[0] = os.Args[0]
	}
	if home := cmp.Or(c.home, os.Getenv("KMS_HOME")); home != "" {
		words = append(words, "--home", home)
	}
	if c.config != "" {
		words = append(words, "--config", c.config)
	}
	if cfg, err := c.load(nil); err == nil && cfg.Paths().Run != run { // it came with --run
		words = append([]string{"KMS_RUN=" + run}, words...)
	}
	return strings.Join(words, " ")
}
