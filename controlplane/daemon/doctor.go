package daemon

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/doctor"
)

// Doctor looks at the host from outside and at what runs from inside.
func (d *Daemon) Doctor(ctx context.Context) ([]controlplane.Finding, error) {
	status, err := d.Status(ctx)
	if err != nil {
		return nil, err
	}
	findings := doctor.Host(d.cfg, true)
	for _, c := range status.Components {
		findings = append(findings, examineComponent(c))
	}
	for _, v := range status.Versions {
		if v.State == controlplane.Live {
			findings = append(findings, examineVersion(v))
		}
		if e := v.Stuck; e != nil {
			findings = append(findings, controlplane.Finding{Level: "error", Check: "version " + v.Name, Message: e.Message, Fix: e.Hint})
		}
	}
	if report, err := d.NginxDiff(ctx); err == nil && !report.OK {
		findings = append(findings, controlplane.Finding{Level: "warning", Check: "nginx.conf", Message: "the file on disk is not the generated one", Fix: "kmsctl nginx apply"})
	}
	return findings, nil
}

func examineComponent(c controlplane.Component) controlplane.Finding {
	f := controlplane.Finding{Level: "ok", Check: c.Name, Message: strings.TrimSpace(c.State + " " + c.Detail)}
	switch {
	case c.State == "ok":
	case c.Name == "bus":
		f.Level, f.Fix = "warning", "kmsctl irc status"
	case c.Name == "store":
		f.Level, f.Fix = "error", "kmsctl config show, then see whether the database answers"
	default:
		f.Level, f.Fix = "error", "kmsctl logs --role "+c.Name
	}
	return f
}

func examineVersion(v controlplane.VersionInfo) controlplane.Finding {
	if v.Healthy {
		return controlplane.Finding{Level: "ok", Check: "version " + v.Name, Message: fmt.Sprintf("serves %s, %d connections", v.Label, v.Connections)}
	}
	var problems []string
	for _, s := range v.Sets {
		for _, in := range s.Instances {
			if in.Problem != "" {
				problems = append(problems, in.Role+": "+in.Problem)
			}
		}
	}
	return controlplane.Finding{Level: "error", Check: "version " + v.Name, Message: strings.Join(problems, "; "),
		Fix: "kmsctl logs " + v.Name + ", then kmsctl rollback " + v.Name}
}
