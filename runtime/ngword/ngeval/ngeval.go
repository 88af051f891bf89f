// Package ngeval measures NG-word filters with cases: a line, the list that judges it, and whether a word must be found.
// Each case carries its own list, so nothing else is needed. docs/ngwords.md has the format.
package ngeval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/store"
)

// format is the version of the cases' format that this package reads.
const format = 1

// maxInput bounds a file of cases, in bytes.
const maxInput = 64 << 20

// Case is a line and what a filter must say about it.
type Case struct {
	ID      string   `json:"id"`
	Words   []string `json:"list"`
	Allow   []string `json:"allow"` // allow entries of the same list
	Text    string   `json:"text"`
	Match   *bool    `json:"should_match"`
	Kinds   []string `json:"kinds"`      // what it tests
	Class   string   `json:"cls"`        // how much it matters: core, extra, policy
	Lang    string   `json:"lang"`       // ISO 639
	Span    []int    `json:"span"`       // of the offending text in code points, end exclusive; may be left out
	SpanRaw []int    `json:"span_bytes"` // the same in bytes
}

// Read reads a file of cases. A mistake in one is an error that names it.
func Read(r io.Reader) ([]Case, error) {
	var file struct {
		Format int    `json:"format"`
		Cases  []Case `json:"cases"`
	}
	limited := &io.LimitedReader{R: r, N: maxInput}
	if err := json.NewDecoder(limited).Decode(&file); err != nil {
		if limited.N == 0 {
			return nil, fmt.Errorf("cannot read the cases: they are larger than %d bytes", maxInput)
		}
		return nil, fmt.Errorf("cannot read the cases: %w", err)
	}
	if file.Format != format {
		return nil, fmt.Errorf("cannot read the cases: they have format %d, known is %d", file.Format, format)
	}
	if len(file.Cases) == 0 {
		return nil, errors.New("cannot read the cases: there are none")
	}
	seen := map[string]bool{}
	for i := range file.Cases {
		c := &file.Cases[i]
		if c.ID == "" {
			return nil, fmt.Errorf("cannot read case number %d: it has no id", i+1)
		}
		err := c.check()
		if err == nil && seen[c.ID] {
			err = errors.New("there is another one with this id")
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read case %q: %w", c.ID, err)
		}
		seen[c.ID] = true
	}
	return file.Cases, nil
}

func (c *Case) check() error {
	switch {
	case len(c.Words) == 0:
		return errors.New("its list has no words")
	case c.Match == nil:
		return errors.New("should_match is missing")
	case c.Class == "":
		return errors.New("cls is missing")
	case len(c.Kinds) == 0:
		return errors.New("kinds is missing")
	}
	span, err := c.byteSpan()
	switch {
	case err != nil:
		return err
	case span != nil && !*c.Match:
		return errors.New("it has a span, but nothing is to be found")
	case c.SpanRaw != nil && (len(c.SpanRaw) != 2 || span == nil || [2]int(c.SpanRaw) != *span):
		return fmt.Errorf("span %v and span_bytes %v are not the same place", c.Span, c.SpanRaw)
	}
	return nil
}

// byteSpan is the offending text in bytes, nil when the case does not say.
func (c *Case) byteSpan() (*[2]int, error) {
	if c.Span == nil {
		return nil, nil
	}
	runes := utf8.RuneCountInString(c.Text)
	if len(c.Span) != 2 || c.Span[0] < 0 || c.Span[0] >= c.Span[1] || c.Span[1] > runes {
		return nil, fmt.Errorf("bad span %v in a text of %d code points", c.Span, runes)
	}
	var span [2]int
	n := 0
	for i := range c.Text {
		for side, at := range c.Span {
			if n == at {
				span[side] = i
			}
		}
		n++
	}
	if c.Span[1] == runes {
		span[1] = len(c.Text)
	}
	return &span, nil
}

// List is the case's own list, with the settings that a new list has.
func (c *Case) List() store.NGList {
	list := store.NGList{Tenant: "case", Name: c.ID}
	for _, w := range c.Words {
		list.Entries = append(list.Entries, store.NGEntry{Word: w, Kind: store.NGWord, Action: store.NGMask, Mode: store.NGModeAuto})
	}
	for _, w := range c.Allow {
		list.Entries = append(list.Entries, store.NGEntry{Word: w, Kind: store.NGAllow})
	}
	list.Words = len(list.Entries)
	return list
}
