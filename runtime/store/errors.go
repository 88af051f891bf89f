package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What callers branch on, with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("exists already")
	ErrConflict    = errors.New("changed in the meantime")
	ErrInUse       = errors.New("in use")
	ErrLimit       = errors.New("limit reached")
	ErrExpired     = errors.New("expired")
	ErrUnavailable = errors.New("database unavailable") // away, locked out or full; trying again later is right
	ErrSchemaNewer = errors.New("database schema is newer than this program")
)

// Wrap adds ErrNotFound, ErrExists or ErrUnavailable to what a driver returned; other errors, and nil, pass as they are.
func Wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case isOurs(err):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case IsDuplicate(err):
		return ErrExists // the driver's text names our tables, nothing that helps
	case isUnavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return explained(err)
}

func isOurs(err error) bool {
	for _, ours := range []error{ErrNotFound, ErrExists, ErrConflict, ErrInUse, ErrLimit, ErrExpired, ErrUnavailable, ErrSchemaNewer} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}

// explained adds what an operator has to do to a server's refusal that waiting will not cure.
func explained(err error) error {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		switch my.Number {
		case 1049:
			return fmt.Errorf("%w; create it on the server: CREATE DATABASE ... CHARACTER SET utf8mb4", err)
		case 1044, 1045, 1142:
			return fmt.Errorf("%w; check the user, its password and its grants", err)
		}
	}
	return err
}

// IsDuplicate reports a row that breaks a unique key. Only the statement was undone, not its transaction.
func IsDuplicate(err error) bool {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number == 1062
	}
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// mysqlAway are server errors that end by themselves or by an operator's hand on the server: too many connections, shutdown,
// lock waits, disk full, read only, connection killed.
var mysqlAway = []uint16{1021, 1030, 1040, 1041, 1053, 1114, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1836, 1927, 3024}

func isUnavailable(err error) bool {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return slices.Contains(mysqlAway, my.Number)
	}
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sql.ErrConnDone)
}

// sqliteCode is the extended result code, 0 for any other error.
func sqliteCode(err error) int {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code()
	}
	return 0
}
