package api

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxNGWord = 256  // bytes
	maxNGText = 4096 // bytes of a text under test
)

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
		list.Words = append(list.Words, NGWord{Word: e.Word, Kind: string(e.Kind), Action: string(e.Action), Mode: string(e.Mode)})
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

// ngEntry fills in what a word leaves out and checks what it says.
func ngEntry(w NGWord) (store.NGEntry, error) {
	w.Kind, w.Action, w.Mode = cmp.Or(w.Kind, "word"), cmp.Or(w.Action, "mask"), cmp.Or(w.Mode, "auto")
	if strings.TrimSpace(w.Word) == "" || len(w.Word) > maxNGWord || !utf8.ValidString(w.Word) {
		return store.NGEntry{}, badRequest("bad NG word %q: want 1 to %d bytes of UTF-8", clip(w.Word, 80), maxNGWord)
	}
	if err := oneOf("kind", w.Kind, "word", "allow"); err != nil {
		return store.NGEntry{}, err
	}
	if err := oneOf("action", w.Action, "reject", "mask", "flag", "shadow"); err != nil {
		return store.NGEntry{}, err
	}
	if err := oneOf("mode", w.Mode, "auto", "word", "substring"); err != nil {
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
	m, err := ngword.Compile(entries)
	if err != nil {
		return nil, err
	}
	r := m.Check(t.Text)
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
	return badRequest("bad %s %q: want one of %s", what, value, strings.Join(allowed, ", "))
}
