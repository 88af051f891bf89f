package nginx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/names"
)

// linkGrace is how long a link that is no longer wanted stays, pointing at the stable set: nginx picks a link before it has
// read a request's body, and a link that vanished meanwhile is a 502.
const linkGrace = 10 * time.Minute

// Route says which set directory serves whom of a version.
type Route struct {
	Stable  string            // directory of the set that serves
	Pins    map[string]string // tenant -> set directory
	Buckets map[int]string    // share 0..99 -> set directory
}

// Router keeps the slots: one link per version, each to a routing directory.
type Router struct {
	slots string
	dirs  string
	now   func() time.Time
}

// NewRouter makes the directories below run.
func NewRouter(run string) (*Router, error) {
	r := &Router{slots: filepath.Join(run, "slots"), dirs: filepath.Join(run, "r"), now: time.Now}
	for _, dir := range []string{r.slots, r.dirs} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("cannot make %q: %v", dir, err)
		}
	}
	return r, nil
}

// Swap makes the version's slot lead to a new routing directory, in one rename; nginx needs no reload for it. It tells how long the
// rename took.
func (r *Router) Swap(version string, route Route) (renamed time.Duration, err error) {
	if err := names.Version(version); err != nil {
		return 0, err
	}
	slot := filepath.Join(r.slots, version)
	current, _ := os.Readlink(slot)
	dir, err := r.nextDir(version)
	if err != nil {
		return 0, err
	}
	if err := r.fill(dir, route, r.fading(current, route)); err != nil {
		os.RemoveAll(dir)
		return 0, fmt.Errorf("cannot build routing directory %q: %v", dir, err)
	}
	beside := filepath.Join(r.dirs, version, "next") // of one who was killed in between it may be there
	if err := errors.Join(remove(beside), os.Symlink(dir, beside)); err != nil {
		return 0, fmt.Errorf("cannot swap slot %q: %v", version, err)
	}
	began := time.Now()
	if err := os.Rename(beside, slot); err != nil {
		return 0, fmt.Errorf("cannot swap slot %q: %v", version, err)
	}
	renamed = time.Since(began)
	r.prune(version, dir, current)
	return renamed, nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Remove takes the slot away; requests for the version are answered from the map by then.
func (r *Router) Remove(version string) error {
	if err := names.Version(version); err != nil {
		return err
	}
	if err := remove(filepath.Join(r.slots, version)); err != nil {
		return fmt.Errorf("cannot remove slot %q: %v", version, err)
	}
	return os.RemoveAll(filepath.Join(r.dirs, version))
}

// Stable returns the set directory that the version's slot leads to, empty when there is none.
func (r *Router) Stable(version string) string {
	target, _ := os.Readlink(filepath.Join(r.slots, version, "s"))
	return target
}

// nextDir makes an empty directory with the next number.
func (r *Router) nextDir(version string) (string, error) {
	parent := filepath.Join(r.dirs, version)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return "", fmt.Errorf("cannot make %q: %v", parent, err)
	}
	last := 0
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > last {
			last = n
		}
	}
	dir := filepath.Join(parent, strconv.Itoa(last+1))
	return dir, os.Mkdir(dir, 0o750)
}

// fading lists links of the current directory that the new route does not want, with the time since when.
func (r *Router) fading(current string, route Route) map[string]time.Time {
	out := map[string]time.Time{}
	if current == "" {
		return out
	}
	known := map[string]time.Time{}
	if text, err := os.ReadFile(filepath.Join(current, "fading.json")); err == nil {
		// A damaged file only costs the links their age.
		_ = json.Unmarshal(text, &known)
	}
	wanted := links(route)
	for _, kind := range []string{"t", "b"} {
		entries, _ := os.ReadDir(filepath.Join(current, kind))
		for _, e := range entries {
			name := filepath.Join(kind, e.Name())
			if _, ok := wanted[name]; ok {
				continue
			}
			since, ok := known[name]
			if !ok {
				since = r.now()
			}
			if r.now().Sub(since) < linkGrace {
				out[name] = since
			}
		}
	}
	return out
}

// links are the paths below a routing directory and where they lead.
func links(route Route) map[string]string {
	out := map[string]string{"s": route.Stable}
	for tenant, dir := range route.Pins {
		out[filepath.Join("t", tenant)] = dir
	}
	for n, dir := range route.Buckets {
		out[filepath.Join("b", fmt.Sprintf("%02d", n))] = dir
	}
	return out
}

func (r *Router) fill(dir string, route Route, fading map[string]time.Time) error {
	for _, kind := range []string{"t", "b"} {
		if err := os.Mkdir(filepath.Join(dir, kind), 0o750); err != nil {
			return err
		}
	}
	for tenant := range route.Pins {
		if err := names.AnyTenant(tenant); err != nil {
			return err
		}
	}
	for name, target := range links(route) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name := range fading {
		if err := os.Symlink(route.Stable, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	text, err := json.Marshal(fading)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "fading.json"), text, 0o640)
}

// prune removes routing directories that no request can still be in: all but the current and the one before.
func (r *Router) prune(version string, keep ...string) {
	entries, _ := os.ReadDir(filepath.Join(r.dirs, version))
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		dir := filepath.Join(r.dirs, version, e.Name())
		if dir != keep[0] && dir != keep[1] {
			os.RemoveAll(dir)
		}
	}
}

// Enterable gives nginx's group the way into a directory of sockets.
func Enterable(dir string, gid int) error {
	if gid < 0 {
		return nil
	}
	if err := unix.Chown(dir, -1, gid); err != nil {
		return fmt.Errorf("cannot give group %d the way into %q: %v", gid, dir, err)
	}
	return nil
}

// Inheritable does the same for a directory and for what is made in it from now on.
func Inheritable(dir string, gid int) error {
	if gid < 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("cannot make %q: %v", dir, err)
	}
	if err := Enterable(dir, gid); err != nil {
		return err
	}
	if err := unix.Chmod(dir, unix.S_ISGID|0o750); err != nil {
		return fmt.Errorf("cannot give group %d what is made in %q: %v", gid, dir, err)
	}
	return nil
}
