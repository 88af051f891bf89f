package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

// settings gives a command a flag for each setting: nginx.workers is --nginx-workers. --home is there already.
func settings(cmd *cobra.Command) *cobra.Command {
	for _, key := range config.Keys() {
		if key != "home" {
			cmd.Flags().String(flagOf(key), "", strings.ReplaceAll(config.Meaning(key), "`", "")) // pflag takes what is quoted for the value's name
		}
	}
	return cmd
}

func flagOf(key string) string { return strings.ReplaceAll(key, ".", "-") }

// loadFor reads the settings with the flags that were given to cmd. A password on the command line is refused without
// repeating it.
func (c *cli) loadFor(cmd *cobra.Command) (*config.Config, error) {
	given := map[string]string{}
	for _, key := range config.Keys() {
		if key == "home" || !cmd.Flags().Changed(flagOf(key)) {
			continue
		}
		value, err := cmd.Flags().GetString(flagOf(key))
		if err != nil {
			return nil, controlplane.Errorf(controlplane.Failed, "internal error: %v", err)
		}
		if key == "store" && mayHoldPassword(value) {
			return nil, controlplane.Errorf(controlplane.Usage, "cannot take a password on the command line, where every user of this host can read it").
				WithHint("put the URL into KMS_STORE, or as `store:` into a file of mode 0600 for --config")
		}
		given[key] = value
	}
	cfg, err := c.load(given)
	if err == nil {
		for _, name := range cfg.Strange() {
			c.note("kmsctl: warning: the variable %s names no setting; kmsctl config show lists them", name)
		}
	}
	return cfg, err
}

// mayHoldPassword also suspects a URL that cannot be parsed, as one whose password holds a bare % or #.
func mayHoldPassword(url string) bool {
	_, rest, found := strings.Cut(url, "://")
	if !found {
		rest = url
	}
	user, _, hasUser := strings.Cut(rest, "@")
	return config.HasPassword(url) || hasUser && strings.Contains(user, ":")
}
