package store

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// Build is one immutable server binary, by the sha256 of its bytes, and what it said of itself.
type Build struct {
	Digest, Label, Version         string
	Contract, SchemaMin, SchemaMax int
	Size                           int64
	CreatedAt                      time.Time
	By                             string
}

// PutBuild records a build. The same digest is the same build: what was recorded first stays, but for its label.
func (s *Store) PutBuild(ctx context.Context, b Build) error {
	err := firstError(names.Digest(b.Digest), names.Version(b.Version))
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			now, err := tx.NowMS()
			if err != nil {
				return err
			}
			err = tx.exec(`INSERT INTO builds (`+buildColumns+`) VALUES `+placeholders(9, 1), b.Digest, clip(b.Label, 255), b.Version,
				b.Contract, b.SchemaMin, b.SchemaMax, b.Size, now, clip(b.By, 255))
			if IsDuplicate(err) {
				return tx.exec(`UPDATE builds SET label = ? WHERE digest = ?`, clip(b.Label, 255), b.Digest)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("cannot store build %q: %w", b.Digest, err)
	}
	return nil
}

// Build returns one build by its whole digest, or ErrNotFound.
func (s *Store) Build(ctx context.Context, digest string) (Build, error) {
	b, err := scanBuild(s.DB().QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE digest = ?`, digest))
	if err != nil {
		return Build{}, fmt.Errorf("cannot read build %q: %w", digest, Wrap(err))
	}
	return b, nil
}

// Builds returns all builds, newest first.
func (s *Store) Builds(ctx context.Context) ([]Build, error) {
	list, err := collect(ctx, s.DB(), scanBuild, `SELECT `+buildColumns+` FROM builds ORDER BY created_at DESC, digest`)
	if err != nil {
		return nil, fmt.Errorf("cannot list builds: %w", err)
	}
	return list, nil
}

// DeleteBuild forgets a build: ErrInUse while a version that is live wants it.
func (s *Store) DeleteBuild(ctx context.Context, digest string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		var n int
		err := tx.scan(`SELECT COUNT(*) FROM versions WHERE build = ? AND state <> ?`, []any{digest, VersionRetired}, &n)
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrInUse
		}
		return tx.mustAffect(`DELETE FROM builds WHERE digest = ?`, digest)
	})
	if err != nil {
		return fmt.Errorf("cannot delete build %q: %w", digest, err)
	}
	return nil
}

const buildColumns = `digest, label, version, contract, schema_min, schema_max, size, created_at, created_by`

func scanBuild(row scanner) (Build, error) {
	var b Build
	var created int64
	err := row.Scan(&b.Digest, &b.Label, &b.Version, &b.Contract, &b.SchemaMin, &b.SchemaMax, &b.Size, &created, &b.By)
	b.CreatedAt = fromMS(created)
	return b, err
}
