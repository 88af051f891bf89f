package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// The kinds and states of a release.
const (
	ReleaseDeploy   = "deploy"
	ReleaseRollback = "rollback"
	ReleaseRetire   = "retire"

	ReleaseRunning    = "running"
	ReleaseDone       = "done"
	ReleaseFailed     = "failed"
	ReleaseSuperseded = "superseded" // queued while the database was away, and a newer one existed on its return
)

// Release is an entry in the ledger: Version serves Build from now on, and how that went. Higher IDs are newer.
type Release struct {
	ID                                                               int64
	Version, Build, Previous, Kind, State, Who, Message, Node, Error string
	StartedAt, FinishedAt                                            time.Time
	Steps                                                            []Step
}

// Step is one step of a release, in the order they ran.
type Step struct {
	Name   string        `json:"name"`
	State  string        `json:"state"`
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took"` // nanoseconds
	Detail string        `json:"detail,omitempty"`
}

// PutRelease adds a release when ID is 0 and sets it anew otherwise; it returns the ID. A zero StartedAt becomes now.
func (s *Store) PutRelease(ctx context.Context, r Release) (int64, error) {
	err := firstError(names.Version(r.Version), oneOf("release kind", r.Kind, ReleaseDeploy, ReleaseRollback, ReleaseRetire),
		oneOf("release state", r.State, ReleaseRunning, ReleaseDone, ReleaseFailed, ReleaseSuperseded))
	var steps []byte
	if err == nil {
		steps, err = json.Marshal(r.Steps)
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error { return tx.putRelease(&r, string(steps)) })
	}
	if err != nil {
		return 0, fmt.Errorf("cannot store a release of version %q: %w", r.Version, err)
	}
	return r.ID, nil
}

func (tx *Tx) putRelease(r *Release, steps string) error {
	started := toNullMS(r.StartedAt)
	if !started.Valid {
		now, err := tx.NowMS()
		if err != nil {
			return err
		}
		started = sql.NullInt64{Int64: now, Valid: true}
	}
	args := []any{r.Version, r.Build, r.Previous, r.Kind, r.State, clip(r.Who, 255), clip(r.Message, maxText), r.Node,
		clip(r.Error, maxText), started, toNullMS(r.FinishedAt), steps}
	if r.ID != 0 {
		return tx.mustAffect(`UPDATE releases SET version = ?, build = ?, previous = ?, kind = ?, state = ?, who = ?, message = ?,
			node = ?, error = ?, started_at = ?, finished_at = ?, steps = ? WHERE id = ?`, append(args, r.ID)...)
	}
	res, err := tx.ExecContext(tx.ctx, `INSERT INTO releases (version, build, previous, kind, state, who, message, node, error,
		started_at, finished_at, steps) VALUES `+placeholders(len(args), 1), args...)
	if err == nil {
		r.ID, err = res.LastInsertId()
	}
	return err
}

// Release returns one release, or ErrNotFound.
func (s *Store) Release(ctx context.Context, id int64) (Release, error) {
	r, err := scanRelease(s.DB().QueryRowContext(ctx, `SELECT `+releaseColumns+` FROM releases WHERE id = ?`, id))
	if err != nil {
		return Release{}, fmt.Errorf("cannot read release %d: %w", id, Wrap(err))
	}
	return r, nil
}

// Releases returns at most limit releases, newest first: of one version, or of all when version is empty.
func (s *Store) Releases(ctx context.Context, version string, limit int) ([]Release, error) {
	where, args := ``, []any{}
	if version != "" {
		where, args = ` WHERE version = ?`, append(args, version)
	}
	list, err := collect(ctx, s.DB(), scanRelease, `SELECT `+releaseColumns+` FROM releases`+where+` ORDER BY id DESC LIMIT ?`,
		append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("cannot list releases: %w", err)
	}
	return list, nil
}

const releaseColumns = `id, version, build, previous, kind, state, who, message, node, error, started_at, finished_at, steps`

func scanRelease(row scanner) (Release, error) {
	var r Release
	var started int64
	var finished sql.NullInt64
	var steps []byte
	err := row.Scan(&r.ID, &r.Version, &r.Build, &r.Previous, &r.Kind, &r.State, &r.Who, &r.Message, &r.Node, &r.Error,
		&started, &finished, &steps)
	if err != nil {
		return r, err
	}
	r.StartedAt, r.FinishedAt = fromMS(started), fromNullMS(finished)
	return r, json.Unmarshal(steps, &r.Steps)
}
