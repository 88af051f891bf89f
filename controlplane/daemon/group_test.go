package daemon

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane/config"
)

// TestNginxGroup_letsWorkersIn runs nginx's workers in a group of their own: as nobody when we are root, else as us. They must
// reach sockets, slots, bodies and page, also under the mask of the systemd unit, and nothing else of the home.
func TestNginxGroup_letsWorkersIn(t *testing.T) {
	h := newHost(t)
	group := aGroup(t)
	values := map[string]string{"nginx.group": group.Name}
	for _, s := range h.config.Settings() {
		if s.Key != "nginx.group" && s.Source != "default" {
			values[s.Key] = s.Value
		}
	}
	cfg, err := config.Load("", nil, values)
	if err != nil {
		t.Fatal(err)
	}
	h.config = cfg
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0o027))
	h.up()

	for path, want := range map[string]string{"/versions": `"2.0"`, "/ua/9/demo": "not_found", "/": "<title>KMS", "/api/2.0/demo/": "bad_key"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.config.String("http")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("GET %s: %s %s, want %s", path, resp.Status, text, want)
		}
	}
	paths := h.config.Paths()
	for _, path := range []string{paths.HostDB(), paths.ControlSocket(), paths.Artifacts(), paths.Log("controlplane"), paths.Nginx() + "/tls"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil && fmt.Sprint(st.Gid) == group.Gid && st.Mode&0o070 != 0 && os.Getgid() != int(st.Gid) {
			t.Errorf("%s is open to nginx's group", path)
		}
	}
}

// aGroup is one of the system that is not ours, or one of ours when we may not choose.
func aGroup(t *testing.T) *user.Group {
	t.Helper()
	if os.Geteuid() == 0 {
		for _, name := range []string{"www-data", "nogroup", "nobody"} {
			if g, err := user.LookupGroup(name); err == nil {
				return g
			}
		}
	}
	g, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	return g
}
