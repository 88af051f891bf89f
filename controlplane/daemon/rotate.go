package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

const (
	// maxLog is where a log begins anew; its end of that length is kept beside it, as NAME.log.1.
	maxLog      = 64 << 20
	rotateEvery = 5 * time.Second
	// keepLogs is how long the logs of a set that is gone stay at most.
	keepLogs = 30 * 24 * time.Hour
)

// rotateSoon looks after the logs now and then, without holding up the watch.
func (d *Daemon) rotateSoon(now time.Time) {
	if now.Sub(d.rotated) < rotateEvery {
		return
	}
	d.rotated = now
	d.work.Go(func() {
		d.logError("rotate the logs", filepath.WalkDir(filepath.Join(d.home.State, "logs"), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".log") {
				return nil // a directory that cannot be read holds up no other
			}
			if info, err := entry.Info(); err != nil || info.Size() <= maxLog {
				return nil
			}
			return rotate(path)
		}))
		d.logError("remove old logs", d.removeOldLogs(now))
	})
}

// removeOldLogs removes what sets have logged that are gone, and nobody will ask for: of each version the last gc.keep of them stay, as its
// builds do, but none for longer than keepLogs.
func (d *Daemon) removeOldLogs(now time.Time) error {
	versions, err := os.ReadDir(filepath.Join(d.home.State, "logs"))
	if err != nil {
		return err
	}
	var failures []error
	for _, v := range versions {
		if !v.IsDir() || names.Version(v.Name()) != nil {
			continue
		}
		for i, old := range d.logsOfGone(v.Name()) {
			if i < d.cfg.Int("gc.keep") && now.Sub(old.written) < keepLogs {
				continue
			}
			d.log.Info("the logs of a set that is gone are removed", "version", v.Name(), "set", old.set, "written", old.written)
			failures = append(failures, os.RemoveAll(filepath.Join(d.home.State, "logs", v.Name(), old.set)))
		}
	}
	return errors.Join(failures...)
}

// oldLogs are those of a set that is gone.
type oldLogs struct {
	set     string
	written time.Time // the last time
}

// logsOfGone finds a version's, those last written first.
func (d *Daemon) logsOfGone(version string) (gone []oldLogs) {
	dir := filepath.Join(d.home.State, "logs", version)
	sets, _ := os.ReadDir(dir) // one that cannot be read holds up no other
	for _, entry := range sets {
		if !isSetID(entry.Name()) || d.setByID(entry.Name()) != nil {
			continue
		}
		old := oldLogs{set: entry.Name()}
		logs, _ := os.ReadDir(filepath.Join(dir, old.set))
		for _, log := range logs {
			if info, err := log.Info(); err == nil && info.ModTime().After(old.written) {
				old.written = info.ModTime()
			}
		}
		gone = append(gone, old)
	}
	slices.SortFunc(gone, func(a, b oldLogs) int { return b.written.Compare(a.written) })
	return gone
}

// rotate keeps the log's end and empties the file in place: it is open for appending elsewhere, in programs that know of no
// rotation. What is written between the two is lost. A disk too full for the copy is the best reason to empty the file.
func rotate(path string) error {
	if err := keepEnd(path); err != nil {
		os.Remove(path + ".1")
		return errors.Join(fmt.Errorf("cannot keep the end of %q: %v", path, err), os.Truncate(path, 0))
	}
	return os.Truncate(path, 0)
}

func keepEnd(path string) error {
	log, err := os.Open(path)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := log.Seek(-maxLog, io.SeekEnd); err != nil {
		return err
	}
	kept, err := os.OpenFile(path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.CopyN(kept, log, maxLog) // whoever floods it may be quicker than a copy to its end
	return errors.Join(err, kept.Close())
}
