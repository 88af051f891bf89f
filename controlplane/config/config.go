// Package config gathers the settings of a control plane: defaults, then a YAML file, then KMS_* variables, then flags, the
// later winning. It remembers where each value came from, and derives the paths of DESIGN 4 from them.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Setting is one value with its origin, as `kmsctl config show` prints it.
type Setting struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Source  string `json:"source"` // default, file PATH, env NAME, flag --name
	Meaning string `json:"meaning"`
}

// key describes one setting: what it means, its default and how a bad value is told.
type key struct {
	name, def, meaning string
	check              func(string) error
	secret             bool
}

// keys is every setting there is, in the order in which they are shown.
var keys = []key{
	{name: "home", def: "./var", meaning: "directory of the state: databases, artifacts, logs, generated configuration", check: notEmpty},
	{name: "run", def: "", meaning: "directory of the sockets; empty: HOME/run, or a short one in /tmp when that is too long"},
	{name: "node", def: "", meaning: "name of this host in the ledger; empty: the host name"},
	{name: "store", def: "", meaning: "shared database; empty: sqlite:HOME/kms.db", check: storeURL, secret: true},
	{name: "http", def: "127.0.0.1:8080", meaning: "where nginx listens for plain HTTP", check: hostPort},
	{name: "https", def: "127.0.0.1:8443", meaning: "where nginx listens for HTTPS", check: hostPort},
	{name: "nginx.run", def: "child", meaning: "child: supervised here; system: the system's nginx runs the generated file", check: oneOf("child", "system")},
	{name: "nginx.program", def: "nginx", meaning: "the nginx program", check: notEmpty},
	{name: "nginx.workers", def: "1", meaning: "nginx worker processes", check: atLeast(1)},
	{name: "nginx.connections", def: "16384", meaning: "worker_connections; a WebSocket takes two", check: atLeast(64)},
	{name: "nginx.group", def: "", meaning: "group that may enter the instances' sockets; empty: the control plane's own"},
	{name: "irc.run", def: "child", meaning: "child: supervised here; none: only the links that were added", check: oneOf("child", "none")},
	{name: "irc.kind", def: "", meaning: "inspircd or ngircd; empty: whichever is installed, InspIRCd first", check: oneOf("", "inspircd", "ngircd")},
	{name: "irc.listen", def: "127.0.0.1:16667", meaning: "where the supervised IRC server listens", check: hostPort},
	{name: "builds", def: "", meaning: "directory of the builds that `up` deploys first; empty: beside kmsctl"},
	{name: "warm", def: "10m", meaning: "how long a replaced set stays for an instant rollback", check: duration},
	{name: "gc.keep", def: "5", meaning: "builds of each version that kmsctl build gc keeps, used or not, and sets that are gone whose logs stay", check: atLeast(1)},
	{name: "purge.every", def: "1m", meaning: "how often messages that their tenant no longer keeps are removed", check: duration},
	{name: "drain.rate", def: "50", meaning: "connections told to move, per second", check: positive},
	{name: "drain.deadline", def: "5m", meaning: "after this what is left is closed with 1012", check: duration},
	{name: "log.level", def: "info", meaning: "debug, info, warn or error", check: oneOf("debug", "info", "warn", "error")},
}

