package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kmsctl/kms/runtime/ledgerfault"
)

// NewEpochs changes the epochs of every channel and of the changes feed, so that nobody takes a log or feed that was set back
// for the one they knew. A restore has to end with it; sets must be stopped.
func (s *Store) NewEpochs(ctx context.Context) error {
	if ledgerfault.Is(ledgerfault.EpochsKept) {
		return nil
	}
	err := s.Write(ctx, func(tx *Tx) error {
		// One new epoch for all channels: it only has to differ from any that the channel had.
		if err := tx.exec(`UPDATE channels SET epoch = ?, moved_at = `+tx.dialect.NowMS(), newEpoch()); err != nil {
			return err
		}
		return tx.exec(`UPDATE changes_head SET epoch = ? WHERE id = 1`, newEpoch())
	})
	if err != nil {
		return fmt.Errorf("cannot change epochs: %w", err)
	}
	return nil
}

// Backup copies an SQLite store into a new file (0600) as of one moment, while others read and write. Until it is whole it has a name
// beside path that begins with half, which only a kill leaves behind. ErrExists when the file is there already.
func (s *Store) Backup(ctx context.Context, path, half string) error {
	err := s.backup(ctx, path, half)
	if err != nil {
		return fmt.Errorf("cannot back up store %q to %q: %w", Redact(s.url), path, Wrap(err))
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path, half string) error {
	e, ok := s.engine.(*sqliteEngine)
	if !ok {
		return errors.New("kms copies SQLite only; use: mariadb-dump --single-transaction --hex-blob DATABASE > FILE")
	}
	if _, err := os.Lstat(path); err == nil {
		return ErrExists
	}
	temp, err := os.CreateTemp(filepath.Dir(path), half+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	// A connection of its own: those of the read pool refuse even to write another file.
	db, err := sql.Open("sqlite", sqliteDSN(e.path, ""))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, temp.Name()); err != nil {
		return err
	}
	return install(temp, path)
}

// install makes a written file durable under its final name.
func install(temp *os.File, path string) error {
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Restore replaces the SQLite store at storeURL by a backup, with new epochs. ErrInUse while any process has the store open, this
// one included; ErrSchemaNewer when the backup is of a newer program. Until the last moment the old store stays as it was.
func Restore(ctx context.Context, storeURL, fromPath string) error {
	target, err := parseURL(storeURL)
	if err == nil && target.path == "" {
		err = errors.New("kms restores SQLite only; stop all sets, feed the dump to mariadb, then change the epochs")
	}
	if err == nil {
		err = restore(ctx, target.path, fromPath)
	}
	if err != nil {
		return fmt.Errorf("cannot restore store %q from %q: %w", Redact(storeURL), fromPath, Wrap(err))
	}
	return nil
}

func restore(ctx context.Context, path, fromPath string) error {
	turn, err := openTurnLock(path)
	if err != nil {
		return err
	}
	defer turn.close()
	if err := turn.acquire(ctx); err != nil {
		return err
	}
	defer turn.release()
	if err := notInUse(ctx, path); err != nil {
		return err
	}
	if err := removeCopies(path); err != nil {
		return err
	}
	temp, err := copyToTemp(fromPath, path)
	if err != nil {
		return err
	}
	defer removeStore(temp.Name())
	defer temp.Close()
	if err := prepare(ctx, temp.Name()); err != nil {
		return err
	}
	// Left beside the new file, the old one's log would be played into it.
	if err := removeAll(path+"-wal", path+"-shm"); err != nil {
		return err
	}
	return install(temp, path)
}

// notInUse looks for other connections: in WAL mode only a lone one gets the file for itself. It also brings the old log home
// into the old file. What is not there, or is no database (perhaps why there is a restore), is in nobody's use.
func notInUse(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	u := url.URL{Scheme: "file", Path: path}
	db, err := sql.Open("sqlite", u.String()+"?_pragma=busy_timeout(200)&_pragma=locking_mode(EXCLUSIVE)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `BEGIN EXCLUSIVE; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)`)
	var lite *sqlite.Error
	if errors.As(err, &lite) && lite.Code()&0xff != sqlite3.SQLITE_BUSY && lite.Code()&0xff != sqlite3.SQLITE_LOCKED {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrInUse, err)
	}
	return nil
}

// removeCopies removes what restores of a store have left that were killed: with its locks held, there is no other.
func removeCopies(path string) error {
	copies, err := filepath.Glob(filepath.Join(filepath.Dir(path), copyPattern(path)))
	return errors.Join(err, removeAll(copies...))
}

// copyPattern names the copy of a backup until it is the store.
func copyPattern(path string) string { return "." + filepath.Base(path) + ".restore-*" }

func copyToTemp(fromPath, path string) (*os.File, error) {
	from, err := os.Open(fromPath)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	temp, err := os.CreateTemp(filepath.Dir(path), copyPattern(path)) // 0600
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(temp, from); err != nil {
		return nil, errors.Join(err, temp.Close(), os.Remove(temp.Name()))
	}
	return temp, nil
}

// prepare checks a copy of a backup and gives it new epochs, so that the store never stands there with the old ones.
func prepare(ctx context.Context, path string) error {
	s, err := Open(ctx, "sqlite:"+path, Options{})
	if err != nil {
		return fmt.Errorf("the backup does not open: %w", err)
	}
	defer s.Close()
	var verdict string
	if err := s.DB().QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil || verdict != "ok" {
		return fmt.Errorf("the backup is damaged: %s %v", verdict, err)
	}
	switch current, err := s.Schema(ctx); {
	case err != nil:
		return err
	case current == 0:
		return errors.New("the backup is not one of a kms store")
	case current > Schema:
		return newerError(current, Schema)
	}
	if err := s.NewEpochs(ctx); err != nil {
		return err
	}
	return s.Close() // which brings the log home into the file
}

// removeStore removes what is left of a temporary store.
func removeStore(path string) error {
	return removeAll(path, path+"-wal", path+"-shm", path+".queue", path+".writer")
}

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
