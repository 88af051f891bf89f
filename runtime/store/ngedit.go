package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

const (
	// ngBatch is how many entries go into one statement; SQLite takes 32,766 values at most, and long statements help little.
	ngBatch = 200
	// ngStep is how many entries go into one transaction: some 10 ms, so that chat does not wait for a list.
	ngStep = 1000
	// ngClaim is how long an editor may be silent between two transactions before another takes over, in milliseconds.
	ngClaim = 20_000
)

// NGEdit is a change of a list. The list (empty: the default one) is made by its first change of settings; the default list by
// any change.
type NGEdit struct {
	Tenant, List string
	Base         int64 // the revision that the caller saw: ErrConflict when it is another by now; -1 takes any
	Author       string
	Message      string
	Add          []NGEntry   // to add, or to set anew
	Remove       []string    // words; Add wins
	Replace      *[]NGEntry  // instead of both: exactly these
	Settings     *NGSettings // nil leaves them alone
	DryRun       bool        // tell what would change, change nothing
}

// NGChanged is what a change did. A changed entry stands in both Added and Removed. Revision is the old one if nothing changed.
type NGChanged struct {
	Revision       int64
	Added, Removed []NGEntry
	Settings       *NGSettings // nil: as they were
}

func (c NGChanged) nothing() bool { return len(c.Added)+len(c.Removed) == 0 && c.Settings == nil }

// NGChange applies an edit as one revision, in force for all readers at once. More than a thousand entries are written in
// small transactions under a claim on the list, so that other writers get their turn; whoever changes the list meanwhile gets
// ErrConflict. Beyond MaxNGWords or MaxNGLists it is ErrLimit.
func (s *Store) NGChange(ctx context.Context, e NGEdit) (NGChanged, error) {
	e.List = orElse(e.List, NGDefault)
	err := e.check()
	var done NGChanged
	switch {
	case err != nil:
	case e.DryRun:
		done, err = s.ngPlan(ctx, e)
	case e.Replace == nil && len(e.Add)+len(e.Remove) <= ngStep:
		err = s.Write(ctx, func(tx *Tx) (err error) {
			done, err = tx.ngChange(e)
			return err
		})
	default:
		done, err = s.ngChangeInSteps(ctx, e)
	}
	if err != nil {
		return NGChanged{}, fmt.Errorf("cannot change NG list %q of tenant %q: %w", e.List, e.Tenant, err)
	}
	return done, nil
}

// NGRollback makes a list what it was at an earlier revision, settings included, as a new revision. Of the edit it takes
// Tenant, List, Base, Author, Message and DryRun.
func (s *Store) NGRollback(ctx context.Context, e NGEdit, revision int64) (NGChanged, error) {
	then, err := s.NGReadAt(ctx, e.Tenant, orElse(e.List, NGDefault), revision)
	if err != nil {
		return NGChanged{}, err
	}
	e.Add, e.Remove, e.Replace, e.Settings = nil, nil, &then.Entries, &then.Settings
	return s.NGChange(ctx, e)
}

// NGDeleteList removes a list with its history: ErrInUse for the default list and for a base list that others include.
func (s *Store) NGDeleteList(ctx context.Context, tenant, list string, base int64) error {
	err := s.Write(ctx, func(tx *Tx) error {
		if list == NGDefault && tenant != NGBase {
			return fmt.Errorf("every tenant has it: %w", ErrInUse)
		}
		if _, err := tx.ngOpen(NGEdit{Tenant: tenant, List: list, Base: base}, ""); err != nil {
			return err
		}
		if err := tx.ngUnused(tenant, list); err != nil {
			return err
		}
		for _, table := range []string{"ng_entries", "ng_revisions"} {
			if err := tx.exec(`DELETE FROM `+table+` WHERE tenant = ? AND list = ?`, tenant, list); err != nil {
				return err
			}
		}
		if err := tx.exec(`DELETE FROM ng_lists WHERE tenant = ? AND name = ?`, tenant, list); err != nil {
			return err
		}
		return tx.Change(ChangeNGWord, tenant, list, "")
	})
	if err != nil {
		return fmt.Errorf("cannot delete NG list %q of tenant %q: %w", list, tenant, err)
	}
	return nil
}

