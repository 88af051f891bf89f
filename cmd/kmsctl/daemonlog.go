package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kmsctl/kms/controlplane/config"
)

// daemonLogger writes the control plane's log to its file, which `kmsctl logs --role controlplane` shows, and to stderr: from
// warnings on where a person looks at a terminal, all of it for systemd's journal. Without a file stderr is enough: the daemon
// itself says what is wrong with its home.
func (c *cli) daemonLogger(cfg *config.Config) (log *slog.Logger, done func()) {
	var level slog.Level
	level.UnmarshalText([]byte(cfg.String("log.level"))) // config has checked it
	onScreen := level
	if c.errTTY {
		onScreen = max(level, slog.LevelWarn)
	}
	screen := slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: onScreen})
	file, err := openLog(cfg.Paths().Log("controlplane"))
	if err != nil {
		return slog.New(screen), func() {}
	}
	whole := slog.NewTextHandler(file, &slog.HandlerOptions{Level: level})
	return slog.New(slog.NewMultiHandler(whole, screen)), func() { file.Close() }
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}
