package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

func newBackup(c *cli) *cobra.Command {
	return c.change(&cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the shared database to a file of this host, while all runs",
		Long:  `Backup makes an online copy, mode 0600. Of MySQL it is what mariadb-dump prints.`,
		Example: `  kmsctl backup kms-$(date +%F).db
  kmsctl backup /backup/kms.db --message nightly`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			file, err := absolute(args[0])
			if err != nil {
				return err
			}
			if err := k.Backup(ctx, file); err != nil {
				return err
			}
			if c.quiet {
				fmt.Fprintln(c.out, clean(file))
			}
			c.say("backup written to %s; to go back to it: kmsctl restore %s", file, file)
			return nil
		}),
	})
}

func newRestore(c *cli) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the shared database by a backup",
		Long: `Restore closes all connections with an announced close, replaces the shared database, changes the epochs of all channels
and starts the sets again. What was said after the backup is gone, and 2.0 clients learn so.`,
		Example: `  kmsctl restore kms-2026-11-20.db --dry-run
  kmsctl restore kms-2026-11-20.db --yes --message 'wrong tenant removed'`,
		Args: args(1, 1),
		RunE: c.with(func(ctx context.Context, k *api.Client, args []string) error {
			file, err := absolute(args[0])
			if err != nil {
				return err
			}
			if dryRun {
				plan, err := k.RestorePlan(ctx, file)
				if err != nil {
					return err
				}
				return c.plan(plan)
			}
			if err := c.confirm(ctx, "replace the shared database by %s and restart everything", file); err != nil {
				return err
			}
			if err := k.Restore(ctx, file); err != nil {
				return err
			}
			c.say("restored from %s; all channels have new epochs", file)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done; exit code 10 when something would")
	return c.destructive(cmd)
}

// absolute makes a path mean the same to the control plane, whose directory is another.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", controlplane.Errorf(controlplane.Failed, "cannot find %q: %v", path, err)
	}
	return abs, nil
}
