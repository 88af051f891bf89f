package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Schema is the newest schema that this program knows. Migrations only add, with defaults.
const Schema = 2

// schemaTable is goose's record of what has been applied.
const schemaTable = "kms_schema"

//go:embed migrations
var migrations embed.FS

// Migrate brings the schema up to Schema, one process at a time; others wait until ctx ends. A newer schema is left alone, with
// ErrSchemaNewer.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.engine.migrating(ctx, func(db *sql.DB) error { return s.migrate(ctx, db) })
	if err != nil {
		return fmt.Errorf("cannot migrate store %q: %w", Redact(s.url), Wrap(err))
	}
	return nil
}

func (s *Store) migrate(ctx context.Context, db *sql.DB) error {
	current, err := schemaOf(ctx, db, s.Dialect())
	if err != nil {
		return err
	}
	if current > Schema {
		return newerError(current, Schema)
	}
	files, err := fs.Sub(migrations, "migrations/"+string(s.Dialect()))
	if err != nil {
		return err
	}
	gooseDialect := goose.DialectSQLite3
	if s.Dialect() == MySQL {
		gooseDialect = goose.DialectMySQL
	}
	provider, err := goose.NewProvider(gooseDialect, db, files, goose.WithTableName(schemaTable),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(s.log))
	if err != nil {
		return err
	}
	applied, err := provider.Up(ctx)
	for _, m := range applied {
		s.log.Info("schema migrated", "to", m.Source.Version, "took", m.Duration)
	}
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		return fmt.Errorf("migration %d: %w", partial.Failed.Source.Version, partial.Err)
	}
	return err
}

// Schema returns the schema that the database has; 0 is an empty one.
func (s *Store) Schema(ctx context.Context) (int, error) {
	n, err := schemaOf(ctx, s.DB(), s.Dialect())
	if err != nil {
		return 0, fmt.Errorf("cannot read the schema of store %q: %w", Redact(s.url), Wrap(err))
	}
	return n, nil
}

func schemaOf(ctx context.Context, db *sql.DB, d Dialect) (int, error) {
	exists := `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?`
	if d == MySQL {
		exists = `SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?`
	}
	var n int
	if err := db.QueryRowContext(ctx, exists, schemaTable).Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM `+schemaTable+` WHERE is_applied`).Scan(&n)
	return n, err
}

// CheckSchema returns an error unless the database's schema lies in the range that a build works with; ErrSchemaNewer when it
// lies above.
func (s *Store) CheckSchema(ctx context.Context, min, max int) error {
	current, err := s.Schema(ctx)
	switch {
	case err != nil:
		return err
	case current > max:
		return newerError(current, max)
	case current < min:
		return fmt.Errorf("database schema %d is older than %d, which this program needs", current, min)
	}
	return nil
}

func newerError(current, known int) error {
	return fmt.Errorf("%w: it is %d, known up to %d", ErrSchemaNewer, current, known)
}
