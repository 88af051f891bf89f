package store

import (
	"database/sql"
	"strings"
	"time"
)

// Dialect is the kind of database, and the SQL text that differs between the two.
type Dialect string

const (
	SQLite Dialect = "sqlite"
	MySQL  Dialect = "mysql"
)

// NowMS is an SQL expression: the database's clock in Unix milliseconds.
func (d Dialect) NowMS() string {
	if d == MySQL {
		return `CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)`
	}
	return `CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER)`
}

// ForUpdate ends a SELECT whose rows stay locked until the transaction ends. SQLite has one writer and needs nothing.
func (d Dialect) ForUpdate() string {
	if d == MySQL {
		return ` FOR UPDATE`
	}
	return ``
}

// forShare ends a SELECT whose rows must not go away before the transaction ends. The old spelling is the one that both
// MySQL 8 and MariaDB know.
func (d Dialect) forShare() string {
	if d == MySQL {
		return ` LOCK IN SHARE MODE`
	}
	return ``
}

// upsert inserts a row, or sets the other columns of the row with the same key. The table may have no second unique key.
func (d Dialect) upsert(table, key, rest string) string {
	cols := strings.Fields(key + " " + rest)
	var b strings.Builder
	b.WriteString("INSERT INTO " + table + " (" + strings.Join(cols, ", ") + ") VALUES " + placeholders(len(cols), 1))
	value := func(col string) string { return "excluded." + col }
	if d == MySQL {
		b.WriteString(" ON DUPLICATE KEY UPDATE ")
		value = func(col string) string { return "VALUES(" + col + ")" }
	} else {
		b.WriteString(" ON CONFLICT (" + strings.Join(strings.Fields(key), ", ") + ") DO UPDATE SET ")
	}
	for i, col := range strings.Fields(rest) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(col + " = " + value(col))
	}
	return b.String()
}

// placeholders returns rows groups of cols question marks.
func placeholders(cols, rows int) string {
	group := "(" + strings.TrimSuffix(strings.Repeat("?, ", cols), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(group+", ", rows), ", ")
}

// Times are Unix milliseconds in every table; NULL is the zero time.

func fromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func fromNullMS(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return fromMS(ms.Int64)
}

func toNullMS(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: true}
}

// clip fits a text that was not checked as a name, such as an error, into a column of n characters in either database.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= n {
		return s
	}
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
