// Package store owns the shared schema: tenants, keys, tokens, channels, members, NG lists, the changes feed, the release
// ledger, leases, links and the audit trail, in SQLite or in MySQL (MariaDB) behind the same methods. Plain SQL; the few
// differences between the two stand in sqlite.go and mysql.go. Each method checks the names it is given and appends to
// `changes` in the transaction that changes something. Only the control plane migrates. Everything is safe for concurrent use.
package store

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Options are the settings of a Store; the zero value is fine.
type Options struct {
	Logger *slog.Logger // nil: no logs
}

// Store is one open database. What it returns wraps ErrUnavailable while the database is away, locked out or full.
type Store struct {
	url    string
	log    *slog.Logger
	engine engine

	channels channelCounts
}

// engine is what SQLite and MySQL do differently beyond SQL text.
type engine interface {
	dialect() Dialect
	reads() *sql.DB
	// write runs fn in a transaction of its own and commits it; fn may run again.
	write(ctx context.Context, fn func(*sql.Tx) error) error
	// migrating runs fn while no other process migrates, with a pool to migrate through.
	migrating(ctx context.Context, fn func(*sql.DB) error) error
	close() error
}

// Open opens the database that url names: sqlite:/abs/path/kms.db (created if missing, 0600) or
// mysql://user:password@host:port/database. It does not talk to a MySQL server yet: one that is away shows at first use.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	target, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	s := &Store{url: url, log: o.Logger}
	if target.path != "" {
		s.engine, err = openSQLite(ctx, target.path)
	} else {
		s.engine, err = openMySQL(target.mysql, o.Logger)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open store %q: %w", Redact(url), Wrap(err))
	}
	return s, nil
}

// Close closes every connection. Transactions that run are waited for.
func (s *Store) Close() error { return s.engine.close() }

// Dialect tells which database this is, for the few statements that differ.
func (s *Store) Dialect() Dialect { return s.engine.dialect() }

// DB is the pool for reads; in SQLite its connections refuse to write. Pass errors from it through Wrap.
func (s *Store) DB() *sql.DB { return s.engine.reads() }

// Now is the database's clock, which all hosts share.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var ms int64
	if err := s.DB().QueryRowContext(ctx, `SELECT `+s.Dialect().NowMS()).Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("cannot read the database's clock: %w", Wrap(err))
	}
	return fromMS(ms), nil
}

// Write runs fn in a transaction and commits it. fn may run more than once (MySQL deadlocks) and must leave Commit and
// Rollback alone. Waiting for other writers ends with ctx, in ErrUnavailable. After an error from SQLite nothing was written;
// a MySQL connection lost during the commit leaves that open.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	err := s.engine.write(ctx, func(tx *sql.Tx) error {
		if err := fn(&Tx{Tx: tx, ctx: ctx, dialect: s.Dialect()}); err != nil {
			return err
		}
		return ctx.Err() // nothing is committed once nobody waits for it
	})
	if err != nil && ctx.Err() != nil && !isOurs(err) {
		// The transaction was rolled back under fn, which drivers tell in many ways.
		err = fmt.Errorf("%w: %v", ctx.Err(), err)
	}
	return Wrap(err)
}

// snapshot runs fn on one consistent state of the database.
func (s *Store) snapshot(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.DB().BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return Wrap(err)
	}
	defer tx.Rollback()
	return Wrap(fn(tx))
}

// Tx is a write transaction of Store.Write.
type Tx struct {
	*sql.Tx
	ctx     context.Context
	dialect Dialect
}

// Dialect tells which database this is, for the few statements that differ.
func (tx *Tx) Dialect() Dialect { return tx.dialect }

// NowMS is the database's clock in Unix milliseconds.
func (tx *Tx) NowMS() (int64, error) {
	var ms int64
	err := tx.QueryRowContext(tx.ctx, `SELECT `+tx.dialect.NowMS()).Scan(&ms)
	return ms, err
}

// Change appends to the changes feed. It locks the feed's counter until the transaction ends: call it last.
func (tx *Tx) Change(kind, tenant, subject, detail string) error {
	if err := tx.exec(`UPDATE changes_head SET n = n + 1 WHERE id = 1`); err != nil {
		return err
	}
	return tx.exec(`INSERT INTO changes (n, tenant, kind, subject, detail, at)
		SELECT n, ?, ?, ?, ?, `+tx.dialect.NowMS()+` FROM changes_head WHERE id = 1`, tenant, kind, subject, detail)
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.ExecContext(tx.ctx, query, args...)
	return err
}

// affected runs query and returns how many rows it matched.
func (tx *Tx) affected(query string, args ...any) (int, error) {
	res, err := tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// mustAffect is exec for one row that has to be there.
func (tx *Tx) mustAffect(query string, args ...any) error {
	n, err := tx.affected(query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

func (tx *Tx) scan(query string, args []any, into ...any) error {
	return tx.QueryRowContext(tx.ctx, query, args...).Scan(into...)
}
