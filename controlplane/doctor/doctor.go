// Package doctor looks at a host from outside the control plane, so that it can say what keeps one from starting: directories,
// the socket, programs, ports, limits and disk. Each finding that is not ok names the command that mends it.
package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

const (
	enoughFiles = 65536     // descriptors: a client is one in nginx twice and one in a UA process
	fewFiles    = 4096      // below this even a small game hits the limit
	enoughDisk  = 2 << 30   // bytes
	littleDisk  = 200 << 20 // bytes: a commit or two from full
)

// Host looks at everything that the settings ask of this host. With running, a control plane answers on this home, and ports in
// use are its own.
func Host(cfg *config.Config, running bool) []controlplane.Finding {
	p := cfg.Paths()
	found := []controlplane.Finding{home(p.State), runDir(p), program("nginx", cfg.String("nginx.program"), "apt-get install nginx")}
	var ports []string
	if cfg.String("nginx.run") == "child" {
		ports = append(ports, "http", "https")
	}
	if cfg.String("irc.run") == "child" {
		found = append(found, ircd(cfg.String("irc.kind")))
		ports = append(ports, "irc.listen")
	}
	if !running {
		for _, key := range ports {
			found = append(found, port(key, cfg.String(key)))
		}
	}
	return append(found, files(), disk(p.State))
}

func ok(check, format string, args ...any) controlplane.Finding {
	return controlplane.Finding{Level: "ok", Check: check, Message: fmt.Sprintf(format, args...)}
}

func bad(level, check, fix, format string, args ...any) controlplane.Finding {
	return controlplane.Finding{Level: level, Check: check, Message: fmt.Sprintf(format, args...), Fix: fix}
}

func home(dir string) controlplane.Finding {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("warning", "home", "kmsctl up --home "+dir, "%s is not there yet", dir)
	case err != nil:
		return bad("error", "home", "ls -ld "+dir, "cannot look at %s: %v", dir, err)
	case !info.IsDir():
		return bad("error", "home", "kmsctl up --home OTHER", "%s is no directory", dir)
	case unix.Access(dir, unix.W_OK|unix.X_OK) != nil:
		return bad("error", "home", "chown -R $(id -un) "+dir, "%s cannot be written by this user", dir)
	case info.Mode().Perm()&0o007 != 0:
		return bad("warning", "home", "chmod o-rwx "+dir, "%s is open to every user of this host", dir)
	}
	return ok("home", "%s", dir)
}

func runDir(p config.Paths) controlplane.Finding {
	if p.Moved {
		return bad("warning", "run", "kmsctl up --run /run/kms", "the run directory would be too long for sockets: it is %s", p.Run)
	}
	return ok("run", "%s", p.Run)
}

// systemDirs are where programs of the system sit that PATH may leave out.
var systemDirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

func find(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range systemDirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil && !filepath.IsAbs(name) {
			return path, true
		}
	}
	return "", false
}

func program(check, name, fix string) controlplane.Finding {
	if path, there := find(name); there {
		return ok(check, "%s", path)
	}
	return bad("error", check, fix, "no program %q", name)
}

func ircd(kind string) controlplane.Finding {
	if kind != "" {
		return program("irc server", kind, "apt-get install "+kind)
	}
	for _, name := range []string{"inspircd", "ngircd"} {
		if path, there := find(name); there {
			return ok("irc server", "%s", path)
		}
	}
	return bad("error", "irc server", "apt-get install inspircd", "neither inspircd nor ngircd is installed")
}

func port(key, address string) controlplane.Finding {
	check := "port " + key
	l, err := net.Listen("tcp", address)
	if err != nil {
		_, number, _ := net.SplitHostPort(address)
		return bad("error", check, "ss -ltnp 'sport = :"+number+"'", "cannot listen on %s: %v", address, errors.Unwrap(err))
	}
	l.Close()
	return ok(check, "%s is free", address)
}

func files() controlplane.Finding {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return bad("warning", "open files", "ulimit -n", "cannot read the limit: %v", err)
	}
	switch {
	case limit.Max < fewFiles:
		return bad("error", "open files", "ulimit -Hn 65536", "at most %d open files a process", limit.Max)
	case limit.Max < enoughFiles:
		return bad("warning", "open files", "ulimit -Hn 65536", "at most %d open files a process: about as many clients", limit.Max)
	}
	return ok("open files", "at most %d a process", limit.Max)
}

// disk looks at the file system that holds dir, or would hold it.
func disk(dir string) controlplane.Finding {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return bad("warning", "disk", "df -h "+dir, "cannot look at the file system of %s: %v", dir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	text := fmt.Sprintf("%d MiB free at %s", free>>20, dir)
	switch {
	case free < littleDisk:
		return bad("error", "disk", "df -h "+dir, "%s", text)
	case free < enoughDisk:
		return bad("warning", "disk", "df -h "+dir, "%s", text)
	}
	return ok("disk", "%s", text)
}
