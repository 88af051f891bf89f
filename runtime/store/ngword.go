package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/names"
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

// The values of NGSettings' fields.
const (
	NGScopeName = "name" // display names of users, names of channels

	NGSpacingWord = "word" // if the whole begins and ends where words do: `s hit` is one, `push it` is not
	NGSpacingAny  = "any"  // wherever it stands
	NGSpacingOff  = "off"  // never

	NGOn  = "on"
	NGOff = "off"
)

const (
	MaxNGWord  = 100    // bounds an NG word, in code points
	MaxNGWords = 200000 // bounds a list
	MaxNGLists = 20     // bounds the lists of a tenant

	// NGDefault is the list that every tenant has.
	NGDefault = "default"
	// NGBase is the internal tenant whose lists any tenant may include.
	NGBase = "_base"
)

// NGScopes are all that a list can judge.
var NGScopes = []string{KindWorld, KindGuild, KindDirect, NGScopeName}

// NGShipped names the base lists that KMS brings along: they stand in the program, not in the database, and cannot be changed.
var NGShipped = []string{"kms-allow-en", "kms-allow-ja"}

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
	// Include names the base lists that judge along with it. Nil stands for NGShipped, empty for none.
	Include []string `json:"include"`
	// Spacing says when a Latin word with separators between its letters counts: one of the NGSpacing values.
	Spacing string `json:"spacing"`
	// LookAlikes says whether digits, symbols and letters of other scripts count for the Latin letters that they look like: NGOn or NGOff.
	LookAlikes string `json:"look_alikes"`
}

// NGList is a list at a revision. Words counts the entries, which a listing leaves out.
type NGList struct {
	Tenant, Name string
	Revision     int64
	Settings     NGSettings
	Words        int
	Entries      []NGEntry
}

// NGRevision is one change of a list. An entry that was changed counts in both Added and Removed. Settings is nil where the
// revision left them alone.
type NGRevision struct {
	Revision        int64
	Author, Message string
	At              time.Time
	Added, Removed  int
	Settings        *NGSettings
}

// NGLists returns a tenant's lists by name, without their entries; the default list is always among them.
func (s *Store) NGLists(ctx context.Context, tenant string) ([]NGList, error) {
	lists, err := collect(ctx, s.DB(), scanNGList, `SELECT tenant, name, revision, words, settings FROM ng_lists
		WHERE tenant = ? ORDER BY name`, tenant)
	if err != nil {
		return nil, fmt.Errorf("cannot read NG lists of tenant %q: %w", tenant, err)
	}
	isDefault := func(l NGList) bool { return l.Name == NGDefault }
	if tenant != NGBase && !slices.ContainsFunc(lists, isDefault) {
		lists = slices.Insert(lists, 0, untouchedNG(tenant, NGDefault))
	}
	return lists, nil
}

// NGRead returns a list as it is now. A default list that nobody has changed yet is empty, with revision 0; another that does
// not exist is ErrNotFound.
func (s *Store) NGRead(ctx context.Context, tenant, list string) (NGList, error) {
	return s.ngRead(ctx, tenant, list, -1)
}

// NGReadAt is NGRead of the list as it was at a revision, from 0: ErrNotFound for one that has not been.
func (s *Store) NGReadAt(ctx context.Context, tenant, list string, revision int64) (NGList, error) {
	return s.ngRead(ctx, tenant, list, max(revision, 0))
}

func (s *Store) ngRead(ctx context.Context, tenant, list string, revision int64) (l NGList, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		l, err = scanNGList(tx.QueryRowContext(ctx, `SELECT tenant, name, revision, words, settings FROM ng_lists
			WHERE tenant = ? AND name = ?`, tenant, list))
		if errors.Is(err, sql.ErrNoRows) && list == NGDefault && revision <= 0 {
			l = untouchedNG(tenant, list)
			return nil
		}
		if err != nil {
			return err
		}
		if revision >= 0 {
			if err := l.goBack(ctx, tx, revision); err != nil {
				return err
			}
		}
		l.Entries, err = collect(ctx, tx, scanNGEntry, `SELECT word, kind, action, mode FROM ng_entries
			WHERE tenant = ? AND list = ? AND added <= ? AND (removed = 0 OR removed > ?) ORDER BY word`,
			tenant, list, l.Revision, l.Revision)
		l.Words = len(l.Entries)
		return err
	})
	if err != nil {
		return NGList{}, fmt.Errorf("cannot read NG list %q of tenant %q: %w", list, tenant, err)
	}
	return l, nil
}

// goBack makes l what it was at an earlier revision, entries excepted.
func (l *NGList) goBack(ctx context.Context, tx *sql.Tx, revision int64) error {
	if revision > l.Revision {
		return fmt.Errorf("revision %d: %w", revision, ErrNotFound)
	}
	var settings string
	err := tx.QueryRowContext(ctx, `SELECT settings FROM ng_revisions WHERE tenant = ? AND list = ? AND revision <= ? AND settings <> ''
		ORDER BY revision DESC LIMIT 1`, l.Tenant, l.Name, revision).Scan(&settings)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	l.Revision = revision
	l.Settings, err = parseNGSettings(settings)
	return err
}

