package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/config"
)

// cli is what every command shares: the streams, the global flags and the connection.
type cli struct {
	in       *os.File
	out, err io.Writer
	lost     *keepError
	inTTY    bool
	outTTY   bool
	errTTY   bool
	color    bool

	output  string
	quiet   bool
	home    string
	config  string
	message string
	yes     bool
	timeout time.Duration

	command string // path of the command that runs, for hints
	client  *api.Client
	now     func() time.Time
}

func newCLI(in *os.File, out, errOut io.Writer) *cli {
	c := &cli{in: in, out: out, err: errOut, now: time.Now}
	c.inTTY, c.outTTY, c.errTTY = isTerminal(in), isTerminal(out), isTerminal(errOut)
	c.lost = &keepError{w: out}
	c.out = c.lost
	c.color = wantsColor(c.outTTY, os.Getenv)
	return c
}

// keepError remembers the first failed write, so that a full disk behind `> file` does not end with exit code 0.
type keepError struct {
	w   io.Writer
	err error
}

func (k *keepError) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	if err != nil && k.err == nil {
		k.err = err
	}
	return n, err
}

// wantsColor follows no-color.org.
func wantsColor(tty bool, getenv func(string) string) bool {
	return tty && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

var formats = []string{"table", "wide", "json", "yaml"}

func (c *cli) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&c.output, "output", "o", "table", "output: table, wide, json or yaml")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print only what a script needs: names, made secrets")
	f.StringVar(&c.home, "home", "", "directory of the state (KMS_HOME; default ./var)")
	f.StringVar(&c.config, "config", "", "configuration file (KMS_CONFIG)")
	f.DurationVar(&c.timeout, "timeout", 0, "give up waiting after this long, as 90s (exit code 3)")
	complete(root, "output", formats...)
}

// prepare runs before every command.
func (c *cli) prepare(cmd *cobra.Command, _ []string) error {
	c.command = cmd.CommandPath()
	if !slices.Contains(formats, c.output) {
		return controlplane.Errorf(controlplane.Usage, "bad --output %q: want one of %s", c.output, strings.Join(formats, ", "))
	}
	if c.timeout < 0 {
		return controlplane.Errorf(controlplane.Usage, "bad --timeout %s: want more than 0", c.timeout)
	}
	if c.config == "" {
		c.config = os.Getenv("KMS_CONFIG")
	}
	if c.timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
		context.AfterFunc(ctx, cancel)
		cmd.SetContext(ctx)
	}
	return nil
}

// load reads the settings, with the flags of `up` and its like.
func (c *cli) load(flags map[string]string) (*config.Config, error) {
	all := map[string]string{}
	for name, value := range flags {
		all[name] = value
	}
	if c.home != "" {
		all["home"] = c.home
	}
	cfg, err := config.Load(c.config, os.Environ(), all)
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Usage, "%v", err).WithHint("kmsctl config show --help")
	}
	return cfg, nil
}

// api returns the client of this host's control plane. It does not connect yet.
func (c *cli) api() (*api.Client, error) {
	if c.client == nil {
		cfg, err := c.load(nil)
		if err != nil {
			return nil, err
		}
		c.client = api.Dial(cfg.Paths().ControlSocket())
		c.client.Message = c.message
	}
	return c.client, nil
}

// with makes the RunE of a command that needs the control plane.
func (c *cli) with(do func(ctx context.Context, k *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		k, err := c.api()
		if err != nil {
			return err
		}
		defer k.Close()
		return do(cmd.Context(), k, args)
	}
}

// say tells a person what was done; scripts that want none of it use --quiet or a format for programs.
func (c *cli) say(format string, args ...any) {
	if !c.quiet && !c.forPrograms() {
		fmt.Fprintln(c.out, clean(fmt.Sprintf(format, args...)))
	}
}

// note tells what is going on, on stderr.
func (c *cli) note(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintln(c.err, clean(fmt.Sprintf(format, args...)))
	}
}

func (c *cli) forPrograms() bool { return c.output == "json" || c.output == "yaml" }

// change adds the flag that every command with an entry in the audit trail has.
func (c *cli) change(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&c.message, "message", "m", "", "why, for the audit trail")
	return cmd
}

// destructive adds --yes on top of change.
func (c *cli) destructive(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do it without asking")
	return c.change(cmd)
}
