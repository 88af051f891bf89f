package api

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxNote = 1000 // code points of a revision's message
	anyBase = -1   // a change of whatever revision there is
)

// edit is what all changes of a list have in common. Revision is the one that the caller saw; without it any will do.
type edit struct {
	Revision *int64 `json:"revision"`
	Message  string `json:"message"`
	DryRun   bool   `json:"dry_run"`
}

// start checks what a change says besides the words, and begins it.
func (c *call) start(e edit) (store.NGEdit, error) {
	if utf8.RuneCountInString(e.Message) > maxNote {
		return store.NGEdit{}, badRequest("bad message: want at most %d characters", maxNote)
	}
	base, err := c.base(e.Revision)
	return store.NGEdit{
		Tenant: c.tenant, List: c.list(), Base: base, Author: c.author(), Message: e.Message, DryRun: e.DryRun,
	}, err
}

// base is the revision that a change is for: the body's, or that of the header If-Match.
func (c *call) base(body *int64) (int64, error) {
	if body != nil && *body < 0 {
		return 0, badRequest("bad revision %d: want the one that was read", *body)
	}
	header := c.r.Header.Get("If-Match")
	if header == "" || header == "*" {
		if body == nil {
			return anyBase, nil
		}
		return *body, nil
	}
	tag := strings.Trim(strings.TrimPrefix(header, "W/"), `"`) // a proxy that compresses makes it a weak one
	n, err := strconv.ParseInt(tag, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("bad If-Match %q: want the ETag of the list", clip(header))
	}
	if body != nil && *body != n {
		return 0, badRequest("If-Match and the field \"revision\" differ")
	}
	c.matching = true
	return n, nil
}

// author is who a revision of the list names.
func (c *call) author() string { return "api key " + c.key.ID }

// replacement is the body of putNGList, patch that of patchNGList, rollback that of postNGRollback.
type replacement struct {
	edit
	Words    *[]store.NGEntry  `json:"words"`
	Settings *store.NGSettings `json:"settings"`
}

type patch struct {
	edit
	Add      []store.NGEntry   `json:"add"`
	Remove   []string          `json:"remove"`
	Settings *store.NGSettings `json:"settings"`
}

type rollback struct {
	edit
	To *int64 `json:"to"`
}

// putNGList makes the list hold exactly the given words, and makes the list if it is not there.
func putNGList(c *call) (answer, error) {
	var in replacement
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if in.Words == nil { // an empty list has to be meant
		return answer{}, badRequest("the field \"words\" is missing")
	}
	e, err := c.start(in.edit)
	if err != nil {
		return answer{}, err
	}
	if err := cmp.Or(checkWords("words", *in.Words), c.checkSettings(in.Settings)); err != nil {
		return answer{}, err
	}
	e.Replace, e.Settings = in.Words, in.Settings
	done, err := c.store.NGChange(c.ctx, e)
	if errors.Is(err, store.ErrNotFound) && e.Settings == nil {
		e.Settings, e.Base = &store.NGSettings{}, max(e.Base, 0) // new: not what somebody else makes meanwhile
		done, err = c.store.NGChange(c.ctx, e)
	}
	return c.changed(e, done, err)
}

// patchNGList adds and removes words, so that a list may grow beyond what one body holds.
func patchNGList(c *call) (answer, error) {
	var in patch
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	e, err := c.start(in.edit)
	if err != nil {
		return answer{}, err
	}
	if err := cmp.Or(checkWords("add", in.Add), c.checkSettings(in.Settings)); err != nil {
		return answer{}, err
	}
	e.Add, e.Remove, e.Settings = in.Add, in.Remove, in.Settings
	done, err := c.store.NGChange(c.ctx, e)
	return c.changed(e, done, err)
}

func postNGRollback(c *call) (answer, error) {
	var in rollback
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if in.To == nil || *in.To < 0 {
		return answer{}, badRequest("the field \"to\" is missing or bad: want the revision to go back to")
	}
	e, err := c.start(in.edit)
	if err != nil {
		return answer{}, err
	}
	done, err := c.store.NGRollback(c.ctx, e, *in.To)
	if errors.Is(err, store.ErrNotFound) {
		err = chat.Errorf(codeNoSuchList, "there is no list %q with a revision %d", e.List, *in.To)
	}
	return c.changed(e, done, err)
}