// NGHistory returns the revisions of a list, newest first.
func (s *Store) NGHistory(ctx context.Context, tenant, list string) ([]NGRevision, error) {
	revisions, err := collect(ctx, s.DB(), scanNGRevision, `SELECT revision, author, message, at, added, removed, settings FROM ng_revisions
		WHERE tenant = ? AND list = ? ORDER BY revision DESC`, tenant, list)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of NG list %q of tenant %q: %w", list, tenant, err)
	}
	return revisions, nil
}

func untouchedNG(tenant, list string) NGList {
	return NGList{Tenant: tenant, Name: list, Settings: NGSettings{}.WithDefaults()}
}

// WithDefaults fills in what an entry leaves out: a word, rejected, in mode auto.
func (e NGEntry) WithDefaults() NGEntry {
	e.Kind, e.Action, e.Mode = orElse(e.Kind, NGWord), orElse(e.Action, NGReject), orElse(e.Mode, NGModeAuto)
	return e
}

// Check returns an error that names what is wrong with an entry.
func (e NGEntry) Check() error {
	bad := e.Word == "" || !utf8.ValidString(e.Word) || utf8.RuneCountInString(e.Word) > MaxNGWord ||
		strings.TrimSpace(e.Word) != e.Word || strings.ContainsFunc(e.Word, unicode.IsControl)
	if bad {
		return fmt.Errorf("bad word %.120q: want 1 to %d characters, no control characters, no space at the ends", e.Word, MaxNGWord)
	}
	e = e.WithDefaults()
	err := firstError(oneOf("kind", e.Kind, NGWord, NGAllow), oneOf("action", e.Action, NGReject, NGMask, NGFlag, NGShadow),
		oneOf("mode", e.Mode, NGModeAuto, NGModeWord, NGModeSubstring))
	if err != nil {
		return fmt.Errorf("word %q: %v", e.Word, err)
	}
	return nil
}

// WithDefaults fills in what settings leave out. Base lists include nothing, whatever theirs say.
func (g NGSettings) WithDefaults() NGSettings {
	if len(g.Scopes) == 0 {
		g.Scopes = slices.Clone(NGScopes)
	}
	if g.Include == nil {
		g.Include = slices.Clone(NGShipped)
	}
	g.Spacing, g.LookAlikes = orElse(g.Spacing, NGSpacingWord), orElse(g.LookAlikes, NGOn)
	return g
}

// Check returns an error that names what is wrong with settings; whether the included lists exist, only a change can tell.
func (g NGSettings) Check() error {
	g = g.WithDefaults()
	err := firstError(oneOf("spacing", g.Spacing, NGSpacingWord, NGSpacingAny, NGSpacingOff), oneOf("look-alikes", g.LookAlikes, NGOn, NGOff))
	for _, scope := range g.Scopes {
		err = firstError(err, oneOf("scope", scope, NGScopes...))
	}
	for _, list := range g.Include {
		err = firstError(err, ngListName(list))
	}
	if err == nil && len(g.Include) > MaxNGLists {
		err = fmt.Errorf("%d included lists, at most %d are allowed", len(g.Include), MaxNGLists)
	}
	return err
}

// ngListName checks a list's name, which looks like a tenant's.
func ngListName(list string) error {
	if names.Tenant(list) != nil {
		return &names.Error{What: "NG list", Value: list, Rule: names.TenantPattern}
	}
	return nil
}

func parseNGSettings(text string) (NGSettings, error) {
	var g NGSettings
	if text != "" {
		if err := json.Unmarshal([]byte(text), &g); err != nil {
			return g, fmt.Errorf("bad settings %.120q: %v", text, err)
		}
	}
	return g.WithDefaults(), nil
}

func scanNGList(row scanner) (l NGList, err error) {
	var settings string
	if err := row.Scan(&l.Tenant, &l.Name, &l.Revision, &l.Words, &settings); err != nil {
		return l, err
	}
	l.Settings, err = parseNGSettings(settings)
	return l, err
}

func scanNGEntry(row scanner) (NGEntry, error) {
	var e NGEntry
	return e, row.Scan(&e.Word, &e.Kind, &e.Action, &e.Mode)
}

func scanNGRevision(row scanner) (NGRevision, error) {
	var r NGRevision
	var at int64
	var settings string
	if err := row.Scan(&r.Revision, &r.Author, &r.Message, &at, &r.Added, &r.Removed, &settings); err != nil {
		return r, err
	}
	r.At = fromMS(at)
	if settings == "" {
		return r, nil
	}
	g, err := parseNGSettings(settings)
	r.Settings = &g
	return r, err
}
