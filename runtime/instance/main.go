// Package instance is what a server version's main calls. One binary answers `describe` and `probe`, and serves as `ua` and `api`:
// a child of the control plane that composes store, log, bus, hub and chat around the build's protocol, listens on a unix socket and
// answers the plugin contract. Chat goes on whether or not a control plane is there to call.
package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
)

// Build is what differs between versions.
type Build struct {
	Version string // the version it was written for: 2.0
	Label   string // for people: 2.0.3
	// SchemaMin and SchemaMax are the shared schemas it works on.
	SchemaMin, SchemaMax int

	Protocol func() ua.Protocol                                    // nil: no ua role
	API      func(APIParts) http.Handler                           // nil: no api role
	Probe    func(ctx context.Context, t plugin.ProbeTarget) error // logs in, sends to itself, makes one API call
}

// APIParts are what an API handler is made of. They are the instance's: the handler closes none of them.
type APIParts struct {
	Chat    *chat.Service
	Store   *store.Store
	Version string // the public name that the set serves; requests come as /api/{version}/{tenant}/...
	Logger  *slog.Logger
}

// probeTimeout bounds a probe whose caller does not.
const probeTimeout = 30 * time.Second

// Main runs the binary's one command, os.Args[1], and exits.
func Main(b Build) {
	if len(os.Args) == 2 && b.has(os.Args[1]) {
		role := os.Args[1]
		plugin.Serve(role, newServer(b, role, plugin.Begin()))
		os.Exit(0)
	}
	os.Exit(run(b, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func (b Build) has(role string) bool {
	return role == plugin.RoleUA && b.Protocol != nil || role == plugin.RoleAPI && b.API != nil
}

// run answers describe and probe and returns the exit code.
func run(b Build, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	const want = "want one of: describe, probe, ua, api"
	if len(args) != 1 {
		fmt.Fprintf(stderr, "version %s (%s) of KMS: %s\n", b.Version, b.Label, want)
		return 2
	}
	var err error
	switch args[0] {
	case "describe":
		err = json.NewEncoder(stdout).Encode(b.describe())
	case "probe":
		err = b.probe(stdin)
	default:
		fmt.Fprintf(stderr, "unknown command %q: %s\n", args[0], want)
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func (b Build) describe() plugin.Describe {
	d := plugin.Describe{
		Version: b.Version, Label: b.Label, Contract: plugin.Contract, SchemaMin: b.SchemaMin, SchemaMax: b.SchemaMax,
	}
	for _, role := range []string{plugin.RoleUA, plugin.RoleAPI} {
		if b.has(role) {
			d.Roles = append(d.Roles, role)
		}
	}
	return d
}

func (b Build) probe(stdin io.Reader) error {
	var target plugin.ProbeTarget
	if err := json.NewDecoder(io.LimitReader(stdin, 1<<20)).Decode(&target); err != nil {
		return fmt.Errorf("cannot read the probe's target from stdin: %v", err)
	}
	if b.Probe == nil {
		return fmt.Errorf("cannot probe: version %s has no probe", b.Version)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return b.Probe(ctx, target)
}
