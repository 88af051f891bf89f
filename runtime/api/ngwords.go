package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxNote = 1000 // code points of a revision's message
	anyBase = -1   // a change of whatever revision there is
)

// ngHead is a list without its words; Count says how many it has.
type ngHead struct {
	List     string           `json:"list"`
	Revision int64            `json:"revision"`
	Count    int              `json:"count"`
	Settings store.NGSettings `json:"settings"`
}

// ngList is a list, or a page of it, as it is read.
type ngList struct {
	ngHead
	Words []store.NGEntry `json:"words"`
	More  bool            `json:"more"`
}

func headOf(l store.NGList) ngHead {
	return ngHead{List: l.Name, Revision: l.Revision, Count: l.Words, Settings: l.Settings}
}

// list is the one that the path names; the routes without a name mean the default one.
func (c *call) list() string { return cmp.Or(c.path["list"], store.NGDefault) }

func getNGLists(c *call) (answer, error) {
	lists, err := c.store.NGLists(c.ctx, c.tenant)
	if err != nil {
		return answer{}, err
	}
	heads := make([]ngHead, len(lists))
	for i, l := range lists {
		heads[i] = headOf(l)
	}
	return ok(struct {
		Lists []ngHead `json:"lists"`
	}{heads})
}

// ngBase is a base list as tenants may know it: what it is for, not what it holds.
type ngBase struct {
	List   string   `json:"list"`
	Count  int      `json:"count"`
	Scopes []string `json:"scopes"`
}

func getNGBase(c *call) (answer, error) {
	lists, err := baseLists(c.ctx, c.store)
	if err != nil {
		return answer{}, err
	}
	out := make([]ngBase, len(lists))
	for i, l := range lists {
		out[i] = ngBase{l.Name, l.Words, l.Settings.WithDefaults().Scopes}
	}
	return ok(struct {
		Lists []ngBase `json:"lists"`
	}{out})
}

// baseLists are the lists that any tenant may include, by name, without their entries.
func baseLists(ctx context.Context, st *store.Store) ([]store.NGList, error) {
	lists, err := st.NGLists(ctx, store.NGBase)
	if err != nil {
		return nil, err
	}
	lists = append(lists, ngword.Shipped()...)
	slices.SortFunc(lists, func(a, b store.NGList) int { return strings.Compare(a.Name, b.Name) })
	return lists, nil
}

func getNGList(c *call) (answer, error) {
	limit, err := c.number("limit", store.MaxNGWords, store.MaxNGWords)
	if err == nil && limit == 0 {
		err = badRequest("bad limit 0: want a whole number from 1 to %d", store.MaxNGWords)
	}
	if err != nil {
		return answer{}, err
	}
	list, err := c.readNGList("revision")
	if err != nil {
		return answer{}, err
	}
	words, more := pageOf(list.Entries, func(e store.NGEntry) string { return e.Word }, c.query["after"], int(limit))
	c.tag(list.Revision)
	return ok(ngList{headOf(list), some(words), more})
}

// some is never null in JSON.
func some(words []store.NGEntry) []store.NGEntry {
	if words == nil {
		return []store.NGEntry{}
	}
	return words
}

// readNGList reads the path's list as it was at the revision that a query parameter names, or as it is.
func (c *call) readNGList(parameter string) (list store.NGList, err error) {
	const newest = 1<<63 - 1
	revision, err := c.number(parameter, newest, newest)
	if err != nil {
		return list, err
	}
	if revision == newest {
		list, err = c.store.NGRead(c.ctx, c.tenant, c.list())
	} else {
		list, err = c.store.NGReadAt(c.ctx, c.tenant, c.list(), revision)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = c.noSuchList(parameter)
	}
	return list, err
}

func (c *call) noSuchList(parameter string) error {
	if revision, ok := c.query[parameter]; ok {
		return chat.Errorf(codeNoSuchList, "there is no list %q with a revision %s", c.list(), clip(revision))
	}
	return chat.Errorf(codeNoSuchList, "there is no list %q", c.list())
}

// ngRevision is one change of a list; Settings are there if it changed them.
type ngRevision struct {
	Revision int64             `json:"revision"`
	At       int64             `json:"at"`
	Author   string            `json:"author"`
	Message  string            `json:"message"`
	Added    int               `json:"added"`
	Removed  int               `json:"removed"`
	Settings *store.NGSettings `json:"settings,omitempty"`
}

