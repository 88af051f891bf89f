package api

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxFindings = 500 // of a kind
	maxExample  = 200 // code points of an example
)

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// ngCheck looks for what whoever adds entries to a list may not know about them.
type ngCheck struct {
	list     store.NGList // with them
	added    map[string]store.NGEntry
	words    []string       // the added ones that forbid, in order
	spared   []store.NGList // the lists whose allow entries win over them
	empty    map[string]bool
	findings []NGFinding
	told     map[string]int // how many, by kind
	leftOut  int
}

// findNG adds to a plan what is to be said about its added words.
func (c *call) findNG(plan *NGPlan, after store.NGList, added []store.NGEntry) error {
	after.Tenant, after.Name = plan.Tenant, plan.List
	k := &ngCheck{list: named(after), added: make(map[string]store.NGEntry, len(added)), findings: []NGFinding{}, told: map[string]int{}}
	for _, e := range added {
		k.added[e.Word] = e
		if e.Kind != store.NGAllow {
			k.words = append(k.words, e.Word)
		}
	}
	if len(added) == 0 {
		return nil
	}
	var err error
	if k.spared, err = c.sparing(after); err != nil {
		return err
	}
	sample, err := c.sampleFor(after)
	if err != nil {
		return err
	}
	release, err := takeNGSlot(c.ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, look := range []func() error{k.same, k.hiddenAndAllowed, k.ordinary, func() error { return k.inLog(sample) }} {
		if err := errors.Join(c.ctx.Err(), look()); err != nil {
			return err
		}
	}
	plan.Sampled, plan.Findings, plan.LeftOut = len(sample), k.findings, k.leftOut
	return nil
}

// sparing returns the allow entries that judge along with a list: of the base lists that it includes, and of the tenant's others.
func (c *call) sparing(l store.NGList) ([]store.NGList, error) {
	lists, err := c.baseNG(slices.Clone(included(l)), "")
	if err != nil || l.Tenant == store.NGBase {
		return nil, err
	}
	others, err := c.Store().NGLists(c.ctx, l.Tenant)
	for _, other := range others {
		if other.Name == l.Name || err != nil {
			continue
		}
		if other, err = c.Store().NGRead(c.ctx, l.Tenant, other.Name); err == nil {
			lists = append(lists, other)
		}
	}
	for i := range lists {
		lists[i].Entries = ofKind(lists[i].Entries, true)
	}
	return lists, err
}

func ofKind(entries []store.NGEntry, allow bool) (out []store.NGEntry) {
	for _, e := range entries {
		if (e.Kind == store.NGAllow) == allow {
			out = append(out, e)
		}
	}
	return out
}

// sampleFor returns recent lines of the kinds of channel that a list judges. A base list has no log of its own.
func (c *call) sampleFor(l store.NGList) ([]string, error) {
	kinds := slices.DeleteFunc(slices.Clone(l.Settings.Scopes), func(scope string) bool { return scope == store.NGScopeName })
	if l.Tenant == store.NGBase || len(kinds) == 0 {
		return nil, nil
	}
	return chatlog.Sample(c.ctx, c.Store(), l.Tenant, kinds...)
}

func (k *ngCheck) tell(f NGFinding) {
	if k.told[f.Kind]++; k.told[f.Kind] > maxFindings {
		k.leftOut++
		return
	}
	k.findings = append(k.findings, f)
}

// same finds added entries that fold to the same letters as another: of two such, the matcher always names the same one.
func (k *ngCheck) same() error {
	alike := store.NGList{Name: k.list.Name, Settings: k.list.Settings}
	for _, e := range k.list.Entries {
		alike.Entries = append(alike.Entries, store.NGEntry{Word: e.Word, Kind: store.NGWord, Action: store.NGFlag, Mode: store.NGModeSubstring})
	}
	m, err := ngword.Compile(alike)
	if err != nil {
		return err
	}
	k.empty = map[string]bool{}
	for _, word := range m.Skipped() {
		if _, added := k.added[word]; added {
			k.tell(NGFinding{Kind: "empty", Word: word})
		}
		k.empty[word] = true
	}
	filter := ngword.NewFilter(m)
	for _, e := range k.list.Entries {
		hits := filter.Check(e.Word).Hits
		if k.empty[e.Word] || len(hits) == 0 || hits[0].Word == e.Word || !covers(hits[0], e.Word) {
			continue
		}
		word, other := e.Word, hits[0].Word
		if _, added := k.added[word]; !added {
			word, other = other, word // it is the other that is new
		}
		if _, added := k.added[word]; added {
			k.tell(NGFinding{Kind: "same", Word: word, Other: other})
		}
	}
	return nil
}

// covers reports a hit on the whole of a word; what is no letter at its ends (`darn!`) counts for nothing.
func covers(h ngword.Hit, word string) bool {
	mute := func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.N) }
	left := len(word) - len(strings.TrimLeftFunc(word, mute))
	return h.Start <= left && h.End >= len(strings.TrimRightFunc(word, mute))
}

