package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/irclink"
)

func newIRCConfig(c *cli) *cobra.Command {
	var r ircConfig
	cmd := &cobra.Command{
		Use:   "config inspircd|ngircd --servers NAME=HOST:PORT,…",
		Short: "Write the configurations of a linked network of IRC servers",
		Long: `Config writes, for each server, NAME.conf and NAME.service.conf, a drop-in for its systemd unit, and the passwords: of clients into the
file password, between servers into link-password. All files are 0600. Passwords that are in the directory already are kept, so that
the same command with one server more grows a network. Without --dir all of it goes to stdout, secrets included.`,
		Example: `  kmsctl irc config inspircd --servers a=10.0.0.1:6667,b=10.0.0.2:6667 --dir net
  kmsctl irc config ngircd --servers a=10.0.0.1:6667,b=10.0.0.2:6667
  kmsctl irc link add prod --server 10.0.0.1:6667 --password-stdin <net/password`,
		Args: args(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			r.network.Kind = args[0]
			return r.write(c)
		},
		ValidArgs: []string{"inspircd", "ngircd"},
	}
	f := cmd.Flags()
	f.StringSliceVar(&r.servers, "servers", nil, "the network's servers and where clients reach them; the host is an IP address")
	f.StringVar(&r.dir, "dir", "", "directory to write to (default: stdout)")
	f.IntVar(&r.network.LinkOffset, "link-offset", 1000, "servers meet that many ports above the one for clients")
	f.StringVar(&r.tls.Cert, "tls-cert", "", "certificate on the servers' hosts, an absolute path; clients and links speak TLS only")
	f.StringVar(&r.tls.Key, "tls-key", "", "its key")
	f.StringVar(&r.network.LogDir, "log-dir", "", "InspIRCd's log directory on the servers' hosts (default /var/log/inspircd)")
	return cmd
}

type ircConfig struct {
	network irclink.Network
	servers []string
	dir     string
	tls     irclink.TLS
}

// write makes all files before it writes the first.
func (r *ircConfig) write(c *cli) error {
	if err := r.fill(); err != nil {
		return err
	}
	files, err := r.network.Configure()
	if err != nil {
		return controlplane.Errorf(controlplane.Usage, "%v", err).WithHint("kmsctl irc config --help")
	}
	var all []ircFile
	for _, f := range files {
		all = append(all, ircFile{Name: f.Name + ".conf", Text: string(f.Config)}, ircFile{Name: f.Name + ".service.conf", Text: string(f.Unit)})
	}
	all = append(all, ircFile{Name: passwordFile, Text: r.network.Password + "\n"})
	if len(files) > 1 {
		all = append(all, ircFile{Name: linkPasswordFile, Text: r.network.LinkPassword + "\n"})
	}
	if r.dir == "" {
		return c.showFiles(all)
	}
	for _, f := range all {
		path := filepath.Join(r.dir, f.Name)
		if err := renameio.WriteFile(path, []byte(f.Text), 0o600); err != nil {
			return controlplane.Errorf(controlplane.Failed, "cannot write %q: %v", path, err)
		}
		if c.quiet {
			fmt.Fprintln(c.out, path)
		}
	}
	c.say("%s written to %s", plural(len(files), "server's configuration", "servers' configurations"), r.dir)
	c.note("next: docs/irc.md; the password for kmsctl irc link add --password-stdin is in %s", filepath.Join(r.dir, passwordFile))
	return nil
}

const (
	passwordFile     = "password"
	linkPasswordFile = "link-password"
)

type ircFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// fill takes the flags over, and passwords from the directory or makes them.
func (r *ircConfig) fill() error {
	for _, text := range r.servers {
		s, err := irclink.ParseServer(text)
		if err != nil {
			return controlplane.Errorf(controlplane.Usage, "%v", err)
		}
		r.network.Servers = append(r.network.Servers, s)
	}
	if (r.tls.Cert == "") != (r.tls.Key == "") {
		return controlplane.Errorf(controlplane.Usage, "--tls-cert and --tls-key go together")
	}
	if r.tls.Cert != "" {
		r.network.TLS = &r.tls
	}
	if r.network.LogDir == "" {
		r.network.LogDir = "/var/log/inspircd"
	}
	if r.dir != "" {
		if err := os.MkdirAll(r.dir, 0o700); err != nil {
			return controlplane.Errorf(controlplane.Failed, "cannot make directory %q: %v", r.dir, err)
		}
	}
	var err error
	if r.network.Password, err = r.password(passwordFile); err != nil {
		return err
	}
	r.network.LinkPassword, err = r.password(linkPasswordFile)
	return err
}

// password is what the directory has, or a new one.
func (r *ircConfig) password(file string) (string, error) {
	if r.dir == "" {
		return irclink.NewPassword(), nil
	}
	text, err := os.ReadFile(filepath.Join(r.dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return irclink.NewPassword(), nil
	}
	if err != nil {
		return "", controlplane.Errorf(controlplane.Failed, "cannot read password: %v", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// showFiles prints files one after the other.
func (c *cli) showFiles(files []ircFile) error {
	if c.forPrograms() {
		return c.encode(files)
	}
	for _, f := range files {
		fmt.Fprintf(c.out, "# ---- %s\n%s\n", f.Name, strings.TrimRight(f.Text, "\n"))
	}
	return nil
}
