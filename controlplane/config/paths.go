package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// maxRun bounds the run directory in bytes: go-plugin's own socket directories below it (/p/<set>) may have 69 bytes at
// most, since a unix socket's path ends at 107.
const maxRun = 69 - len("/p/s12345678")

// Paths are the places of a host. All are absolute.
type Paths struct {
	State string
	Run   string
	Moved bool // Run is not below State because its path would be too long for sockets
}

// Paths derives the places from home and run. It depends on nothing else, so that every command finds the same socket.
func (c *Config) Paths() Paths {
	state, err := filepath.Abs(c.String("home"))
	if err != nil {
		state = c.String("home")
	}
	if run := c.String("run"); run != "" {
		abs, err := filepath.Abs(run)
		if err == nil && len(abs) <= maxRun {
			return Paths{State: state, Run: abs}
		}
		return Paths{State: state, Run: shortRun(abs), Moved: true}
	}
	if run := filepath.Join(state, "run"); len(run) <= maxRun {
		return Paths{State: state, Run: run}
	}
	return Paths{State: state, Run: shortRun(state), Moved: true}
}

// shortRun names a directory of this user in /tmp after the path it stands for.
func shortRun(path string) string {
	sum := sha256.Sum256([]byte(path))
	return fmt.Sprintf("/tmp/kms-%d-%s", os.Getuid(), hex.EncodeToString(sum[:5]))
}

func (p Paths) ControlSocket() string         { return filepath.Join(p.Run, "kms.sock") }
func (p Paths) Lock() string                  { return filepath.Join(p.State, "lock") }
func (p Paths) HostDB() string                { return filepath.Join(p.State, "host.db") }
func (p Paths) Artifacts() string             { return filepath.Join(p.State, "artifacts") }
func (p Paths) Artifact(digest string) string { return filepath.Join(p.Artifacts(), digest) }
func (p Paths) Nginx() string                 { return filepath.Join(p.State, "nginx") }
func (p Paths) IRC() string                   { return filepath.Join(p.State, "irc") }
func (p Paths) Log(parts ...string) string {
	return filepath.Join(append([]string{p.State, "logs"}, parts...)...) + ".log"
}
func (p Paths) SetDir(set string) string       { return filepath.Join(p.Run, "i", set) }
func (p Paths) Socket(set, role string) string { return filepath.Join(p.SetDir(set), role+".sock") }
func (p Paths) PluginDir(set string) string    { return filepath.Join(p.Run, "p", set) }
func (p Paths) Slots() string                  { return filepath.Join(p.Run, "slots") }
func (p Paths) Routes() string                 { return filepath.Join(p.Run, "r") }