// hiddenAndAllowed finds words that never do anything: because an allow entry always wins, or because a word within them is as
// strict already. An allow entry that is added may take away any word of the list.
func (k *ngCheck) hiddenAndAllowed() error {
	all, err := compileNG(append([]store.NGList{k.list}, k.spared...))
	if err != nil {
		return err
	}
	allows := len(k.words) < len(k.added)
	for _, e := range k.list.Entries {
		_, added := k.added[e.Word]
		if e.Kind == store.NGAllow || k.empty[e.Word] || !added && !allows {
			continue
		}
		if len(all.Check(e.Word).Hits) == 0 {
			k.tell(allowedBy(e.Word, all.Explain(e.Word).Allowed))
			continue
		}
		if !added {
			continue
		}
		if other := within(all, e); other != "" {
			k.tell(NGFinding{Kind: "hidden", Word: e.Word, Other: other})
		}
	}
	return nil
}

// allowedBy names the allow entry that takes a word away, if it is known.
func allowedBy(word string, allowed []ngword.Found) NGFinding {
	f := NGFinding{Kind: "allowed", Word: word}
	if len(allowed) > 0 {
		f.List, f.Other = allowed[0].By.List, allowed[0].By.Word
	}
	return f
}

// hides reports whether a word that is found in another leaves that one nothing to do. Masking the inner one leaves the rest of
// the outer one to be read.
func hides(inner, outer string) bool {
	return inner != store.NGMask && strictness(inner) >= strictness(outer)
}

func strictness(action string) int {
	if i := slices.Index([]string{store.NGFlag, store.NGMask, store.NGShadow}, action); i >= 0 {
		return i
	}
	return 3 // reject, and what this program does not know
}

// within returns a word of the list that is found in a part of another and hides it. The parts are the word without its first
// and without its last letter; another letter in its place keeps the edge from looking like that of a word.
func within(filter *ngword.Filter, e store.NGEntry) string {
	word := e.Word
	first, last := edges(word)
	if first == 0 {
		return ""
	}
	for _, h := range filter.Check(word[:last] + stranger(word[last:])).Hits {
		if h.End <= last && hides(h.Action, e.Action) {
			return h.Word
		}
	}
	begin := stranger(word[:first])
	for _, h := range filter.Check(begin + word[first:]).Hits {
		if h.Start >= len(begin) && hides(h.Action, e.Action) {
			return h.Word
		}
	}
	return ""
}

// edges returns where the first letter of a word ends and where its last begins, marks that follow included; 0 for a word of
// one letter.
func edges(word string) (first, last int) {
	for i, r := range word {
		if i > 0 && !unicode.IsMark(r) && !isVoicing(r) {
			if first == 0 {
				first = i
			}
			last = i
		}
	}
	return first, last
}

func isVoicing(r rune) bool { return r == 'ﾞ' || r == 'ﾟ' || r == '゛' || r == '゜' }

// stranger returns a rare letter of the same kind.
func stranger(letter string) string {
	switch r, _ := utf8.DecodeRuneInString(letter); {
	case unicode.Is(unicode.Cyrillic, r):
		return "ъ"
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
		return "龘"
	}
	return "q"
}

// ordinary tries the added words on the shipped lists of ordinary words: one finding for each word and list.
func (k *ngCheck) ordinary() error {
	filter, err := k.addedOnly(nil)
	if err != nil {
		return err
	}
	for _, shipped := range ngword.Shipped() {
		spared := slices.Contains(included(k.list), shipped.Name)
		var lines []string
		for _, e := range shipped.Entries {
			lines = append(lines, e.Word)
		}
		for _, f := range k.hitsIn(filter, lines) {
			f.Kind, f.List, f.Spared = "ordinary", named(shipped).Name, spared
			k.tell(f)
		}
	}
	return nil
}

// inLog tries the added words on lines that people wrote, with all that would let them pass.
func (k *ngCheck) inLog(sample []string) error {
	filter, err := k.addedOnly(k.spared)
	if err != nil {
		return err
	}
	for _, f := range k.hitsIn(filter, sample) {
		f.Kind = "log"
		k.tell(f)
	}
	return nil
}

// addedOnly compiles the added words with the list's allow entries, and those of others.
func (k *ngCheck) addedOnly(spared []store.NGList) (*ngword.Filter, error) {
	l := k.list
	l.Entries = nil
	if spared != nil {
		l.Entries = ofKind(k.list.Entries, true)
	}
	for _, word := range k.words {
		l.Entries = append(l.Entries, k.added[word])
	}
	return compileNG(append([]store.NGList{l}, spared...))
}

// hitsIn counts for each word the lines that it hits, the most first, with the shortest of them as example.
func (k *ngCheck) hitsIn(filter *ngword.Filter, lines []string) []NGFinding {
	byWord := map[string]*NGFinding{}
	for _, line := range lines {
		seen := map[string]bool{}
		for _, h := range filter.Check(line).Hits {
			if seen[h.Word] {
				continue
			}
			seen[h.Word] = true
			f := byWord[h.Word]
			if f == nil {
				f = &NGFinding{Word: h.Word, Example: line}
				byWord[h.Word] = f
			}
			f.Lines++
			if len(line) < len(f.Example) {
				f.Example = line
			}
		}
	}
	found := make([]NGFinding, 0, len(byWord))
	for _, f := range byWord {
		f.Example = clip(f.Example, maxExample)
		found = append(found, *f)
	}
	slices.SortFunc(found, func(a, b NGFinding) int {
		return cmp.Or(b.Lines-a.Lines, strings.Compare(a.Word, b.Word))
	})
	return found
}
