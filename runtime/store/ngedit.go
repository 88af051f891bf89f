package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ngBatch is how many entries go into one statement; SQLite takes 32,766 values at most, and long statements help little.
const ngBatch = 200

// ngEdit applies one edit, given as a function from the old list to the next, as one revision.
func (s *Store) ngEdit(ctx context.Context, tenant string, base int64, check []NGEntry, author, message string,
	edit func(map[string]NGEntry) map[string]NGEntry) (int64, error) {
	var revision int64
	err := checkNG(check)
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) (err error) {
			revision, err = tx.ngEdit(tenant, base, author, message, edit)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("cannot change NG words of tenant %q: %w", tenant, err)
	}
	return revision, nil
}

func checkNG(entries []NGEntry) error {
	for _, e := range entries {
		if err := e.withDefaults().check(); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) ngEdit(tenant string, base int64, author, message string, edit func(map[string]NGEntry) map[string]NGEntry) (int64, error) {
	if err := tx.holdTenant(tenant); err != nil {
		return 0, err
	}
	revision, err := tx.lockNGList(tenant)
	if err != nil {
		return 0, err
	}
	if base >= 0 && base != revision {
		return 0, fmt.Errorf("%w: the list is at revision %d, not %d", ErrConflict, revision, base)
	}
	entries, err := collect(tx.ctx, tx, scanNGEntry, `SELECT word, kind, action, mode FROM ng_entries WHERE tenant = ? AND list = ?`,
		tenant, defaultList)
	if err != nil {
		return 0, err
	}
	old := make(map[string]NGEntry, len(entries))
	for _, e := range entries {
		old[e.Word] = e
	}
	added, removed := ngDiff(old, edit(old))
	if len(added)+len(removed) == 0 {
		return revision, nil
	}
	if err := tx.ngApply(tenant, added, removed); err != nil {
		return 0, err
	}
	return revision + 1, tx.ngRevision(tenant, NGRevision{revision + 1, author, message, fromMS(0), added, removed})
}

// lockNGList holds the list, made at its first change, until the transaction ends.
func (tx *Tx) lockNGList(tenant string) (int64, error) {
	var revision int64
	lock := func() error {
		return tx.scan(`SELECT revision FROM ng_lists WHERE tenant = ? AND name = ?`+tx.dialect.ForUpdate(),
			[]any{tenant, defaultList}, &revision)
	}
	err := lock()
	if !errors.Is(err, sql.ErrNoRows) {
		return revision, err
	}
	err = tx.exec(`INSERT INTO ng_lists (tenant, name, revision) VALUES (?, ?, 0)`, tenant, defaultList)
	if err != nil && !IsDuplicate(err) {
		return 0, err
	}
	err = lock()
	return revision, err
}

// ngDiff returns in the order of words what next has beyond old and the other way round.
func ngDiff(old, next map[string]NGEntry) (added, removed []NGEntry) {
	for word, e := range next {
		if before, ok := old[word]; !ok || before != e {
			added = append(added, e)
		}
	}
	for word, e := range old {
		if after, ok := next[word]; !ok || after != e {
			removed = append(removed, e)
		}
	}
	byWord := func(a, b NGEntry) int { return cmp.Compare(a.Word, b.Word) }
	slices.SortFunc(added, byWord)
	slices.SortFunc(removed, byWord)
	return added, removed
}

func (tx *Tx) ngApply(tenant string, added, removed []NGEntry) error {
	for batch := range slices.Chunk(removed, ngBatch) {
		args := []any{tenant, defaultList}
		for _, e := range batch {
			args = append(args, e.Word)
		}
		err := tx.exec(`DELETE FROM ng_entries WHERE tenant = ? AND list = ? AND word IN `+placeholders(len(batch), 1), args...)
		if err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(added, ngBatch) {
		var args []any
		for _, e := range batch {
			args = append(args, tenant, defaultList, e.Word, e.Kind, e.Action, e.Mode)
		}
		err := tx.exec(`INSERT INTO ng_entries (tenant, list, word, kind, action, mode) VALUES `+placeholders(6, len(batch)), args...)
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) ngRevision(tenant string, r NGRevision) error {
	added, err := json.Marshal(r.Added)
	if err != nil {
		return err
	}
	removed, err := json.Marshal(r.Removed)
	if err != nil {
		return err
	}
	err = tx.exec(`UPDATE ng_lists SET revision = ? WHERE tenant = ? AND name = ?`, r.Revision, tenant, defaultList)
	if err != nil {
		return err
	}
	err = tx.exec(`INSERT INTO ng_revisions (tenant, list, revision, author, message, at, added, removed)
		VALUES (?, ?, ?, ?, ?, `+tx.dialect.NowMS()+`, ?, ?)`,
		tenant, defaultList, r.Revision, clip(r.Author, 255), clip(r.Message, maxText), string(added), string(removed))
	if err != nil {
		return err
	}
	return tx.Change(ChangeNGWord, tenant, defaultList, "")
}

func scanNGRevision(row scanner) (NGRevision, error) {
	var r NGRevision
	var at int64
	var added, removed []byte
	if err := row.Scan(&r.Revision, &r.Author, &r.Message, &at, &added, &removed); err != nil {
		return r, err
	}
	r.At = fromMS(at)
	if err := json.Unmarshal(added, &r.Added); err != nil {
		return r, err
	}
	return r, json.Unmarshal(removed, &r.Removed)
}