func (tx *Tx) ngUnused(tenant, list string) error {
	if tenant != NGBase {
		return nil
	}
	lists, err := collect(tx.ctx, tx, scanNGList, `SELECT tenant, name, revision, words, settings FROM ng_lists WHERE settings <> ''`)
	for _, l := range lists {
		if slices.Contains(l.Settings.Include, list) {
			return fmt.Errorf("list %q of tenant %q includes it: %w", l.Name, l.Tenant, ErrInUse)
		}
	}
	return err
}

func (e NGEdit) check() error {
	err := ngListName(e.List)
	if e.Tenant != NGBase {
		err = firstError(names.AnyTenant(e.Tenant), err)
	}
	if e.Settings != nil {
		err = firstError(err, e.Settings.Check())
	}
	entries := e.Add
	if e.Replace != nil {
		entries = *e.Replace
	}
	for _, entry := range entries {
		err = firstError(err, entry.Check())
	}
	if err == nil && e.Tenant == NGBase && slices.Contains(NGShipped, e.List) {
		err = fmt.Errorf("it comes with KMS and cannot be changed: %w", ErrInUse)
	}
	return err
}

// next is what the list holds after the edit, of what it holds now.
func (e NGEdit) next(old map[string]NGEntry) map[string]NGEntry {
	next := make(map[string]NGEntry, len(old)+len(e.Add))
	add := e.Add
	if e.Replace != nil {
		add = *e.Replace
	} else {
		for word, entry := range old {
			next[word] = entry
		}
		for _, word := range e.Remove {
			delete(next, word)
		}
	}
	for _, entry := range add {
		next[entry.Word] = entry.WithDefaults()
	}
	return next
}

