package api

import (
	"cmp"
	"errors"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
)

const maxNote = 1000 // code points of a revision's message

// ngList is a tenant's list as it is read and replaced.
type ngList struct {
	Revision int64           `json:"revision"`
	Words    []store.NGEntry `json:"words"`
}

// revised is the answer to a change.
type revised struct {
	Revision int64 `json:"revision"`
}

// edit is what the two ways to change the list have in common. Revision is the one that the caller saw; without it any will do.
type edit struct {
	Revision *int64 `json:"revision"`
	Message  string `json:"message"`
}

// replacement is the body of putNGWords, patch that of patchNGWords.
type replacement struct {
	edit
	Words *[]store.NGEntry `json:"words"`
}

type patch struct {
	edit
	Add    []store.NGEntry `json:"add"`
	Remove []string        `json:"remove"`
}

func (e edit) base() int64 {
	if e.Revision == nil {
		return -1
	}
	return *e.Revision
}

func (e edit) check() error {
	if e.Revision != nil && *e.Revision < 0 {
		return badRequest("bad revision %d: want the one that was read", *e.Revision)
	}
	if utf8.RuneCountInString(e.Message) > maxNote {
		return badRequest("bad message: want at most %d characters", maxNote)
	}
	return nil
}

func getNGWords(c *call) (answer, error) {
	list, err := c.store.NGRead(c.ctx, c.tenant, store.NGDefault)
	if err != nil {
		return answer{}, err
	}
	if list.Entries == nil {
		list.Entries = []store.NGEntry{}
	}
	return ok(ngList{list.Revision, list.Entries})
}

// putNGWords makes the list hold exactly the given words.
func putNGWords(c *call) (answer, error) {
	var in replacement
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if in.Words == nil { // an empty list has to be meant
		return answer{}, badRequest("the field \"words\" is missing")
	}
	if err := cmp.Or(in.check(), checkWords(*in.Words)); err != nil {
		return answer{}, err
	}
	return c.revised(c.store.NGChange(c.ctx, store.NGEdit{
		Tenant: c.tenant, Base: in.base(), Author: c.author(), Message: in.Message, Replace: in.Words,
	}))
}

// patchNGWords adds and removes words, so that a list may grow beyond what one body holds.
func patchNGWords(c *call) (answer, error) {
	var in patch
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if err := cmp.Or(in.check(), checkWords(in.Add)); err != nil {
		return answer{}, err
	}
	return c.revised(c.store.NGChange(c.ctx, store.NGEdit{
		Tenant: c.tenant, Base: in.base(), Author: c.author(), Message: in.Message, Add: in.Add, Remove: in.Remove,
	}))
}

func (c *call) revised(done store.NGChanged, err error) (answer, error) {
	switch {
	case errors.Is(err, store.ErrConflict):
		return answer{}, chat.Errorf(codeConflict, "the list has another revision by now: read it again")
	case err != nil:
		return answer{}, err
	}
	c.chat.Changed()
	return ok(revised{done.Revision})
}

// author is who a revision of the list names.
func (c *call) author() string { return "api key " + c.key.ID }

// checkWords says what is wrong with a word before the store does, as a mistake of the caller's.
func checkWords(words []store.NGEntry) error {
	seen := make(map[string]bool, len(words))
	for _, w := range words {
		if seen[w.Word] {
			return badRequest("the word %q stands there twice", clip(w.Word))
		}
		seen[w.Word] = true
		if err := w.Check(); err != nil {
			return badRequest("%v", err)
		}
	}
	return nil
}
