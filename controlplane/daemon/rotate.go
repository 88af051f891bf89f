package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxLog is where a log begins anew; its end of that length is kept beside it, as NAME.log.1.
	maxLog      = 64 << 20
	rotateEvery = 5 * time.Second
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
	})
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
