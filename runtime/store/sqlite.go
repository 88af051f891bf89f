package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver
)

// sqliteReaders bounds the read pool; readers do not block the writer, but each holds a page cache.
const sqliteReaders = 4

// sqliteEngine is one writer connection, a read pool, and the lock that makes processes take turns.
type sqliteEngine struct {
	path   string
	writer *sql.DB
	reader *sql.DB
	turn   *turnLock
}

func openSQLite(ctx context.Context, path string) (*sqliteEngine, error) {
	// Created here for its mode, which SQLite gives to -wal and -shm too.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	turn, err := openTurnLock(path)
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{path: path, turn: turn}
	if e.writer, err = sql.Open("sqlite", sqliteDSN(path, "_txlock=immediate")); err != nil {
		return nil, errors.Join(err, turn.close())
	}
	if e.reader, err = sql.Open("sqlite", sqliteDSN(path, "_query_only=1")); err != nil {
		return nil, errors.Join(err, e.writer.Close(), turn.close())
	}
	e.writer.SetMaxOpenConns(1)
	e.reader.SetMaxOpenConns(sqliteReaders)
	e.reader.SetMaxIdleConns(sqliteReaders)
	if err := e.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// sqliteDSN puts the pragmas where every pooled connection gets them. busy_timeout comes first, since going to WAL may wait;
// it also covers writers that know nothing of our locks, such as an operator's sqlite3.
func sqliteDSN(path, extra string) string {
	u := url.URL{Scheme: "file", Path: path}
	return u.String() + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + extra
}

func (e *sqliteEngine) dialect() Dialect { return SQLite }
func (e *sqliteEngine) reads() *sql.DB   { return e.reader }

func (e *sqliteEngine) write(ctx context.Context, fn func(*sql.Tx) error) error {
	if err := e.turn.acquire(ctx); err != nil {
		return err
	}
	defer e.turn.release()
	conn, err := e.writer.Conn(ctx)
	if err != nil {
		return err
	}
	// Close waits for a rollback that a cancelled ctx has started, so that the turn never ends inside a transaction.
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return finish(tx, fn)
}

// finish runs fn and commits, or rolls back when fn does not return nil.
func finish(tx *sql.Tx, fn func(*sql.Tx) error) error {
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// migrating holds the writers' turn, so that nobody writes while the schema changes.
func (e *sqliteEngine) migrating(ctx context.Context, fn func(*sql.DB) error) error {
	if err := e.turn.acquire(ctx); err != nil {
		return err
	}
	defer e.turn.release()
	db, err := sql.Open("sqlite", sqliteDSN(e.path, "_txlock=immediate"))
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(db)
}

func (e *sqliteEngine) close() error {
	err := errors.Join(e.reader.Close(), e.writer.Close(), e.turn.close())
	if err != nil {
		return fmt.Errorf("cannot close store %q: %v", e.path, err)
	}
	return nil
}
