package chat

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

// Bounds of words. A compiled list takes some 20 bytes a letter, for a moment four times as much.
const (
	maxLexicons = 4096       // tenants whose lists are kept
	maxLetters  = 40_000_000 // letters of all lists that are kept
	maxOfList   = 4_000_000  // letters of one list: twenty of each word, if it has as many words as may be
)

// words keeps what judges in this process: each list of the tenants that speak here, compiled once, each base list that one of
// these includes, and the filters made of them. What changes is read anew in the background while the old one serves.
type words struct {
	ctx          context.Context
	store        Store
	log          *slog.Logger
	small, large chan struct{} // slots for compiling lists
	maxLetters   int

	mu      sync.RWMutex
	tenants map[string]*lexicon
	lists   map[listKey]*wordList
	total   int // letters of lists
	closed  bool
	wg      sync.WaitGroup
}

type listKey struct{ tenant, list string }

// lexicon is what a tenant has: the names of its lists, and their filters.
type lexicon struct {
	unit
	tenant  string
	names   []string
	filters atomic.Pointer[filters] // nil when a list has changed
}

// wordList is a list as it serves.
type wordList struct {
	unit
	compiled
}

// filters judge by scope. A nil one has nothing to forbid.
type filters struct {
	byScope map[string]*ngword.Filter
	all     *ngword.Filter // for a kind of channel that this version does not know
}

func (f *filters) of(scope string) *ngword.Filter {
	if one, ok := f.byScope[scope]; ok {
		return one
	}
	return f.all
}

func newWords(ctx context.Context, st Store, log *slog.Logger) *words {
	return &words{
		ctx: ctx, store: st, log: log, maxLetters: maxLetters,
		small: make(chan struct{}, smallCompilers), large: make(chan struct{}, largeCompilers),
		tenants: map[string]*lexicon{}, lists: map[listKey]*wordList{},
	}
}

// of returns a tenant's filters. Only the first time in a while it waits for the database, at most until ctx ends.
func (w *words) of(ctx context.Context, tenant string) (*filters, error) {
	for {
		w.mu.RLock()
		t := w.tenants[tenant]
		w.mu.RUnlock()
		if t != nil {
			if f := t.filters.Load(); f != nil {
				return f, nil
			}
		}
		t, f := w.assemble(tenant)
		if f != nil {
			return f, nil
		}
		if err := w.await(ctx, &t.unit); err != nil {
			return nil, err
		}
	}
}

// assemble makes a tenant's filters of the lists that serve; nil before they were read.
func (w *words) assemble(tenant string) (*lexicon, *filters) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tenants[tenant]
	if t == nil {
		w.makeRoomLocked()
		t = w.newLexiconLocked(tenant)
	}
	if !t.served {
		return t, nil
	}
	f := w.filtersLocked(t)
	t.filters.Store(f)
	return t, f
}

// filtersLocked joins the tenant's lists and the base lists that they include, by what they apply to.
func (w *words) filtersLocked(t *lexicon) *filters {
	f := &filters{byScope: map[string]*ngword.Filter{}}
	for _, scope := range append([]string{""}, store.NGScopes...) {
		var chosen selection
		for _, name := range t.names {
			l := w.lists[listKey{t.tenant, name}]
			if l == nil || !l.appliesTo(scope) {
				continue
			}
			chosen.add(l)
			for _, base := range l.settings.Include {
				if b := w.lists[listKey{store.NGBase, base}]; b != nil && b.appliesTo(scope) {
					chosen.add(b)
				}
			}
		}
		if scope == "" {
			f.all = chosen.filter()
		} else {
			f.byScope[scope] = chosen.filter()
		}
	}
	return f
}

// selection is the lists for one scope, each of them once.
type selection struct {
	lists   []*wordList
	forbids bool
}

func (s *selection) add(l *wordList) {
	if !slices.Contains(s.lists, l) {
		s.lists = append(s.lists, l)
		s.forbids = s.forbids || l.forbids
	}
}

func (s *selection) filter() *ngword.Filter {
	if !s.forbids { // allow entries alone would only cost time
		return nil
	}
	var matchers []*ngword.Matcher
	for _, l := range s.lists {
		matchers = append(matchers, l.matcher)
	}
	return ngword.NewFilter(matchers...)
}