func getNGHistory(c *call) (answer, error) {
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	const newest = 1<<63 - 1
	before, err := c.number("before", newest, newest)
	if err != nil {
		return answer{}, err
	}
	if err := c.knowsList(); err != nil {
		return answer{}, err
	}
	all, err := c.store.NGHistory(c.ctx, c.tenant, c.list())
	if err != nil {
		return answer{}, err
	}
	all = slices.DeleteFunc(all, func(r store.NGRevision) bool { return r.Revision >= before })
	out := struct {
		Revisions []ngRevision `json:"revisions"`
		More      bool         `json:"more"`
	}{[]ngRevision{}, len(all) > int(limit)}
	for _, r := range all[:min(len(all), int(limit))] {
		out.Revisions = append(out.Revisions, ngRevision{r.Revision, r.At.UnixMilli(), r.Author, r.Message, r.Added, r.Removed, r.Settings})
	}
	return ok(out)
}

// knowsList tells a list without a history from one that does not exist.
func (c *call) knowsList() error {
	lists, err := c.store.NGLists(c.ctx, c.tenant)
	if err == nil && !slices.ContainsFunc(lists, func(l store.NGList) bool { return l.Name == c.list() }) {
		err = c.noSuchList("")
	}
	return err
}

// ngDiff is what one revision has and another has not. A changed word stands in both Added and Removed.
type ngDiff struct {
	From           int64             `json:"from"`
	To             int64             `json:"to"`
	Added          []store.NGEntry   `json:"added"`
	Removed        []store.NGEntry   `json:"removed"`
	SettingsBefore *store.NGSettings `json:"settings_before,omitempty"`
	SettingsAfter  *store.NGSettings `json:"settings_after,omitempty"`
}

func getNGDiff(c *call) (answer, error) {
	if _, ok := c.query["from"]; !ok {
		return answer{}, badRequest("the query parameter \"from\" is missing: want the revision to compare with")
	}
	from, err := c.readNGList("from")
	if err != nil {
		return answer{}, err
	}
	to, err := c.readNGList("to")
	if err != nil {
		return answer{}, err
	}
	out := ngDiff{From: from.Revision, To: to.Revision, Added: missingFrom(from, to), Removed: missingFrom(to, from)}
	if !sameSettings(from.Settings, to.Settings) {
		out.SettingsBefore, out.SettingsAfter = &from.Settings, &to.Settings
	}
	return ok(out)
}

// missingFrom returns the entries of b that a does not have.
func missingFrom(a, b store.NGList) []store.NGEntry {
	has := make(map[string]store.NGEntry, len(a.Entries))
	for _, e := range a.Entries {
		has[e.Word] = e
	}
	missing := []store.NGEntry{}
	for _, e := range b.Entries {
		if has[e.Word] != e {
			missing = append(missing, e)
		}
	}
	return missing
}

func sameSettings(a, b store.NGSettings) bool {
	return slices.Equal(a.Scopes, b.Scopes) && slices.Equal(a.Include, b.Include) && a.Spacing == b.Spacing && a.LookAlikes == b.LookAlikes
}

// ngText is the body of testNGWords.
type ngText struct {
	Text  string `json:"text"`
	Scope string `json:"scope"`
}

// verdict says what the lists that are in force do to a text.
type verdict struct {
	Action  string  `json:"action"` // empty: nothing
	Text    string  `json:"text"`   // as it would be delivered
	Hits    []ngHit `json:"hits"`
	Allowed []ngHit `json:"allowed"`
}

// ngHit is a place where a word was found, in bytes of the text. By is the allow entry, of list ByList, that took it away.
type ngHit struct {
	List     string   `json:"list"`
	Word     string   `json:"word"`
	Action   string   `json:"action"`
	Start    int      `json:"start"`
	End      int      `json:"end"`
	Found    string   `json:"found"`
	Foldings []string `json:"foldings,omitempty"`
	By       string   `json:"by,omitempty"`
	ByList   string   `json:"by_list,omitempty"`
}

func testNGWords(c *call) (answer, error) {
	in := ngText{Scope: store.KindWorld}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	err := oneOf("scope", in.Scope, store.NGScopes...)
	if in.Text == "" || len(in.Text) > maxTestText {
		err = badRequest("bad text: want 1 to %d bytes", maxTestText)
	}
	if err != nil {
		return answer{}, err
	}
	e, err := c.chat.Explain(c.ctx, c.tenant, in.Scope, in.Text)
	if err != nil {
		return answer{}, err
	}
	return ok(verdict{e.Action, e.Text, hitsOf(e.Hits), hitsOf(e.Allowed)})
}

const maxTestText = 16 << 10 // bytes

func hitsOf(found []ngword.Found) []ngHit {
	hits := make([]ngHit, len(found))
	for i, f := range found {
		hits[i] = ngHit{f.List, f.Word, f.Action, f.Start, f.End, f.Found, f.Foldings, f.By.Word, f.By.List}
	}
	return hits
}

// tag tells the revision in the header that a conditional change sends back.
func (c *call) tag(revision int64) { c.w.Header().Set("ETag", fmt.Sprintf(`"%d"`, revision)) }

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
		n, err := c.number("revision", 0, 1<<63-1)
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
