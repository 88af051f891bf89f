package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
)

// errChanges ends a dry run or a diff that found something to change: exit code 10, nothing said.
var errChanges = controlplane.Errorf(controlplane.Changes, "there are changes")

// run executes one command line and returns the exit code. The first SIGINT or SIGTERM ends the command in good order.
func run(args []string, in *os.File, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := newCLI(in, out, errOut)
	root := newRoot(c)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(c.out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if lost := c.lost.err; lost != nil && (err == nil || err == errChanges) {
		err = controlplane.Errorf(controlplane.Failed, "cannot write the output: %v", lost)
	}
	if err == nil {
		return 0
	}
	return c.fail(err)
}

// fail prints an error in the house's voice and returns its exit code.
func (c *cli) fail(err error) int {
	e := controlplane.AsError(err)
	if e == errChanges {
		return e.Kind.ExitCode()
	}
	for i, line := range strings.Split(strings.TrimRight(e.Message, "\n"), "\n") {
		if i == 0 {
			line = "kmsctl: error: " + line
		}
		fmt.Fprintln(c.err, clean(line))
	}
	hint := e.Hint
	if hint == "" && e.Kind == controlplane.Usage && c.command != "" {
		hint = c.command + " --help"
	}
	if hint != "" {
		fmt.Fprintf(c.err, "kmsctl: hint: %s\n", clean(hint))
	}
	return e.Kind.ExitCode()
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "kmsctl",
		Short: "Deploy and run versions of the KMS chat service",
		Long: `kmsctl deploys, lists, rolls back and retires versions of the KMS chat service, and manages tenants, channels,
NG words, IRC links and nginx. It talks to the control plane of this host over a unix socket.

Exit codes: 0 done, 1 failed, 2 usage, 3 timed out and still running, 4 not allowed, 5 lease held by another,
6 in use, 7 unhealthy and the old build kept, 8 not found, 10 a plan or diff has changes.`,
		Example: `  kmsctl up                         bring up a whole KMS on this machine
  kmsctl deploy ./kms-2.0           deploy a build
  kmsctl list                       what is live
  kmsctl rollback 2.0               go back to the build before`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: c.prepare,
		Args:              cobra.ArbitraryArgs,
		RunE:              groupRun,
	}
	root.SetFlagErrorFunc(flagError)
	c.globalFlags(root)
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "release", Title: "Release:"},
		&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "manage", Title: "Manage:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("run", newUp(c), newServer(c), newDoctor(c), newConfig(c))
	add("release", newDeploy(c), newRollback(c), newPin(c), newUnpin(c), newPins(c), newCanary(c), newDrain(c), newDeprecate(c), newRetire(c), newBuild(c), newHistory(c), newShow(c), newAttach(c))
	add("look", newList(c), newStatus(c), newLogs(c), newEvents(c), newConn(c), newAudit(c))
	add("manage", newTenant(c), newKey(c), newToken(c), newChannel(c), newNGWord(c), newIRC(c), newNginx(c), newBackup(c), newRestore(c))
	root.AddCommand(newCompletion(), newVersion(c))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", tableWidth-1)))
	fillHelp(root)
	return root
}

// fillHelp breaks the long texts of all commands into lines of a terminal.
func fillHelp(cmd *cobra.Command) {
	paragraphs := strings.Split(cmd.Long, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = fill(p, tableWidth-1)
	}
	cmd.Long = strings.Join(paragraphs, "\n\n")
	for _, sub := range cmd.Commands() {
		fillHelp(sub)
	}
}

func flagError(cmd *cobra.Command, err error) error {
	return controlplane.Errorf(controlplane.Usage, "%v", err).WithHint("%s --help", cmd.CommandPath())
}

// group makes a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: groupRun}
	g.AddCommand(commands...)
	return g
}

// groupRun shows help, or names what was probably meant by an unknown word.
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	e := controlplane.Errorf(controlplane.Usage, "unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return e.WithHint("%s %s", cmd.CommandPath(), near[0])
	}
	return e.WithHint("%s --help", cmd.CommandPath())
}

// args checks the number of arguments and says which are wanted.
func args(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) >= low && (high < 0 || len(got) <= high) {
			return nil
		}
		return controlplane.Errorf(controlplane.Usage, "want %s", strings.TrimSuffix(cmd.UseLine(), " [flags]")).WithHint("%s --help", cmd.CommandPath())
	}
}