// changed renews a list, or with an empty name all that the tenant has; an empty tenant renews everything.
func (w *words) changed(tenant, list string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, l := range w.lists {
		if (tenant != "" && key.tenant != tenant) || (list != "" && key.list != list) {
			continue
		}
		if key.tenant == store.NGBase && !w.includedLocked(key.list) {
			w.dropListLocked(key)
			continue
		}
		w.startLocked(&l.unit)
	}
	for name, t := range w.tenants { // a list may be new, or gone
		if tenant == "" || name == tenant {
			w.startLocked(&t.unit)
		}
	}
}

// forget drops all that a tenant had.
func (w *words) forget(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.tenants[tenant]; t != nil {
		w.dropLexiconLocked(t)
	}
}

func (w *words) includedLocked(base string) bool {
	for key, l := range w.lists {
		if key.tenant != store.NGBase && slices.Contains(l.settings.Include, base) {
			return true
		}
	}
	return false
}

// stalenLocked makes the filters be assembled anew that a list is part of.
func (w *words) stalenLocked(key listKey) {
	for tenant, t := range w.tenants {
		if key.tenant == store.NGBase || key.tenant == tenant {
			t.filters.Store(nil)
		}
	}
}

func (w *words) newLexiconLocked(tenant string) *lexicon {
	t := &lexicon{tenant: tenant}
	t.unit = newUnit(func(ctx context.Context) (func() bool, error) { return w.readLexicon(ctx, t) },
		func() { w.dropLexiconLocked(t) }, "tenant", tenant)
	w.tenants[tenant] = t
	w.startLocked(&t.unit)
	return t
}

func (w *words) newListLocked(key listKey) *wordList {
	l := &wordList{}
	l.unit = newUnit(func(ctx context.Context) (func() bool, error) { return w.readList(ctx, key, l) },
		func() { w.dropListLocked(key) }, "tenant", key.tenant, "list", key.list)
	w.lists[key] = l
	w.startLocked(&l.unit)
	return l
}

// makeRoomLocked drops a sixteenth of the tenants at random when there are too many, so that this is rare.
func (w *words) makeRoomLocked() {
	if len(w.tenants) < maxLexicons {
		return
	}
	for _, t := range w.tenants {
		w.dropLexiconLocked(t)
		if len(w.tenants) < maxLexicons-maxLexicons/16 {
			return
		}
	}
}

// holdBoundLocked drops the tenants with the longest lists while there are too many letters: their next message waits for them,
// and everybody else's does not.
func (w *words) holdBoundLocked(except string) {
	for w.total > w.maxLetters {
		longest := w.longestLocked(except)
		if longest == nil {
			return
		}
		w.log.Warn("too many NG words are in use, those of one tenant are read again when it speaks", "tenant", longest.tenant, "letters", w.total)
		w.dropLexiconLocked(longest)
	}
}

func (w *words) longestLocked(except string) *lexicon {
	sizes := map[string]int{}
	for key, l := range w.lists {
		if w.tenants[key.tenant] != nil && key.tenant != except {
			sizes[key.tenant] += l.letters
		}
	}
	var longest string
	for tenant, n := range sizes {
		if n > sizes[longest] || n == sizes[longest] && cmp.Less(tenant, longest) {
			longest = tenant
		}
	}
	if sizes[longest] == 0 {
		return nil
	}
	return w.tenants[longest]
}

func (w *words) dropLexiconLocked(t *lexicon) {
	t.dropped = true
	if w.tenants[t.tenant] == t {
		delete(w.tenants, t.tenant)
	}
	for key := range w.lists {
		if key.tenant == t.tenant {
			w.dropListLocked(key)
		}
	}
}

func (w *words) dropListLocked(key listKey) {
	if l := w.lists[key]; l != nil {
		l.dropped = true
		w.total -= l.letters
		delete(w.lists, key)
	}
}

// stale counts the lists of which an old revision serves, since the newest cannot be read or compiled.
func (w *words) stale() (n int) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, l := range w.lists {
		if l.served && l.err != nil {
			n++
		}
	}
	return n
}

// close waits for what is being read to notice the context's end. Nothing more is read.
func (w *words) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wg.Wait()
}
