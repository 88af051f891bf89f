package chat

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	// Lists are read and compiled a few at a time: huge ones leave a core to the chat, and never stand before small ones.
	smallCompilers = 4
	largeCompilers = 2
	largeList      = 10_000 // words

	listTimeout = time.Minute      // of reading one list; whoever waits for it is told sooner
	settleTime  = time.Second      // that a test of a text waits for a change to be in force
	renewPause  = 10 * time.Second // at most between two attempts to read what cannot be read
)

var errDropped = errors.New("the NG words were dropped meanwhile")

// unit is something that one goroutine at a time reads, again and again while it changes. words.mu guards the fields.
type unit struct {
	read  func(context.Context) (put func() bool, err error) // put is called locked; false: read again
	drop  func()                                             // called locked
	attrs []any                                              // for the log
	first chan struct{}                                      // closed once the first read has ended
	wake  chan struct{}                                      // ends the pause after an error

	served         bool  // there is a value
	err            error // of the last read
	running, again bool
	dropped        bool
}

func newUnit(read func(context.Context) (func() bool, error), drop func(), attrs ...any) unit {
	return unit{read: read, drop: drop, attrs: attrs, first: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// startLocked has the unit read, once more if it is being read.
func (w *words) startLocked(u *unit) {
	if u.running {
		u.again = true
		select {
		case u.wake <- struct{}{}:
		default:
		}
		return
	}
	if w.closed {
		u.err = context.Canceled
		u.endFirst()
		return
	}
	u.running = true
	w.wg.Go(func() { w.run(u) })
}

func (w *words) run(u *unit) {
	for pause := recheckPause; ; {
		put, err := w.attempt(u)
		if !w.ended(u, put, err) {
			return
		}
		if err == nil {
			pause = recheckPause
			continue
		}
		w.log.Warn("cannot renew the NG words, the old ones serve", append([]any{"error", err}, u.attrs...)...)
		select {
		case <-w.ctx.Done():
		case <-u.wake:
		case <-time.After(pause):
			pause = min(2*pause, renewPause)
		}
	}
}

// attempt reads a unit. Whatever is wrong with a list, it is an error and not the end of the process.
func (w *words) attempt(u *unit) (put func() bool, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			w.log.Error("internal error: compiling an NG list panics", append([]any{"panic", bug, "stack", string(debug.Stack())}, u.attrs...)...)
			err = fmt.Errorf("internal error: %v", bug)
		}
	}()
	return u.read(w.ctx)
}

// ended takes what was read, and reports whether to read again.
func (w *words) ended(u *unit, put func() bool, err error) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case u.dropped:
		u.err = errDropped
	case w.ctx.Err() != nil:
		u.err = w.ctx.Err()
	case err != nil:
		u.err = err
		again = u.served || u.again
	case !put():
		return true
	default:
		u.err, u.served = nil, true
		again = u.again
	}
	u.again, u.running = false, again
	if !u.served && !again && !u.dropped {
		u.drop() // who asks next tries again
	}
	u.endFirst()
	return again
}

func (u *unit) endFirst() {
	select {
	case <-u.first:
	default:
		close(u.first)
	}
}

// await waits for a unit's first read.
func (w *words) await(ctx context.Context, u *unit) error {
	select {
	case <-u.first:
	case <-ctx.Done():
		return ctx.Err()
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	if u.served {
		return nil
	}
	return u.err
}

// readLexicon reads which lists a tenant has, and waits for those that are new.
func (w *words) readLexicon(ctx context.Context, t *lexicon) (func() bool, error) {
	heads, err := w.heads(ctx, t.tenant)
	if err != nil {
		return nil, err
	}
	keys := make([]listKey, len(heads))
	names := make([]string, len(heads))
	for i, head := range heads {
		keys[i], names[i] = listKey{t.tenant, head.Name}, head.Name
	}
	if err := w.need(ctx, keys); err != nil {
		return nil, err
	}
	return func() bool {
		if !w.haveLocked(keys) {
			return false
		}
		for _, name := range t.names {
			if !slices.Contains(names, name) {
				w.dropListLocked(listKey{t.tenant, name})
			}
		}
		t.names = names
		t.filters.Store(nil)
		return true
	}, nil
}

// readList reads and compiles a list, and waits for the base lists that it includes.
func (w *words) readList(ctx context.Context, key listKey, l *wordList) (func() bool, error) {
	next, err := w.compile(ctx, key)
	if err != nil {
		return nil, err
	}
	var bases []listKey
	for _, name := range next.settings.Include {
		bases = append(bases, listKey{store.NGBase, name})
	}
	if err := w.need(ctx, bases); err != nil {
		return nil, err
	}
	return func() bool {
		if !w.haveLocked(bases) {
			return false
		}
		w.total += next.letters - l.letters
		l.compiled = next
		w.stalenLocked(key)
		w.holdBoundLocked(key.tenant)
		return true
	}, nil
}

// need has lists read that nobody needed before.
func (w *words) need(ctx context.Context, keys []listKey) error {
	lists := make([]*wordList, len(keys))
	w.mu.Lock()
	for i, key := range keys {
		if lists[i] = w.lists[key]; lists[i] == nil {
			lists[i] = w.newListLocked(key)
		}
	}
	w.mu.Unlock()
	for _, l := range lists {
		if err := w.await(ctx, &l.unit); err != nil {
			return err
		}
	}
	return nil
}

func (w *words) haveLocked(keys []listKey) bool {
	for _, key := range keys {
		if l := w.lists[key]; l == nil || !l.served {
			return false
		}
	}
	return true
}

// compiled is a list at a revision. Of a list that does not exist the matcher is nil.
type compiled struct {
	matcher  *ngword.Matcher
	revision int64
	settings store.NGSettings
	letters  int  // of all words
	forbids  bool // something besides allow entries
}

// appliesTo takes the empty scope for any. A list with a scope of a newer version applies to everything.
func (c *compiled) appliesTo(scope string) bool {
	known := func(s string) bool { return slices.Contains(store.NGScopes, s) }
	return scope == "" || slices.Contains(c.settings.Scopes, scope) || !each(c.settings.Scopes, known)
}

func each(list []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !ok(s) })
}

