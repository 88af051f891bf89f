package main

import (
	"context"
	"log/slog"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

// daemonOptions are daemon.Options, until that package is there.
type daemonOptions struct {
	Config   *config.Config
	Log      *slog.Logger
	Version  string
	Laptop   bool
	Progress func(string)
	Ready    func(*controlplane.Status)
}

// runDaemon is daemon.Run, until that package is there.
var runDaemon = func(context.Context, daemonOptions) error {
	return controlplane.Errorf(controlplane.Failed, "this kmsctl has no control plane built in")
}
