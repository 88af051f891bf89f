package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
)

// clientPattern names the files that tell MariaDB's programs the password.
const clientPattern = ".mariadb-*.cnf"

// restoreWithin bounds the copying and checking of a large database.
const restoreWithin = 30 * time.Minute

// Backup writes a copy of the shared database as of one moment, while everything goes on: an SQLite file, or what
// mariadb-dump prints.
func (d *Daemon) Backup(ctx context.Context, path string) error {
	err := d.backup(ctx, path)
	if errors.Is(err, store.ErrExists) || errors.Is(err, os.ErrExist) {
		return controlplane.Errorf(controlplane.InUse, "file %q exists already", path).WithHint("choose another name")
	}
	return err
}

func (d *Daemon) backup(ctx context.Context, path string) error {
	if d.Store().Dialect() == store.SQLite {
		d.removeHalfBackups(filepath.Dir(path))
		d.copying.RLock()
		defer d.copying.RUnlock()
		return d.Store().Backup(ctx, path, d.halfBackup())
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	err = d.mariadb(ctx, "mariadb-dump", func(cmd *exec.Cmd) { cmd.Stdout = out }, "--single-transaction", "--skip-lock-tables")
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// halfBackup begins the names of this home's backups that are not whole yet. Another home may write its own to the same directory.
func (d *Daemon) halfBackup() string { return ".kms-backup-" + d.identity + "-" }

// removeHalfBackups removes what control planes of this home have left that were killed: all there is when none is written now.
func (d *Daemon) removeHalfBackups(dir string) {
	if !d.copying.TryLock() {
		return
	}
	defer d.copying.Unlock()
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), d.halfBackup()) && e.Type().IsRegular() {
			d.logError("remove a backup that was cut off", os.Remove(filepath.Join(dir, e.Name())))
		}
	}
}

// Restore stops all sets with an announced close, puts the backup in place with new epochs, and starts the sets again. The
// versions that serve stay those that served before; what the backup wants instead shows in `kmsctl list` and the ledger.
func (d *Daemon) Restore(ctx context.Context, path string) error {
	if err := d.beginRestore(path); err != nil {
		return err
	}
	defer d.endRestore()
	ctx = context.WithoutCancel(ctx) // a caller that goes away must not leave the host half restored
	ctx, cancel := context.WithTimeout(ctx, restoreWithin)
	defer cancel()
	err := d.replaceStore(ctx, hostdb.Restore{Path: path, Link: d.localLink()})
	d.settleSets(ctx)
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "cannot restore %q: %v; the sets are started again", path, err).
			WithHint("kmsctl status shows what serves")
	}
	return nil
}

// replaceStore is written down first: what dies in it leaves the rest to the next control plane.
func (d *Daemon) replaceStore(ctx context.Context, r hostdb.Restore) error {
	if err := d.host.PutRestore(r); err != nil {
		return err
	}
	failpoint.Reach(failpoint.RestoreWritten)
	err := d.stopSets(ctx)
	if err == nil {
		err = d.restore(ctx, r.Path)
	}
	return errors.Join(err, d.prepareStore(ctx), d.keepLocalLink(ctx, r.Link), d.host.DeleteRestore())
}

// finishRestore does again what an earlier control plane was killed in, before anything looks into the database: half restored, it must
// not serve. A backup that is gone keeps us from starting on MySQL, where nothing else is whole; an SQLite store is as it was.
func (d *Daemon) finishRestore(ctx context.Context) error {
	r, err := d.host.Restore()
	if err != nil || r == nil {
		return err
	}
	d.log.Warn("a restore was not finished; it is done again", "file", r.Path)
	ctx, cancel := context.WithTimeout(ctx, restoreWithin)
	defer cancel()
	sets, err := d.host.Sets()
	if err == nil {
		err = d.whole(r.Path)
	}
	if err == nil {
		d.adoptInstances(ctx, sets)
		err = d.replaceStore(ctx, *r)
	}
	switch {
	case err == nil:
		entry := newAudit(d.itself(), "restore", r.Path, "begun by a control plane that was killed")
		d.logError("write the audit trail", d.host.PutAudit(entry))
		d.work.Go(func() { d.enterNow(entry) })
		return nil
	case d.Store().Dialect() == store.SQLite:
		d.log.Error("a restore cannot be finished; the database is as it was", "file", r.Path, "error", err)
		return d.host.DeleteRestore()
	}
	return controlplane.Errorf(controlplane.Failed, "cannot finish the restore of %q, which a control plane was killed in: %v", r.Path, err).
		WithHint("put that backup, or another one, at %s and start again", r.Path)
}

