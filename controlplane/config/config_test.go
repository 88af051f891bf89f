package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad_laterSourcesWin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.yaml")
	os.WriteFile(file, []byte("http: 127.0.0.1:1001\nnginx:\n  workers: 3\nwarm: 1m\n"), 0o600)
	c, err := Load(file, []string{"KMS_NGINX_WORKERS=4", "KMS_NGINX_WORKER=5", "KMS_TEST_MYSQL=x", "HOME=/x"}, map[string]string{"warm": "2m"})
	if err != nil {
		t.Fatal(err)
	}
	if strange := c.Strange(); len(strange) != 1 || strange[0] != "KMS_NGINX_WORKER" {
		t.Errorf("variables that are no settings: %q", strange)
	}
	want := map[string][2]string{
		"http": {"127.0.0.1:1001", "file " + file}, "nginx.workers": {"4", "env KMS_NGINX_WORKERS"},
		"warm": {"2m", "flag --warm"}, "https": {"127.0.0.1:8443", "default"},
	}
	for _, s := range c.Settings() {
		if w, ok := want[s.Key]; ok && (s.Value != w[0] || s.Source != w[1]) {
			t.Errorf("%s = %q from %q, want %q from %q", s.Key, s.Value, s.Source, w[0], w[1])
		}
	}
}

func TestLoad_namesWhatIsWrong(t *testing.T) {
	cases := map[string]string{
		"htttp: x\n":            `unknown key "htttp"`,
		"nginx: {wrokers: 1}\n": `unknown key "nginx.wrokers"`,
		"http: nowhere\n":       "want host:port",
		"warm: soon\n":          "want a duration",
		"http: [a, b]\n":        "is a list",
		"home: /var/lib/ゲーム\n":  "want letters, digits",
		"home: \"/a b\"\n":      "want letters, digits",
		"http: 127.0.0.1:7001\nirc: {listen: 127.0.0.1:7001}\n": "for both http and irc.listen",
		"a: b: c\n":                      "cannot parse",
		"store: mysql://u:p@h:1/d\n":     "chmod 600",
		"irc: {kind: unreal}\n":          "want one of inspircd, ngircd",
		"nginx: {connections: -1}\n":     "at least 64",
		"store: postgres://localhost/\n": "want sqlite:",
	}
	for text, want := range cases {
		file := filepath.Join(t.TempDir(), "kms.yaml")
		os.WriteFile(file, []byte(text), 0o644)
		if _, err := Load(file, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestSettings_hidePasswords(t *testing.T) {
	c, err := Load("", []string{"KMS_STORE=mysql://kms:hunter2@db:3306/kms"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Settings() {
		if strings.Contains(s.Value, "hunter2") {
			t.Errorf("%s shows the password: %s", s.Key, s.Value)
		}
	}
	if c.Store() != "mysql://kms:hunter2@db:3306/kms" {
		t.Errorf("Store() = %q", c.Store())
	}
}

func TestPaths_longHomeMovesRun(t *testing.T) {
	home := "/" + strings.Repeat("x", 90)
	c, err := Load("", nil, map[string]string{"home": home})
	if err != nil {
		t.Fatal(err)
	}
	p := c.Paths()
	if !p.Moved || len(p.Run) > maxRun || p.State != home {
		t.Errorf("paths = %+v", p)
	}
	if longest := p.Socket("s12345678", "api") + ".new"; len(longest) > 107 {
		t.Errorf("%q has %d bytes", longest, len(longest))
	}
}