// change compares the edit with what the list holds: all of it, or at least the words that the edit names.
func (e NGEdit) change(head NGList, entries []NGEntry) (NGChanged, error) {
	old := make(map[string]NGEntry, len(entries))
	for _, entry := range entries {
		old[entry.Word] = entry
	}
	next := e.next(old)
	done := NGChanged{Revision: head.Revision}
	done.Added, done.Removed = ngDiff(old, next)
	if e.Settings != nil {
		if settings := e.Settings.WithDefaults(); head.Revision == 0 || !reflect.DeepEqual(settings, head.Settings) {
			done.Settings = &settings
		}
	}
	if head.Words+len(next)-len(old) > MaxNGWords {
		return NGChanged{}, fmt.Errorf("%w: a list holds at most %d words", ErrLimit, MaxNGWords)
	}
	if !done.nothing() {
		done.Revision++
	}
	return done, nil
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

func (s *Store) ngPlan(ctx context.Context, e NGEdit) (NGChanged, error) {
	head, err := s.NGRead(ctx, e.Tenant, e.List)
	if errors.Is(err, ErrNotFound) && e.Settings != nil {
		head, err = untouchedNG(e.Tenant, e.List), nil
	}
	if err == nil {
		err = e.checkBase(head.Revision)
	}
	if err != nil {
		return NGChanged{}, err
	}
	return e.change(head, head.Entries)
}

func (e NGEdit) checkBase(revision int64) error {
	if e.Base >= 0 && e.Base != revision {
		return fmt.Errorf("%w: the list is at revision %d, not %d", ErrConflict, revision, e.Base)
	}
	return nil
}

// ngChange is a small edit in one transaction. It reads only the entries that the edit names.
func (tx *Tx) ngChange(e NGEdit) (NGChanged, error) {
	head, err := tx.ngOpen(e, "")
	if err != nil {
		return NGChanged{}, err
	}
	touched := slices.Clone(e.Remove)
	for _, entry := range e.Add {
		touched = append(touched, entry.Word)
	}
	var old []NGEntry
	for batch := range slices.Chunk(touched, ngBatch) {
		page, err := collect(tx.ctx, tx, scanNGEntry, `SELECT word, kind, action, mode FROM ng_entries
			WHERE tenant = ? AND list = ? AND removed = 0 AND word IN `+placeholders(len(batch), 1), ngArgs(e, batch)...)
		if err != nil {
			return NGChanged{}, err
		}
		old = append(old, page...)
	}
	done, err := e.change(head, old)
	if err != nil || done.nothing() {
		return done, err
	}
	if err := tx.ngApply(e, done.Revision, done.Added, done.Removed); err != nil {
		return NGChanged{}, err
	}
	return done, tx.ngClose(e, head, done)
}

// ngChangeInSteps is a large edit: claim the list, write what nobody reads yet in small transactions, and let it come into force.
func (s *Store) ngChangeInSteps(ctx context.Context, e NGEdit) (NGChanged, error) {
	editor := newID(16)
	err := s.Write(ctx, func(tx *Tx) error {
		_, err := tx.ngOpen(e, editor)
		return err
	})
	if err != nil {
		return NGChanged{}, err
	}
	done, err := s.ngSteps(ctx, e, editor)
	if err != nil || done.nothing() {
		// Whoever comes next would tidy up as well, but only after the claim has run out.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, s.Write(ctx, func(tx *Tx) error { return tx.ngAbandon(e, editor) }))
	}
	return done, err
}

func (s *Store) ngSteps(ctx context.Context, e NGEdit, editor string) (NGChanged, error) {
	head, err := s.NGRead(ctx, e.Tenant, e.List) // nobody else changes it now
	if err != nil {
		return NGChanged{}, err
	}
	done, err := e.change(head, head.Entries)
	if err != nil || done.nothing() {
		return done, err
	}
	write := func(added, removed []NGEntry) error {
		return s.Write(ctx, func(tx *Tx) error {
			if err := tx.ngHold(e, editor); err != nil {
				return err
			}
			return tx.ngApply(e, done.Revision, added, removed)
		})
	}
	for step := range slices.Chunk(done.Removed, ngStep) {
		if err := write(nil, step); err != nil {
			return NGChanged{}, err
		}
	}
	for step := range slices.Chunk(done.Added, ngStep) {
		if err := write(step, nil); err != nil {
			return NGChanged{}, err
		}
	}
	return done, s.Write(ctx, func(tx *Tx) error {
		if err := tx.ngHold(e, editor); err != nil {
			return err
		}
		return tx.ngClose(e, head, done)
	})
}

// ngOpen holds the list's row until the transaction ends, makes it at its first change, and claims it for an editor who will
// need several transactions. What a dead editor left is removed.
func (tx *Tx) ngOpen(e NGEdit, editor string) (NGList, error) {
	if e.Tenant != NGBase {
		if err := tx.holdTenant(e.Tenant); err != nil {
			return NGList{}, err
		}
	}
	if err := tx.ngIncludes(e); err != nil {
		return NGList{}, err
	}
	head, other, until, err := tx.ngLock(e)
	if err != nil {
		return NGList{}, err
	}
	now, err := tx.NowMS()
	if err != nil {
		return NGList{}, err
	}
	if other != "" {
		if until > now {
			return NGList{}, fmt.Errorf("%w: somebody else is changing it right now", ErrConflict)
		}
		if err := tx.ngSweep(e, head.Revision); err != nil {
			return NGList{}, err
		}
	}
	if err := e.checkBase(head.Revision); err != nil {
		return NGList{}, err
	}
	if editor != "" || other != "" {
		err = tx.exec(`UPDATE ng_lists SET editor = ?, edit_until = ? WHERE tenant = ? AND name = ?`, editor, now+ngClaim, e.Tenant, e.List)
	}
	return head, err
}

// ngIncludes makes sure that the base lists are there.
func (tx *Tx) ngIncludes(e NGEdit) error {
	if e.Settings == nil {
		return nil
	}
	for _, list := range e.Settings.Include {
		if slices.Contains(NGShipped, list) {
			continue
		}
		var one int
		err := Wrap(tx.scan(`SELECT 1 FROM ng_lists WHERE tenant = ? AND name = ?`+tx.dialect.forShare(), []any{NGBase, list}, &one))
		if err != nil {
			return fmt.Errorf("base list %q: %w", list, err)
		}
	}
	return nil
}

func (tx *Tx) ngLock(e NGEdit) (head NGList, editor string, until int64, err error) {
	lock := func() error {
		var settings string
		head = NGList{Tenant: e.Tenant, Name: e.List}
		err := tx.scan(`SELECT revision, words, settings, editor, edit_until FROM ng_lists WHERE tenant = ? AND name = ?`+
			tx.dialect.ForUpdate(), []any{e.Tenant, e.List}, &head.Revision, &head.Words, &settings, &editor, &until)
		if err == nil {
			head.Settings, err = parseNGSettings(settings)
		}
		return err
	}
	if err = lock(); !errors.Is(err, sql.ErrNoRows) || e.List != NGDefault && e.Settings == nil {
		return head, editor, until, Wrap(err)
	}
	var lists int
	if err := tx.scan(`SELECT COUNT(*) FROM ng_lists WHERE tenant = ?`, []any{e.Tenant}, &lists); err != nil {
		return head, "", 0, err
	}
	if lists >= MaxNGLists {
		return head, "", 0, fmt.Errorf("%w: a tenant has at most %d NG lists", ErrLimit, MaxNGLists)
	}
	err = tx.exec(`INSERT INTO ng_lists (tenant, name, revision, words, settings, editor, edit_until) VALUES (?, ?, 0, 0, '', '', 0)`,
		e.Tenant, e.List)
	if err != nil && !IsDuplicate(err) {
		return head, "", 0, err
	}
	return head, editor, until, lock()
}

// ngHold makes sure that the list is still the editor's, and prolongs the claim.
func (tx *Tx) ngHold(e NGEdit, editor string) error {
	err := tx.mustAffect(`UPDATE ng_lists SET edit_until = `+tx.dialect.NowMS()+` + ? WHERE tenant = ? AND name = ? AND editor = ?`,
		ngClaim, e.Tenant, e.List, editor)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: it took too long, and somebody else has changed the list", ErrConflict)
	}
	return err
}

