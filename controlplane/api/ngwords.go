package api

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const maxNGText = 4096 // bytes of a text under test

func getNGWords(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	revision, entries, err := c.Store().NGList(c.ctx, id)
	if err != nil {
		return nil, err
	}
	list := NGList{Tenant: id, Revision: revision, Words: make([]NGWord, 0, len(entries))}
	for _, e := range entries {
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
	revision, err := c.Store().NGChange(c.ctx, id, base, entries, change.Remove, c.who, c.message)
	return NGList{Tenant: id, Revision: revision, Words: some(change.Add)}, err
}

// ngEntry checks a word before the store does, to say what is wrong as a mistake of the caller's. What is left out the store
// fills in.
func ngEntry(w NGWord) (store.NGEntry, error) {
	if strings.TrimSpace(w.Word) != w.Word || w.Word == "" || !utf8.ValidString(w.Word) || utf8.RuneCountInString(w.Word) > store.MaxNGWord ||
		strings.ContainsFunc(w.Word, unicode.IsControl) {
		return store.NGEntry{}, badRequest("bad NG word %q: want 1 to %d characters, no control characters, no space at the ends", clip(w.Word, 80), store.MaxNGWord)
	}
	if err := oneOf("kind", w.Kind, "", store.NGWord, store.NGAllow); err != nil {
		return store.NGEntry{}, err
	}
	if err := oneOf("action", w.Action, "", store.NGReject, store.NGMask, store.NGFlag, store.NGShadow); err != nil {
		return store.NGEntry{}, err
	}
	if err := oneOf("mode", w.Mode, "", store.NGModeAuto, store.NGModeWord, store.NGModeSubstring); err != nil {
		return store.NGEntry{}, err
	}
	return store.NGEntry{Word: w.Word, Kind: w.Kind, Action: w.Action, Mode: w.Mode}, nil
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
	_, entries, err := c.Store().NGList(c.ctx, id)
	if err != nil {
		return nil, err
	}
	m, err := ngword.Compile(store.NGList{Tenant: id, Name: "default", Entries: entries})
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
