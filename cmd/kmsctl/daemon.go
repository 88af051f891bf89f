package main

import (
	"context"
	"log/slog"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/config"
)

// daemonOptions are daemon.Options, until that package is there.
type daemonOptions struct {
	Config    *config.Config
	Logger    *slog.Logger
	Version   string
	Supervise bool
	Demo      bool
	Ready     func(controlplane.Status)
	Progress  func(string)
}

var runDaemon = func(context.Context, daemonOptions) error {
	return controlplane.Errorf(controlplane.Failed, "this kmsctl has no control plane built in")
}
