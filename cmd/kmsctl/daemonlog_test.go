package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

func TestDaemonLogger_fileAndScreen(t *testing.T) {
	var screen bytes.Buffer
	c := newCLI(nil, io.Discard, &screen)
	c.home = t.TempDir()
	cfg, err := c.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := cfg.Paths().Log("controlplane")
	for _, tty := range []bool{false, true} {
		c.errTTY = tty
		log, done := c.daemonLogger(cfg)
		log.Info("adopted", "tty", tty)
		log.Debug("never")
		done()
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "adopted") != 2 || strings.Contains(string(text), "never") {
		t.Errorf("file: %s, %v", text, err)
	}
	if strings.Count(screen.String(), "adopted") != 1 {
		t.Errorf("a terminal shows more than warnings: %s", screen.String())
	}
}
