package main

import (
	"fmt"
	"io"

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

// nextCommands are the five worth typing first. They name this home, unless it is the default one.
func (c *cli) nextCommands(st *controlplane.Status) []string {
	kmsctl := "kmsctl"
	if c.home != "" {
		kmsctl += " --home " + c.home
	}
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