func (w *words) compile(ctx context.Context, key listKey) (compiled, error) {
	if key.tenant == store.NGBase && slices.Contains(store.NGShipped, key.list) {
		shipped := ngword.Shipped()
		i := slices.IndexFunc(shipped, func(l store.NGList) bool { return l.Name == key.list })
		return compileList(shipped[i])
	}
	leave, err := w.enter(ctx, key)
	if err != nil {
		return compiled{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := w.store.NGRead(ctx, key.tenant, key.list)
	if errors.Is(err, store.ErrNotFound) {
		if key.tenant == store.NGBase {
			w.log.Warn("an NG list includes a base list that does not exist", "base", key.list)
		}
		return compiled{}, nil
	}
	if err != nil {
		return compiled{}, err
	}
	return compileList(list)
}

// compileList makes a matcher in whose hits a base list is `_base/NAME`: the tenant may have a list of that name.
func compileList(list store.NGList) (compiled, error) {
	if list.Tenant == store.NGBase {
		list.Name = store.NGBase + "/" + list.Name
	}
	letters := 0
	for _, e := range list.Entries {
		if letters += lettersOf(e.Word); letters > maxOfList {
			return compiled{}, fmt.Errorf("the words of NG list %q have more than %d letters", list.Name, maxOfList)
		}
	}
	m, err := ngword.Compile(list)
	if err != nil {
		return compiled{}, err
	}
	c := compiled{matcher: m, revision: list.Revision, settings: list.Settings.WithDefaults(), letters: letters}
	c.forbids = slices.ContainsFunc(list.Entries, func(e store.NGEntry) bool { return e.Kind != store.NGAllow })
	if list.Tenant == store.NGBase {
		c.settings.Include = nil
	}
	return c, nil
}

// lettersOf is how much a word may take: a single character can stand for a sentence.
func lettersOf(word string) int {
	if norm.NFKC.IsNormalString(word) {
		return utf8.RuneCountInString(word)
	}
	return utf8.RuneCountInString(norm.NFKC.String(word))
}

// enter waits for a slot for reading and compiling a list, by its size.
func (w *words) enter(ctx context.Context, key listKey) (leave func(), err error) {
	heads, err := w.heads(ctx, key.tenant)
	if err != nil {
		return nil, err
	}
	slots := w.small
	if slices.ContainsFunc(heads, func(l store.NGList) bool { return l.Name == key.list && l.Words > largeList }) {
		slots = w.large
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *words) heads(ctx context.Context, tenant string) ([]store.NGList, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	return w.store.NGLists(ctx, tenant)
}

// settle waits until the lists serve as they stand in the database now, but no longer than settleTime: one of them may be broken.
func (w *words) settle(ctx context.Context, tenant string) error {
	var want []store.NGList
	for _, owner := range []string{tenant, store.NGBase} {
		heads, err := w.heads(ctx, owner)
		if err != nil {
			return err
		}
		want = append(want, heads...)
	}
	deadline := time.After(settleTime)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !w.serves(tenant, want) {
		select {
		case <-tick.C:
		case <-deadline:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serves reports whether a tenant's lists are at these revisions, and the base lists that are used here.
func (w *words) serves(tenant string, heads []store.NGList) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	t, own := w.tenants[tenant], 0
	for _, head := range heads {
		l := w.lists[listKey{head.Tenant, head.Name}]
		if head.Tenant == tenant {
			own++
		}
		if l == nil && head.Tenant == tenant || l != nil && l.revision != head.Revision {
			return false
		}
	}
	return t != nil && own == len(t.names)
}
