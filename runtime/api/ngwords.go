package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
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
	limit, err := c.number("limit", store.MaxNGWords, 1, store.MaxNGWords)
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
	revision, err := c.number(parameter, newest, 0, newest)
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
	before, err := c.number("before", newest, 0, newest)
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
