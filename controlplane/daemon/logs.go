package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/supervise"
)

// componentLogs are the roles that are no instance of a set.
var componentLogs = map[string]string{nginxName: nginxName, ircName: ircName, "access": "nginx-access", "controlplane": "controlplane"}

// Logs tells the last lines of every log that matches, then what is appended while following.
func (d *Daemon) Logs(ctx context.Context, q controlplane.LogQuery, line func(controlplane.LogLine) error) error {
	files, err := d.logFiles(q)
	if err != nil {
		return err
	}
	ends := make([]int64, len(files))
	for i, f := range files {
		if info, err := os.Stat(f.path); err == nil {
			ends[i] = info.Size()
		}
		lines, err := supervise.TailLog(f.path, q.Lines)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot read log %q: %v", f.source, err)
		}
		for _, text := range lines {
			if err := line(controlplane.LogLine{Source: f.source, Text: text}); err != nil {
				return err
			}
		}
	}
	if !q.Follow {
		return nil
	}
	return followLogs(ctx, files, ends, line)
}

type logFile struct{ source, path string }

// logFiles finds the logs of a query; those of sets that are gone included.
func (d *Daemon) logFiles(q controlplane.LogQuery) ([]logFile, error) {
	if name, ok := componentLogs[q.Role]; ok {
		return []logFile{{q.Role, d.home.Log(name)}}, nil
	}
	pattern := d.home.Log(orAny(q.Version), orAny(q.Set), orAny(q.Role))
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, controlplane.Errorf(controlplane.Usage, "bad name in %q", pattern)
	}
	if len(paths) == 0 {
		return nil, controlplane.Errorf(controlplane.NotFound, "there are no logs of version %q, set %q, role %q", q.Version, q.Set, q.Role).
			WithHint("kmsctl status shows versions and sets; roles are ua, api, nginx, irc, access, controlplane")
	}
	files := make([]logFile, 0, len(paths))
	for _, path := range paths {
		rel, err := filepath.Rel(filepath.Join(d.home.State, "logs"), path)
		if err != nil || strings.HasPrefix(rel, "..") {
			return nil, controlplane.Errorf(controlplane.Usage, "bad name in %q", pattern)
		}
		files = append(files, logFile{strings.TrimSuffix(rel, ".log"), path})
	}
	sort.Slice(files, func(i, j int) bool { return files[i].source < files[j].source })
	return files, nil
}

func orAny(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

// followLogs polls: a log is a plain file that another process appends to.
func followLogs(ctx context.Context, files []logFile, from []int64, line func(controlplane.LogLine) error) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		for i, f := range files {
			end, err := tellAppended(f, from[i], line)
			if err != nil {
				return err
			}
			from[i] = end
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tellAppended tells the whole lines after from and returns where they end. A file that shrank is read from its start.
func tellAppended(f logFile, from int64, line func(controlplane.LogLine) error) (int64, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return from, nil // not there yet, or gone: what follows is all that matters
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() < from {
		from = 0
	}
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return from, nil
	}
	reader := bufio.NewReader(file)
	for {
		text, err := reader.ReadString('\n')
		if err != nil {
			return from, nil
		}
		from += int64(len(text))
		if err := line(controlplane.LogLine{Source: f.source, Text: supervise.Printable(strings.TrimSuffix(text, "\n"))}); err != nil {
			return from, err
		}
	}
}
