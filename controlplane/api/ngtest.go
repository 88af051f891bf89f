package api

import (
	"cmp"
	"context"
	"slices"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxNGText  = 4096 // bytes of a text under test
	maxNGTexts = 1000
)

// ngSlot is held by whoever compiles lists: one of 200,000 words takes some memory, and chat on the same host wants the cores.
var ngSlot = make(chan struct{}, 1)

func takeNGSlot(ctx context.Context) (release func(), err error) {
	select {
	case ngSlot <- struct{}{}:
		return func() { <-ngSlot }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func testNGLists(c *call) (any, error) {
	tenant, err := c.ngTenant()
	if err != nil {
		return nil, err
	}
	var in NGTexts
	if err := c.decode(&in, 8*maxBody); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	lists, err := c.judges(tenant, cmp.Or(in.Scope, store.KindWorld))
	if err != nil {
		return nil, err
	}
	release, err := takeNGSlot(c.ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	filter, err := compileNG(lists)
	if err != nil {
		return nil, err
	}
	verdicts := make([]NGVerdict, 0, len(in.Texts))
	for _, text := range in.Texts {
		verdicts = append(verdicts, verdictOf(filter.Explain(text)))
	}
	return verdicts, nil
}

func (in NGTexts) check() error {
	if len(in.Texts) == 0 || len(in.Texts) > maxNGTexts {
		return badRequest("bad texts: want 1 to %d", maxNGTexts)
	}
	for i, text := range in.Texts {
		if len(text) > maxNGText || !utf8.ValidString(text) {
			return badRequest("bad text (number %d): want UTF-8 of at most %d bytes", i+1, maxNGText)
		}
	}
	if in.Scope == "" {
		return nil
	}
	return oneOf("scope", in.Scope, store.NGScopes...)
}

// judges returns the lists of a tenant that apply to a scope, and the base lists that they include, each once.
func (c *call) judges(tenant, scope string) ([]store.NGList, error) {
	own, err := c.Store().NGLists(c.ctx, tenant)
	if err != nil {
		return nil, err
	}
	var lists []store.NGList
	var include []string
	for _, l := range own {
		if !slices.Contains(l.Settings.Scopes, scope) {
			continue
		}
		if l, err = c.Store().NGRead(c.ctx, tenant, l.Name); err != nil {
			return nil, err
		}
		lists, include = append(lists, named(l)), append(include, included(l)...)
	}
	base, err := c.baseNG(include, scope)
	return append(lists, base...), err
}

// included names the base lists that judge along with a list. Base lists include nothing, whatever their settings say.
func included(l store.NGList) []string {
	if l.Tenant == store.NGBase {
		return nil
	}
	return l.Settings.Include
}

// baseNG reads base lists that apply to a scope; an empty one stands for all. One that is gone judges nothing.
func (c *call) baseNG(include []string, scope string) ([]store.NGList, error) {
	slices.Sort(include)
	var lists []store.NGList
	for _, name := range slices.Compact(include) {
		l, err := c.baseList(name)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if scope == "" || slices.Contains(l.Settings.Scopes, scope) {
			lists = append(lists, named(l))
		}
	}
	return lists, nil
}

func (c *call) baseList(name string) (store.NGList, error) {
	if l, ok := shippedNG(store.NGBase, name); ok {
		return l, nil
	}
	return c.Store().NGRead(c.ctx, store.NGBase, name)
}

// named gives a base list the name by which people tell it from a list of the tenant.
func named(l store.NGList) store.NGList {
	if l.Tenant == store.NGBase {
		l.Name = store.NGBase + "/" + l.Name
	}
	return l
}

func compileNG(lists []store.NGList) (*ngword.Filter, error) {
	var matchers []*ngword.Matcher
	for _, l := range lists {
		m, err := ngword.Compile(l)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, m)
	}
	return ngword.NewFilter(matchers...), nil
}

func verdictOf(e ngword.Explanation) NGVerdict {
	return NGVerdict{Action: e.Action, Text: e.Text, Hits: ngHits(e.Hits), Allowed: ngHits(e.Allowed)}
}

func ngHits(found []ngword.Found) []NGHit {
	hits := make([]NGHit, 0, len(found))
	for _, f := range found {
		hits = append(hits, NGHit{List: f.List, Word: f.Word, Action: f.Action, Start: f.Start, End: f.End, Found: f.Found,
			Foldings: f.Foldings, By: f.By.Word, ByList: f.By.List})
	}
	return hits
}
