package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/store"
)

// binaryVersion is set by the linker: -ldflags "-X main.binaryVersion=1.2.3".
var binaryVersion = ""

// versionInfo is what `kmsctl version` tells.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Contract int    `json:"contract"`
	Schema   int    `json:"schema"`
}

func thisVersion() versionInfo {
	v := versionInfo{Version: binaryVersion, Go: runtime.Version(), Contract: plugin.Contract, Schema: store.Schema}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = short(s.Value)
		}
	}
	return v
}

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of kmsctl, its plugin contract and its schema",
		Example: "  kmsctl version -o json",
		Args:    args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			if c.forPrograms() {
				return c.encode(v)
			}
			if c.quiet {
				fmt.Fprintln(c.out, v.Version)
				return nil
			}
			fmt.Fprintf(c.out, "kmsctl %s, %s, plugin contract %d, schema %d\n", dash(v.Version), v.Go, v.Contract, v.Schema)
			return nil
		},
	}
}