// whole refuses a file that is no backup, before anybody is cut off for it.
func (d *Daemon) whole(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if d.Store().Dialect() == store.SQLite {
		return nil // which is looked at while it is copied
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	const lastLine = "-- Dump completed"
	end := make([]byte, min(200, info.Size()))
	if _, err := file.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return err
	}
	if !bytes.Contains(end, []byte(lastLine)) {
		return fmt.Errorf("it does not end with %q: it is cut off, or was made with --skip-comments", lastLine)
	}
	return nil
}

func (d *Daemon) stopSets(ctx context.Context) error {
	var group errgroup.Group
	for _, s := range d.allSets() {
		group.Go(func() error { return stopInstances(ctx, s) })
	}
	return group.Wait()
}

// localLink is the link to our own IRC server as the server knows it, nil when we run none.
func (d *Daemon) localLink() *store.Link {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		if l.Name == localLink && d.ircProc != nil {
			return &l
		}
	}
	return nil
}

// keepLocalLink puts the link of the running IRC server back: a backup of another time or home has another password or port.
func (d *Daemon) keepLocalLink(ctx context.Context, running *store.Link) error {
	if running == nil {
		return nil
	}
	if err := d.Store().PutLink(ctx, *running); err != nil {
		return err
	}
	return d.readLinks(ctx)
}

func (d *Daemon) endRestore() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.restoring = false
}

// beginRestore keeps releases and a second restore away until endRestore.
func (d *Daemon) beginRestore(path string) error {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return controlplane.Errorf(controlplane.NotFound, "there is no file %q", path).WithHint("kmsctl backup FILE makes one")
	}
	if err := d.whole(path); err != nil {
		return controlplane.Errorf(controlplane.Usage, "cannot restore %q: %v", path, err).WithHint("kmsctl backup FILE makes one that is whole")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.restoring {
		return controlplane.Errorf(controlplane.LeaseHeld, "the shared database is being restored already").WithHint("kmsctl audit")
	}
	for _, f := range d.flights {
		return d.busy(f).WithHint("kmsctl events -f")
	}
	d.restoring = true
	return nil
}

func (d *Daemon) restore(ctx context.Context, path string) error {
	if d.Store().Dialect() == store.MySQL {
		dump, err := os.Open(path)
		if err != nil {
			return err
		}
		defer dump.Close()
		err = d.mariadb(ctx, "mariadb", func(cmd *exec.Cmd) { cmd.Stdin = dump })
		failpoint.Reach(failpoint.StoreReplaced)
		return errors.Join(err, d.Store().NewEpochs(ctx)) // also when it stopped half-way: no place of before is one of this log
	}
	err := d.Store().Close()
	if err == nil {
		err = store.Restore(ctx, d.cfg.Store(), path)
	}
	failpoint.Reach(failpoint.StoreReplaced)
	return errors.Join(err, d.openShared(ctx)) // in any case: a store that stays closed is lost until the next start
}

// mariadb runs one of MariaDB's own programs on the shared database. The password goes through a 0600 file, since command
// lines and environments can be read by others.
func (d *Daemon) mariadb(ctx context.Context, program string, setUp func(*exec.Cmd), args ...string) error {
	u, err := url.Parse(d.cfg.Store())
	if err != nil {
		return errors.New("cannot read the store's address")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		host, port = u.Host, "3306"
	}
	password, _ := u.User.Password()
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	options := fmt.Sprintf("[client]\nhost=%s\nport=%s\nuser=\"%s\"\npassword=\"%s\"\nprotocol=tcp\n",
		host, port, quote.Replace(u.User.Username()), quote.Replace(password))
	file, err := os.CreateTemp(d.home.State, clientPattern) // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(options)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	path, err := lookProgram(program)
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "there is no program %q", program).WithHint("apt-get install mariadb-client")
	}
	args = append(append([]string{"--defaults-extra-file=" + file.Name()}, args...), strings.TrimPrefix(u.Path, "/"))
	cmd := exec.CommandContext(ctx, path, args...)
	var said strings.Builder
	cmd.Stderr = &said
	setUp(cmd)
	// It must not go on alone, beside the next control plane. The signal comes when the thread ends that has started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %v: %s", program, err, firstLine(strings.TrimSpace(said.String())))
	}
	return nil
}
