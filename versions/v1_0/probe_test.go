package main

import (
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

func TestProbe_findsWhatIsWrong(t *testing.T) {
	w := uatest.Start(t, protocol{}, ua.Options{})
	good := w.ProbeTarget(t, version)
	if err := runProbe(t.Context(), good); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*plugin.ProbeTarget){
		"bad_token":       func(p *plugin.ProbeTarget) { p.Token = "made up" },
		"no_such_channel": func(p *plugin.ProbeTarget) { p.Channel = "nowhere" },
		"bad_key":         func(p *plugin.ProbeTarget) { p.Key = "made up" },
		"404":             func(p *plugin.ProbeTarget) { p.Version = "9.9" },
		"no such file":    func(p *plugin.ProbeTarget) { p.UA += "x" },
		"cannot call":     func(p *plugin.ProbeTarget) { p.API += "x" },
		"bad address":     func(p *plugin.ProbeTarget) { p.API = "/run/api.sock" },
	} {
		bad := good
		spoil(&bad)
		if err := runProbe(t.Context(), bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
