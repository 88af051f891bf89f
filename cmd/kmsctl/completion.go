package main

import (
	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script for bash, zsh or fish",
		Long:  `Completion knows the names that live at the moment: versions, builds, tenants, channels, links.`,
		Example: `  source <(kmsctl completion bash)
  kmsctl completion zsh > "${fpath[1]}/_kmsctl"
  kmsctl completion fish > ~/.config/fish/completions/kmsctl.fish`,
		Args:      args(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return controlplane.Errorf(controlplane.Usage, "bad shell %q: want bash, zsh or fish", args[0])
		},
	}
}
