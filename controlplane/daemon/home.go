package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

// home is the state directory, held by one control plane at a time.
type home struct {
	config.Paths
	lock *os.File
}

// openHome makes the directories and takes the lock. The lock ends with the process, however it ends; the file names its
// holder for whoever is refused.
func openHome(p config.Paths) (*home, error) {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{ // parents first, or they would get a child's mode
		{p.State, 0o750}, {p.Artifacts(), 0o750}, {filepath.Join(p.State, "logs"), 0o750}, {p.IRC(), 0o700},
		{p.Run, 0o750}, {filepath.Join(p.Run, "i"), 0o750}, {filepath.Join(p.Run, "p"), 0o700},
	} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return nil, controlplane.Errorf(controlplane.Failed, "cannot make %q: %v", dir.path, errors.Unwrap(err)).
				WithHint("choose another directory: kmsctl up --home DIR")
		}
	}
	if err := ownedByUs(p.Run); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(p.Lock(), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Failed, "cannot open %q: %v", p.Lock(), err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(p.Lock())
		lock.Close()
		return nil, controlplane.Errorf(controlplane.Denied, "home %q is owned by a running control plane (pid %s)",
			p.State, strings.TrimSpace(string(holder))).
			WithHint("kmsctl --home %s status, or start another one: kmsctl up --home DIR", p.State)
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		lock.Close()
		return nil, controlplane.Errorf(controlplane.Failed, "cannot write %q: %v", p.Lock(), err)
	}
	removeLeftovers(p)
	return &home{p, lock}, nil
}

// CheckPorts refuses to begin a home whose addresses are taken, before anything of it is made. In one that is there, who listens may
// be ours.
func CheckPorts(cfg *config.Config) error {
	if _, err := os.Stat(cfg.Paths().State); err == nil {
		return nil
	}
	var settings []string
	if cfg.String("nginx.run") == "child" {
		settings = append(settings, "http", "https")
	}
	if cfg.String("irc.run") == "child" {
		settings = append(settings, "irc.listen")
	}
	for _, setting := range settings {
		if err := freePort(cfg, setting); err != nil {
			return err
		}
	}
	return nil
}

// removeLeftovers clears what a killed control plane was writing: uploads, and a client's file with the store's password.
func removeLeftovers(p config.Paths) {
	for _, pattern := range []string{filepath.Join(p.Artifacts(), uploadPattern), filepath.Join(p.State, clientPattern)} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			os.Remove(path)
		}
	}
}

// ownedByUs refuses a run directory that somebody else prepared: a short one lies in /tmp.
func ownedByUs(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot read %q: %v", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return controlplane.Errorf(controlplane.Denied, "run directory %q is not a directory of this user", dir).
			WithHint("choose another: kmsctl up --run DIR")
	}
	return nil
}

func (h *home) close() { h.lock.Close() }
