package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The values of an NG entry's fields. Whoever reads another value treats it as the strictest: a word, rejected, as substring.
const (
	NGWord  = "word"
	NGAllow = "allow"

	NGReject = "reject"
	NGMask   = "mask"
	NGFlag   = "flag"   // deliver and report
	NGShadow = "shadow" // only the sender sees it

	NGModeAuto      = "auto"
	NGModeWord      = "word"
	NGModeSubstring = "substring"
)

// MaxNGWord bounds an NG word, in code points.
const MaxNGWord = 100

// defaultList is the one list of a tenant that the methods here work on; the schema has room for more, and for base lists.
const defaultList = "default"

// NGEntry is a forbidden word, or one of the allow-list. Word is its key in the list, bytewise.
type NGEntry struct {
	Word   string `json:"word"`
	Kind   string `json:"kind"`
	Action string `json:"action"`
	Mode   string `json:"mode"`
}

// NGSettings are a list's settings; they are part of its revisions. Whoever reads a value that he does not know takes the strictest.
type NGSettings struct {
	// Scopes are what the list judges: messages in channels of the kinds world, guild and direct, and NGScopeName. Empty: all.
	Scopes []string `json:"scopes"`
	// Include names the base lists that judge along with it. Nil stands for those that KMS brings along, empty for none.
	Include []string `json:"include"`
	// Spacing says when a Latin word with separators between its letters counts: one of the NGSpacing values.
	Spacing string `json:"spacing"`
	// LookAlikes says whether digits, symbols and letters of other scripts count for the Latin letters that they look like: NGOn or NGOff.
	LookAlikes string `json:"look_alikes"`
}

// The values of NGSettings' fields.
const (
	NGScopeName = "name" // display names of users, names of channels

	NGSpacingWord = "word" // if the whole begins and ends where words do: `s hit` is one, `push it` is not
	NGSpacingAny  = "any"  // wherever it stands
	NGSpacingOff  = "off"  // never

	NGOn  = "on"
	NGOff = "off"
)

// NGBase is the internal tenant whose lists any tenant may include.
const NGBase = "_base"

// NGList is a list at a revision. Words counts the entries, which a listing leaves out.
type NGList struct {
	Tenant, Name string
	Revision     int64
	Settings     NGSettings
	Words        int
	Entries      []NGEntry
}

// NGRevision is one change of a list. An entry that was changed stands in both Added and Removed.
type NGRevision struct {
	Revision        int64
	Author, Message string
	At              time.Time
	Added, Removed  []NGEntry
}

// NGList returns a tenant's list and its revision; one that nobody has changed yet is empty, with revision 0.
func (s *Store) NGList(ctx context.Context, tenant string) (revision int64, entries []NGEntry, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT revision FROM ng_lists WHERE tenant = ? AND name = ?`, tenant, defaultList).Scan(&revision)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			entries, err = collect(ctx, tx, scanNGEntry, `SELECT word, kind, action, mode FROM ng_entries
				WHERE tenant = ? AND list = ? ORDER BY word`, tenant, defaultList)
		}
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read NG words of tenant %q: %w", tenant, err)
	}
	return revision, entries, nil
}

// NGChange adds (or sets anew) and removes words and returns the list's revision after that: the old one if nothing had to
// change. base is the revision that the caller saw: ErrConflict when it is another by now; -1 takes any.
func (s *Store) NGChange(ctx context.Context, tenant string, base int64, add []NGEntry, remove []string, author, message string) (int64, error) {
	return s.ngEdit(ctx, tenant, base, add, author, message, func(old map[string]NGEntry) map[string]NGEntry {
		next := make(map[string]NGEntry, len(old)+len(add))
		for word, e := range old {
			next[word] = e
		}
		for _, word := range remove {
			delete(next, word)
		}
		for _, e := range add {
			next[e.Word] = e.withDefaults()
		}
		return next
	})
}

// NGReplace is NGChange to exactly these entries.
func (s *Store) NGReplace(ctx context.Context, tenant string, base int64, entries []NGEntry, author, message string) (int64, error) {
	return s.ngEdit(ctx, tenant, base, entries, author, message, func(map[string]NGEntry) map[string]NGEntry {
		next := make(map[string]NGEntry, len(entries))
		for _, e := range entries {
			next[e.Word] = e.withDefaults()
		}
		return next
	})
}

// NGHistory returns the revisions of a tenant's list, newest first.
func (s *Store) NGHistory(ctx context.Context, tenant string) ([]NGRevision, error) {
	list, err := collect(ctx, s.DB(), scanNGRevision, `SELECT revision, author, message, at, added, removed FROM ng_revisions
		WHERE tenant = ? AND list = ? ORDER BY revision DESC`, tenant, defaultList)
	if err != nil {
		return nil, fmt.Errorf("cannot read NG word history of tenant %q: %w", tenant, err)
	}
	return list, nil
}

func (e NGEntry) withDefaults() NGEntry {
	e.Kind, e.Action, e.Mode = orElse(e.Kind, NGWord), orElse(e.Action, NGReject), orElse(e.Mode, NGModeAuto)
	return e
}

func (e NGEntry) check() error {
	bad := e.Word == "" || !utf8.ValidString(e.Word) || utf8.RuneCountInString(e.Word) > MaxNGWord ||
		strings.TrimSpace(e.Word) != e.Word || strings.ContainsFunc(e.Word, unicode.IsControl)
	if bad {
		return fmt.Errorf("bad word %.120q: want 1 to %d characters, no control characters, no space at the ends", e.Word, MaxNGWord)
	}
	err := firstError(oneOf("kind", e.Kind, NGWord, NGAllow), oneOf("action", e.Action, NGReject, NGMask, NGFlag, NGShadow),
		oneOf("mode", e.Mode, NGModeAuto, NGModeWord, NGModeSubstring))
	if err != nil {
		return fmt.Errorf("word %q: %v", e.Word, err)
	}
	return nil
}

func scanNGEntry(row scanner) (NGEntry, error) {
	var e NGEntry
	return e, row.Scan(&e.Word, &e.Kind, &e.Action, &e.Mode)
}
