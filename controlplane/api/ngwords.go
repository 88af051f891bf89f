package api

import (
	"slices"
	"strings"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const maxNGText = 4096 // bytes of a text under test

func getNGWords(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	stored, err := c.Store().NGRead(c.ctx, id, store.NGDefault)
	if err != nil {
		return nil, err
	}
	list := NGList{Tenant: id, Revision: stored.Revision, Words: make([]NGWord, 0, len(stored.Entries))}
	for _, e := range stored.Entries {
		list.Words = append(list.Words, NGWord{Word: e.Word, Kind: e.Kind, Action: e.Action, Mode: e.Mode})
	}
	return list, nil
}

func patchNGWords(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var change NGChange
	if err := c.decode(&change, maxNGBody); err != nil {
		return nil, err
	}
	if len(change.Add)+len(change.Remove) == 0 {
		return nil, badRequest("cannot change nothing: want words to add or remove")
	}
	entries := make([]store.NGEntry, 0, len(change.Add))
	for _, w := range change.Add {
		e, err := ngEntry(w)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	base := int64(-1)
	if change.Base != nil {
		base = *change.Base
	}
	done, err := c.Store().NGChange(c.ctx, store.NGEdit{
		Tenant: id, Base: base, Author: c.who, Message: c.message, Add: entries, Remove: change.Remove,
	})
	return NGList{Tenant: id, Revision: done.Revision, Words: some(change.Add)}, err
}

// ngEntry checks a word before the store does, to say what is wrong as a mistake of the caller's. What is left out the store
// fills in.
func ngEntry(w NGWord) (store.NGEntry, error) {
	e := store.NGEntry{Word: w.Word, Kind: w.Kind, Action: w.Action, Mode: w.Mode}
	if err := e.Check(); err != nil {
		return e, badRequest("%v", err)
	}
	return e, nil
}

func testNGWords(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var t NGText
	if err := c.decode(&t, maxBody); err != nil {
		return nil, err
	}
	if len(t.Text) > maxNGText {
		return nil, badRequest("bad text: want at most %d bytes", maxNGText)
	}
	list, err := c.Store().NGRead(c.ctx, id, store.NGDefault)
	if err != nil {
		return nil, err
	}
	m, err := ngword.Compile(list)
	if err != nil {
		return nil, err
	}
	r := ngword.NewFilter(m).Check(t.Text)
	verdict := NGVerdict{Action: string(r.Action), Text: r.Text, Hits: make([]NGHit, 0, len(r.Hits))}
	for _, h := range r.Hits {
		verdict.Hits = append(verdict.Hits, NGHit{Word: h.Word, Action: string(h.Action), Start: h.Start, End: h.End})
	}
	return verdict, nil
}

func oneOf(what, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return badRequest("bad %s %q: want one of %s", what, value, strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
}