func deleteNGList(c *call) (answer, error) {
	var revision *int64
	if _, given := c.query["revision"]; given {
		n, err := c.number("revision", 0, 0, 1<<63-1)
		if err != nil {
			return answer{}, err
		}
		revision = &n
	}
	base, err := c.base(revision)
	if err != nil {
		return answer{}, err
	}
	if err := c.store.NGDeleteList(c.ctx, c.tenant, c.list(), base); err != nil {
		return answer{}, c.refused(err)
	}
	c.chat.Changed()
	return done, nil
}

// ngChanged is the answer to a change. A word that was set anew counts in Changed only.
type ngChanged struct {
	Revision int64             `json:"revision"`
	Added    int               `json:"added"`
	Changed  int               `json:"changed"`
	Removed  int               `json:"removed"`
	Settings *store.NGSettings `json:"settings,omitempty"`
	DryRun   *dryRun           `json:"dry_run,omitempty"`
}

// dryRun is what a change would do, word by word.
type dryRun struct {
	Added   []store.NGEntry `json:"added"`
	Removed []store.NGEntry `json:"removed"`
}

// changed answers a change, and has everybody read it.
func (c *call) changed(e store.NGEdit, did store.NGChanged, err error) (answer, error) {
	if err != nil {
		return answer{}, c.refused(err)
	}
	out := ngChanged{Revision: did.Revision, Changed: changedWords(did), Settings: did.Settings}
	out.Added, out.Removed = len(did.Added)-out.Changed, len(did.Removed)-out.Changed
	if e.DryRun {
		out.DryRun = &dryRun{some(did.Added), some(did.Removed)}
		return ok(out)
	}
	c.tag(did.Revision)
	if len(did.Added)+len(did.Removed) > 0 || did.Settings != nil {
		c.chat.Changed()
	}
	if e.List != store.NGDefault && did.Revision == 1 && did.Settings != nil {
		return answer{http.StatusCreated, out}, nil
	}
	return ok(out)
}

// changedWords counts the words that stand on both sides of a change.
func changedWords(did store.NGChanged) (n int) {
	removed := make(map[string]bool, len(did.Removed))
	for _, e := range did.Removed {
		removed[e.Word] = true
	}
	for _, e := range did.Added {
		if removed[e.Word] {
			n++
		}
	}
	return n
}

// refused makes what the store says about a change an answer.
func (c *call) refused(err error) error {
	switch {
	case errors.As(err, new(*chat.Error)):
		return err
	case errors.Is(err, store.ErrConflict) && c.matching:
		return chat.Errorf(codePrecondition, "the list has another revision by now: read it again")
	case errors.Is(err, store.ErrConflict):
		return chat.Errorf(codeConflict, "the list has another revision by now: read it again")
	case errors.Is(err, store.ErrLimit):
		return chat.Errorf(codeLimit, "a list holds at most %d words, and a tenant at most %d lists", store.MaxNGWords, store.MaxNGLists)
	case errors.Is(err, store.ErrInUse):
		return chat.Errorf(codeInUse, "every tenant has the list %q: remove its words instead", c.list())
	case errors.Is(err, store.ErrNotFound):
		return c.noSuchList("")
	}
	return err
}

// checkWords says which word is wrong before the store refuses it, as a mistake of the caller's.
func checkWords(field string, words []store.NGEntry) error {
	seen := make(map[string]bool, len(words))
	for i, w := range words {
		if seen[w.Word] {
			return badRequest("%s[%d]: the word %q stands there twice", field, i, clip(w.Word))
		}
		seen[w.Word] = true
		if err := w.Check(); err != nil {
			return badRequest("%s[%d]: %v", field, i, err)
		}
	}
	return nil
}

// checkSettings does the same for settings, if there are any.
func (c *call) checkSettings(g *store.NGSettings) error {
	if g == nil {
		return nil
	}
	if err := g.Check(); err != nil {
		return badRequest("%v", err)
	}
	lists, err := baseLists(c.ctx, c.store)
	if err != nil {
		return err
	}
	for _, name := range g.Include {
		if !slices.ContainsFunc(lists, func(l store.NGList) bool { return l.Name == name }) {
			return badRequest("there is no base list %q", clip(name))
		}
	}
	return nil
}