var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]*$`)

// Config is the checked result. Values are read through the typed accessors or the fields of Paths.
type Config struct {
	values  map[string]string
	sources map[string]string
	strange []string
}

// Load reads path (when not empty), the environment and flags. An unknown key, in the file or in flags, is an error that
// names it.
func Load(path string, environ []string, flags map[string]string) (*Config, error) {
	c := &Config{values: map[string]string{}, sources: map[string]string{}}
	for _, k := range keys {
		c.set(k.name, k.def, "default")
	}
	if path != "" {
		if err := c.loadFile(path); err != nil {
			return nil, err
		}
	}
	c.loadEnv(environ)
	for name, value := range flags {
		if find(name) == nil {
			return nil, fmt.Errorf("cannot read flags: unknown setting %q", name)
		}
		c.set(name, value, "flag --"+strings.ReplaceAll(name, ".", "-"))
	}
	return c, c.check()
}

func (c *Config) set(name, value, source string) { c.values[name], c.sources[name] = value, source }

// loadFile takes nested or dotted keys: `nginx: {workers: 2}` and `nginx.workers: 2` say the same.
func (c *Config) loadFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read configuration %q: %v", path, err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("cannot parse configuration %q: %v", path, err)
	}
	flat := map[string]string{}
	if err := flatten("", tree, flat); err != nil {
		return fmt.Errorf("cannot parse configuration %q: %v", path, err)
	}
	for name, value := range flat {
		k := find(name)
		if k == nil {
			return fmt.Errorf("cannot use configuration %q: unknown key %q (kmsctl config show lists the keys)", path, name)
		}
		if k.secret && hasPassword(value) {
			if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
				return fmt.Errorf("cannot use configuration %q: it holds a password and others may read it (chmod 600 %s)", path, path)
			}
		}
		c.set(name, value, "file "+path)
	}
	return nil
}

func flatten(prefix string, tree map[string]any, into map[string]string) error {
	for name, value := range tree {
		full := prefix + name
		switch v := value.(type) {
		case map[string]any:
			if err := flatten(full+".", v, into); err != nil {
				return err
			}
		case []any:
			return fmt.Errorf("key %q is a list, want one value", full)
		case nil:
			into[full] = ""
		default:
			into[full] = fmt.Sprint(v)
		}
	}
	return nil
}

// Strange lists KMS_* variables that name no setting, most likely by mistake.
func (c *Config) Strange() []string { return c.strange }

// notSettings begin the names of variables that are something else: kmsctl's own file, tests', fail points.
var notSettings = []string{"KMS_CONFIG", "KMS_TEST_", "KMS_FAILPOINT"}

// loadEnv maps KMS_NGINX_WORKERS to nginx.workers.
func (c *Config) loadEnv(environ []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, "KMS_")
		if !ours {
			continue
		}
		setting := strings.ReplaceAll(strings.ToLower(rest), "_", ".")
		if find(setting) != nil {
			c.set(setting, value, "env "+name)
		} else if !slices.ContainsFunc(notSettings, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			c.strange = append(c.strange, name)
		}
	}
}

func (c *Config) check() error {
	for _, k := range keys {
		if k.check == nil {
			continue
		}
		if err := k.check(c.values[k.name]); err != nil {
			return fmt.Errorf("cannot use %s %q from %s: %v", k.name, c.shown(k), c.sources[k.name], err)
		}
	}
	return errors.Join(c.checkPlaces(), c.checkAddresses())
}

// checkPlaces refuses directories whose names nginx's or the IRC server's configuration could not hold.
func (c *Config) checkPlaces() error {
	p := c.Paths()
	for name, dir := range map[string]string{"home": p.State, "run": p.Run} {
		if !plainPath.MatchString(dir) {
			return fmt.Errorf("cannot use %s %q: want letters, digits and / . _ + @ - only, since the path stands in other programs' configurations", name, dir)
		}
	}
	return nil
}

// checkAddresses refuses one address for two listeners.
func (c *Config) checkAddresses() error {
	taken := map[string]string{}
	for _, name := range []string{"http", "https", "irc.listen"} {
		address := c.values[name]
		if other, ok := taken[address]; ok {
			return fmt.Errorf("cannot use %s for both %s and %s", address, other, name)
		}
		taken[address] = name
	}
	return nil
}

func (c *Config) shown(k key) string {
	if k.secret {
		return redact(c.values[k.name])
	}
	return c.values[k.name]
}

// Settings lists every setting with its value and origin; passwords are left out.
func (c *Config) Settings() []Setting {
	out := make([]Setting, 0, len(keys))
	for _, k := range keys {
		out = append(out, Setting{Key: k.name, Value: c.shown(k), Source: c.sources[k.name], Meaning: k.meaning})
	}
	return out
}

// Keys lists the names of all settings, for flags and completion.
func Keys() []string {
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, k.name)
	}
	return out
}

// Meaning returns the one-line help of a setting.
func Meaning(name string) string { return find(name).meaning }

// String returns a setting's value. Asking for a name that is no setting is a bug.
func (c *Config) String(name string) string {
	if find(name) == nil {
		panic("internal error: no setting " + name)
	}
	return c.values[name]
}

// Int returns a setting that was checked to be a whole number.
func (c *Config) Int(name string) int {
	n, _ := strconv.Atoi(c.String(name))
	return n
}

// Float returns a setting that was checked to be a number.
func (c *Config) Float(name string) float64 {
	f, _ := strconv.ParseFloat(c.String(name), 64)
	return f
}

// Duration returns a setting that was checked to be a duration.
func (c *Config) Duration(name string) time.Duration {
	d, _ := time.ParseDuration(c.String(name))
	return d
}

// Store returns the URL of the shared database; it may hold a password.
func (c *Config) Store() string {
	if u := c.String("store"); u != "" {
		return u
	}
	return "sqlite:" + filepath.Join(c.Paths().State, "kms.db")
}

// Node returns this host's name in the ledger.
func (c *Config) Node() string {
	if n := c.String("node"); n != "" {
		return n
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "localhost"
	}
	return host
}

func find(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

func hasPassword(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return false
	}
	_, ok := u.User.Password()
	return ok
}

// HasPassword reports whether a store URL holds a password; such a URL may not come from a command line.
func HasPassword(raw string) bool { return hasPassword(raw) }

func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	u.User = url.User(u.User.Username())
	return u.String()
}
