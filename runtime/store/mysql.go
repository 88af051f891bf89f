package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	mysqlDial     = 5 * time.Second
	mysqlTalk     = 30 * time.Second // a server that says nothing for so long is gone; statements of ours take far less
	mysqlConns    = 16
	mysqlConnLife = 30 * time.Minute // well below the server's wait_timeout
	mysqlAttempts = 8                // of a transaction that keeps losing deadlocks
)

type mysqlEngine struct {
	db  *sql.DB
	cfg *mysql.Config
	log *slog.Logger
}

func openMySQL(t mysqlTarget, logger *slog.Logger) (*mysqlEngine, error) {
	cfg := mysqlConfig(t)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(mysqlConns)
	db.SetMaxIdleConns(mysqlConns / 2)
	db.SetConnMaxLifetime(mysqlConnLife)
	return &mysqlEngine{db: db, cfg: cfg, log: logger}, nil
}

// mysqlConfig makes a server behave as our SQL expects, whatever its own settings: nothing is cut silently, an update counts
// the rows that it found (as SQLite does), and lock waits end before a sender's patience.
func mysqlConfig(t mysqlTarget) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = t.user, t.password, "tcp", t.addr, t.database
	cfg.Collation = "utf8mb4_bin"
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = mysqlDial, mysqlTalk, mysqlTalk
	cfg.ClientFoundRows = true
	cfg.InterpolateParams = true // one round trip a statement; safe with utf8mb4
	cfg.Params = map[string]string{
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"time_zone":                "'+00:00'",
		"innodb_lock_wait_timeout": "2",
	}
	cfg.Logger = log.New(io.Discard, "", 0) // it logs what it also returns
	return cfg
}

func (e *mysqlEngine) dialect() Dialect { return MySQL }
func (e *mysqlEngine) reads() *sql.DB   { return e.db }
func (e *mysqlEngine) close() error     { return e.db.Close() }

// write retries what InnoDB undid for another transaction's sake: deadlocks and lock waits. Nothing else is retried, since a
// connection lost during the commit leaves open whether it happened.
func (e *mysqlEngine) write(ctx context.Context, fn func(*sql.Tx) error) error {
	for attempt := 1; ; attempt++ {
		tx, err := e.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		err = finish(tx, fn)
		if !lostRace(err) || attempt == mysqlAttempts {
			return err
		}
		e.log.Debug("transaction lost a race, trying again", "attempt", attempt, "cause", err)
		pause := time.Duration(rand.Int64N(int64(attempt * int(5*time.Millisecond))))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func lostRace(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && (my.Number == 1213 || my.Number == 1205)
}

// migrating holds a named lock of the server in a connection of its own. Its pool has no read timeout: a migration may take
// long on a large table.
func (e *mysqlEngine) migrating(ctx context.Context, fn func(*sql.DB) error) error {
	cfg := e.cfg.Clone()
	cfg.ReadTimeout = 0
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // which frees the lock
	// Names of locks are the server's, not the database's, and have 64 characters at most.
	name := fmt.Sprintf("kms-migrate-%x", sha256.Sum256([]byte(cfg.DBName)))[:60]
	for got := (sql.NullInt64{}); got.Int64 != 1; {
		if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(?, 1)`, name).Scan(&got); err != nil {
			return err
		}
	}
	return fn(db)
}
