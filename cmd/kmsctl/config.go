package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane/config"
)

func newConfig(c *cli) *cobra.Command {
	return group("config", "Show settings and places", `  kmsctl config show
  kmsctl config path`, newConfigShow(c), newConfigPath(c))
}

func newConfigShow(c *cli) *cobra.Command {
	return settings(&cobra.Command{
		Use:   "show",
		Short: "Show every setting, its value and where it comes from",
		Long:  `A configuration file, then KMS_* variables, then flags override the defaults. Passwords are left out.`,
		Example: `  kmsctl config show
  kmsctl config show --config kms.yaml -o wide
  KMS_NGINX_WORKERS=4 kmsctl config show`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadFor(cmd)
			if err != nil {
				return err
			}
			list := cfg.Settings()
			t := table{data: list, columns: []column{{title: "SETTING"}, {title: "VALUE", flex: true}, {title: "SOURCE", flex: true}, {title: "MEANING", wide: true}}}
			for _, s := range list {
				t.rows = append(t.rows, []string{s.Key, dash(s.Value), s.Source, s.Meaning})
			}
			return c.print(t)
		},
	})
}

// places are the paths of a host as `config path` prints them.
type places struct {
	Config  string `json:"config,omitempty"`
	State   string `json:"state"`
	Run     string `json:"run"`
	Socket  string `json:"socket"`
	HostDB  string `json:"host_db"`
	Nginx   string `json:"nginx"`
	IRC     string `json:"irc"`
	Logs    string `json:"logs"`
	Objects string `json:"artifacts"`
}

func newConfigPath(c *cli) *cobra.Command {
	return settings(&cobra.Command{
		Use:   "path",
		Short: "Show where things are",
		Example: `  kmsctl config path
  curl --unix-socket "$(kmsctl config path --quiet)" http://kms/v1/status`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.loadFor(cmd)
			if err != nil {
				return err
			}
			p := c.places(cfg)
			if c.forPrograms() {
				return c.encode(p)
			}
			if c.quiet {
				fmt.Fprintln(c.out, clean(p.Socket))
				return nil
			}
			for _, line := range [][2]string{{"config", p.Config}, {"state", p.State}, {"run", p.Run}, {"socket", p.Socket}, {"host db", p.HostDB},
				{"artifacts", p.Objects}, {"logs", p.Logs}, {"nginx", p.Nginx}, {"irc", p.IRC}} {
				fmt.Fprintf(c.out, "%-10s %s\n", line[0], clean(dash(line[1])))
			}
			return nil
		},
	})
}

func (c *cli) places(cfg *config.Config) places {
	p := cfg.Paths()
	return places{Config: c.config, State: p.State, Run: p.Run, Socket: p.ControlSocket(), HostDB: p.HostDB(), Nginx: p.Nginx(), IRC: p.IRC(),
		Logs: p.State + "/logs", Objects: p.Artifacts()}
}
