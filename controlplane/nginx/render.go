// Package nginx renders nginx's configuration, moves versions between sets by swapping links, and reloads nginx only when a
// name is new or gone, verifying that every new worker answers with the new configuration.
package nginx

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/templates"
)

// Options say where nginx listens and keeps its files. Paths are absolute.
type Options struct {
	Program     string // path of the nginx binary
	Dir         string // generated files: <state>/nginx
	Run         string // <run>: slots and the check socket are below it
	AccessLog   string
	HTTP, HTTPS string // host:port
	Workers     int
	Connections int    // worker_connections
	User        string // "user" directive; only root can set it
}

// Version is one entry of the generated map.
type Version struct {
	Name    string
	Retired bool
	Message string // why it was retired

	Deprecation *controlplane.Deprecation // nil unless it will go away
}

// State is the word in the map.
func (v Version) State() string {
	if v.Retired {
		return "retired"
	}
	return "live"
}

var configuration = template.Must(template.ParseFS(templates.FS, "nginx/nginx.conf.tmpl"))

// Render returns nginx.conf for these versions and its generation, a digest of the text that the running workers report.
func Render(o Options, versions []Version) (text []byte, generation string, err error) {
	if err := checkOptions(o); err != nil {
		return nil, "", err
	}
	for _, v := range versions {
		if err := names.Version(v.Name); err != nil {
			return nil, "", err
		}
	}
	sorted := append([]Version(nil), versions...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	data := map[string]any{
		"Dir": o.Dir, "AccessLog": o.AccessLog, "HTTP": o.HTTP, "HTTPS": o.HTTPS, "User": o.User,
		"Workers": o.Workers, "Connections": o.Connections, "FileLimit": fileLimit(o.Connections),
		"Versions": sorted, "Buckets": buckets(), "CheckSocket": checkSocket(o), "Slots": filepath.Join(o.Run, "slots"),
		"TenantPattern": names.TenantPattern + "|" + names.ProbeTenant, "Certificate": certificateDigest(o.Dir),
	}
	// The generation is the digest of the text without it.
	data["Generation"] = "-"
	var first bytes.Buffer
	if err := configuration.Execute(&first, data); err != nil {
		return nil, "", fmt.Errorf("cannot render nginx.conf: %v", err)
	}
	sum := sha256.Sum256(first.Bytes())
	generation = hex.EncodeToString(sum[:6])
	data["Generation"] = generation
	var out bytes.Buffer
	if err := configuration.Execute(&out, data); err != nil {
		return nil, "", fmt.Errorf("cannot render nginx.conf: %v", err)
	}
	return out.Bytes(), generation, nil
}

func checkSocket(o Options) string { return filepath.Join(o.Run, "nginx.sock") }

// checkOptions refuses what would break out of its place in the configuration.
func checkOptions(o Options) error {
	for what, value := range map[string]string{
		"directory": o.Dir, "run directory": o.Run, "access log": o.AccessLog, "http address": o.HTTP, "https address": o.HTTPS,
	} {
		if value == "" || strings.ContainsAny(value, " \t\r\n;{}$'\"\\#") {
			return fmt.Errorf("cannot render nginx.conf: %s %q may not be empty or hold spaces, quotes or any of ;{}$\\#", what, value)
		}
	}
	return nil
}

// fileLimit is what a worker needs, two descriptors a connection, as far as this process may grant it.
func fileLimit(connections int) uint64 {
	need := uint64(2*connections + 64)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && os.Geteuid() != 0 {
		return min(need, limit.Max)
	}
	return need
}

type bucket struct{ Share, Name string }

// buckets are the hundred shares of split_clients; the last takes the rounding.
func buckets() []bucket {
	out := make([]bucket, 0, 100)
	for i := range 99 {
		out = append(out, bucket{"1%", fmt.Sprintf("%02d", i)})
	}
	return append(out, bucket{"*", "99"})
}