func (tx *Tx) ngAbandon(e NGEdit, editor string) error {
	var revision int64
	err := tx.scan(`SELECT revision FROM ng_lists WHERE tenant = ? AND name = ? AND editor = ?`+tx.dialect.ForUpdate(),
		[]any{e.Tenant, e.List, editor}, &revision)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it is another's by now
	}
	if err == nil {
		err = tx.ngSweep(e, revision)
	}
	if err == nil {
		err = tx.exec(`UPDATE ng_lists SET editor = '' WHERE tenant = ? AND name = ?`, e.Tenant, e.List)
	}
	return err
}

// ngSweep removes what was written for a revision that never came into force.
func (tx *Tx) ngSweep(e NGEdit, revision int64) error {
	err := tx.exec(`DELETE FROM ng_entries WHERE tenant = ? AND list = ? AND added > ?`, e.Tenant, e.List, revision)
	if err == nil {
		err = tx.exec(`UPDATE ng_entries SET removed = 0 WHERE tenant = ? AND list = ? AND removed > ?`, e.Tenant, e.List, revision)
	}
	return err
}

func (tx *Tx) ngApply(e NGEdit, revision int64, added, removed []NGEntry) error {
	for batch := range slices.Chunk(removed, ngBatch) {
		args := []any{revision}
		words := make([]string, 0, len(batch))
		for _, entry := range batch {
			words = append(words, entry.Word)
		}
		err := tx.exec(`UPDATE ng_entries SET removed = ? WHERE tenant = ? AND list = ? AND removed = 0 AND word IN `+
			placeholders(len(batch), 1), append(args, ngArgs(e, words)...)...)
		if err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(added, ngBatch) {
		var args []any
		for _, entry := range batch {
			args = append(args, e.Tenant, e.List, entry.Word, revision, 0, entry.Kind, entry.Action, entry.Mode)
		}
		err := tx.exec(`INSERT INTO ng_entries (tenant, list, word, added, removed, kind, action, mode) VALUES `+
			placeholders(8, len(batch)), args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// ngClose brings a revision into force.
func (tx *Tx) ngClose(e NGEdit, head NGList, done NGChanged) error {
	settings := ""
	if done.Settings != nil {
		text, err := json.Marshal(done.Settings)
		if err != nil {
			return err
		}
		settings = string(text)
		if err := tx.exec(`UPDATE ng_lists SET settings = ? WHERE tenant = ? AND name = ?`, settings, e.Tenant, e.List); err != nil {
			return err
		}
	}
	err := tx.exec(`UPDATE ng_lists SET revision = ?, words = ?, editor = '' WHERE tenant = ? AND name = ?`,
		done.Revision, head.Words+len(done.Added)-len(done.Removed), e.Tenant, e.List)
	if err != nil {
		return err
	}
	err = tx.exec(`INSERT INTO ng_revisions (tenant, list, revision, author, message, at, added, removed, settings)
		VALUES (?, ?, ?, ?, ?, `+tx.dialect.NowMS()+`, ?, ?, ?)`, e.Tenant, e.List, done.Revision,
		clip(e.Author, 255), clip(e.Message, maxText), len(done.Added), len(done.Removed), settings)
	if err != nil {
		return err
	}
	return tx.Change(ChangeNGWord, e.Tenant, e.List, "")
}

func ngArgs(e NGEdit, words []string) []any {
	args := []any{e.Tenant, e.List}
	for _, word := range words {
		args = append(args, word)
	}
	return args
}
