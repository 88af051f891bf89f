package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

// examine returns the findings by check, with every program in place unless flags say otherwise.
func examine(t *testing.T, running bool, flags map[string]string) map[string]controlplane.Finding {
	t.Helper()
	home := t.TempDir()
	os.Chmod(home, 0o700)
	all := map[string]string{"home": home, "nginx.program": "/bin/true", "irc.run": "none"}
	for k, v := range flags {
		all[k] = v
	}
	cfg, err := config.Load("", nil, all)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]controlplane.Finding{}
	for _, f := range Host(cfg, running) {
		if f.Level != "ok" && f.Fix == "" {
			t.Errorf("%s has no fix: %s", f.Check, f.Message)
		}
		out[f.Check] = f
	}
	return out
}

func TestHost_portInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	flags := map[string]string{"http": l.Addr().String()}
	if f := examine(t, false, flags)["port http"]; f.Level != "error" || !strings.Contains(f.Message, "address already in use") {
		t.Errorf("finding %+v", f)
	}
	if f, told := examine(t, true, flags)["port http"]; told {
		t.Errorf("a running control plane's own port is told: %+v", f)
	}
	flags["nginx.run"] = "system"
	if f, told := examine(t, false, flags)["port http"]; told {
		t.Errorf("the system's nginx has its port: %+v", f)
	}
}

func TestHost_missingPrograms(t *testing.T) {
	found := examine(t, false, map[string]string{"nginx.program": "/no/nginx", "irc.run": "child", "irc.kind": "ngircd"})
	if f := found["nginx"]; f.Level != "error" || !strings.Contains(f.Fix, "install nginx") {
		t.Errorf("nginx: %+v", f)
	}
	if _, told := found["irc server"]; !told {
		t.Error("the IRC server was not looked for")
	}
	if f := examine(t, false, nil)["nginx"]; f.Level != "ok" {
		t.Errorf("a program that is there: %+v", f)
	}
}

func TestHost_home(t *testing.T) {
	open := t.TempDir()
	os.Chmod(open, 0o777)
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for home, want := range map[string]string{open: "warning", file: "error", filepath.Join(open, "none"): "warning"} {
		if f := examine(t, true, map[string]string{"home": home})["home"]; f.Level != want {
			t.Errorf("%s: %+v, want %s", home, f, want)
		}
	}
	if f := examine(t, true, nil)["home"]; f.Level != "ok" {
		t.Errorf("a good home: %+v", f)
	}
}
