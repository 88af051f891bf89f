package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/store"
)

func TestNGWords_changeIsInForceWithinASecondOrTwo(t *testing.T) {
	st, aya, ben := twoProcesses(t)
	for _, c := range []*client{aya, ben} {
		c.mustSay("lobby", "badword") // compiles the first list
	}
	addWords(t, st, "badword", "reject")
	for _, c := range []*client{aya, ben} {
		eventually(t, within, "the new word to be refused", func() bool {
			_, err := c.say(SayRequest{Channel: "lobby", Text: "badword"})
			return err != nil && AsError(err).Code == CodeNGWord
		})
	}
}

// shelf is a store of NG lists in memory. A read (of a tenant whose name begins with held) waits while hold is locked, fails with
// fail, and panics with bug.
type shelf struct {
	Store
	hold sync.RWMutex
	held string
	mu   sync.Mutex
	all  map[listKey]store.NGList
	fail map[listKey]error
	bug  bool
	read []listKey
}

func newShelf() *shelf { return &shelf{all: map[listKey]store.NGList{}, fail: map[listKey]error{}} }

// put sets a list of pairs of word and action; a word with a leading + is allowed.
func (s *shelf) put(tenant, list string, g store.NGSettings, pairs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := store.NGList{Tenant: tenant, Name: list, Settings: g.WithDefaults(), Words: len(pairs) / 2}
	for i := 0; i < len(pairs); i += 2 {
		e := store.NGEntry{Word: pairs[i], Kind: store.NGWord, Action: pairs[i+1], Mode: store.NGModeSubstring}
		if word, ok := strings.CutPrefix(e.Word, "+"); ok {
			e.Word, e.Kind = word, store.NGAllow
		}
		l.Entries = append(l.Entries, e)
	}
	s.all[listKey{tenant, list}] = l
}

func (s *shelf) remove(tenant, list string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, listKey{tenant, list})
}

func (s *shelf) breaks(tenant, list string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[listKey{tenant, list}] = err
}

func (s *shelf) reads(tenant, list string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.read {
		if key == (listKey{tenant, list}) {
			n++
		}
	}
	return n
}

func (s *shelf) NGLists(_ context.Context, tenant string) (heads []store.NGList, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.all {
		if key.tenant == tenant {
			l.Entries = nil
			heads = append(heads, l)
		}
	}
	return heads, s.fail[listKey{tenant, ""}]
}

func (s *shelf) NGRead(_ context.Context, tenant, list string) (store.NGList, error) {
	s.mu.Lock()
	key := listKey{tenant, list}
	s.read = append(s.read, key)
	l, ok := s.all[key]
	err, bug := s.fail[key], s.bug
	s.mu.Unlock()
	if strings.HasPrefix(tenant, s.held) {
		s.hold.RLock()
		defer s.hold.RUnlock()
	}
	switch {
	case bug:
		panic("a bug")
	case err != nil:
		return store.NGList{}, err
	case !ok:
		return store.NGList{}, store.ErrNotFound
	}
	return l, nil
}

func testWords(t *testing.T, s *shelf) *words {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWords(ctx, s, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { cancel(); w.close() })
	return w
}

// action is what the tenant's lists for a scope do to a text.
func (w *words) action(t *testing.T, tenant, scope, text string) string {
	t.Helper()
	f, err := w.of(t.Context(), tenant)
	check(t, err)
	if one := f.of(scope); one != nil {
		return one.Check(text).Action
	}
	return ""
}

func (w *words) becomes(t *testing.T, tenant, scope, text, want string) {
	t.Helper()
	eventually(t, within, fmt.Sprintf("%q of %s to be %q", text, tenant, want), func() bool { return w.action(t, tenant, scope, text) == want })
}

var alone = store.NGSettings{Include: []string{}}

func including(lists ...string) store.NGSettings { return store.NGSettings{Include: lists} }

func TestNGWords_oldListServesUntilTheNewOneIsCompiled(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	w := testWords(t, s)
	w.becomes(t, "demo", "world", "one", "reject")
	s.hold.Lock()
	s.put("demo", "default", alone, "two", "reject")
	w.changed("demo", "default")
	eventually(t, within, "the new list to be read", func() bool { return s.reads("demo", "default") == 2 })
	s.put("demo", "default", alone, "three", "reject")
	w.changed("demo", "default") // meanwhile: must not be lost
	eventually(t, within, "the lexicon to be read", func() bool {
		w.mu.RLock()
		defer w.mu.RUnlock()
		return !w.tenants["demo"].running
	})
	if w.action(t, "demo", "world", "one") != "reject" {
		t.Fatal("the old list does not serve while the new one is read")
	}
	s.hold.Unlock()
	w.becomes(t, "demo", "world", "three", "reject")
	if w.action(t, "demo", "world", "one") != "" {
		t.Error("the old list still serves")
	}
}

func TestNGWords_whatNobodyUsesIsNotRead(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	s.put(store.NGBase, "base", alone, "two", "reject")
	w := testWords(t, s)
	w.changed("demo", "default")
	w.changed(store.NGBase, "base")
	w.changed("", "")
	w.close()
	if len(s.read) != 0 {
		t.Errorf("read %v", s.read)
	}
}

func TestNGWords_scopesDecideWhatAListJudges(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", including("guilds"), "everywhere", "reject")
	s.put(store.NGBase, "guilds", store.NGSettings{Scopes: []string{"guild"}}, "traitor", "reject")
	s.put("demo", "worlds", store.NGSettings{Scopes: []string{"world"}, Include: []string{"base"}}, "loud", "mask")
	s.put("demo", "names", store.NGSettings{Scopes: []string{"name", "guild"}, Include: []string{}}, "king", "reject")
	s.put("demo", "newer", store.NGSettings{Scopes: []string{"party"}, Include: []string{}}, "future", "flag")
	s.put(store.NGBase, "base", store.NGSettings{Scopes: []string{"world", "name"}}, "based", "reject", "+loudest", "reject")
	w := testWords(t, s)
	for _, tt := range []struct{ text, world, guild, direct, name, other string }{
		{"everywhere", "reject", "reject", "reject", "reject", "reject"},
		{"loud", "mask", "", "", "", "mask"},
		{"loudest", "", "", "", "", ""},
		{"king", "", "reject", "", "reject", "reject"},
		{"based", "reject", "", "", "", "reject"}, // both lists' scopes count
		{"traitor", "", "reject", "", "", "reject"},
		{"future", "flag", "flag", "flag", "flag", "flag"},
		{"hello", "", "", "", "", ""},
	} {
		for scope, want := range map[string]string{"world": tt.world, "guild": tt.guild, "direct": tt.direct, "name": tt.name, "party": tt.other} {
			if got := w.action(t, "demo", scope, tt.text); got != want {
				t.Errorf("%q in %s: %q, want %q", tt.text, scope, got, want)
			}
		}
	}
}

func TestNGWords_baseListIsCompiledOnceAndReachesAllWhoIncludeIt(t *testing.T) {
	s := newShelf()
	s.put(store.NGBase, "base", alone, "one", "reject")
	for i := range 20 {
		s.put(fmt.Sprint("t", i), "default", including("base", "kms-allow-en"))
	}
	s.put("other", "default", alone, "x", "reject")
	w := testWords(t, s)
	for i := range 20 {
		w.becomes(t, fmt.Sprint("t", i), "world", "one", "reject")
	}
	if got := w.action(t, "other", "world", "one"); got != "" {
		t.Errorf("a tenant that does not include it: %q", got)
	}
	s.put(store.NGBase, "base", alone, "two", "mask")
	w.changed(store.NGBase, "base")
	for i := range 20 {
		w.becomes(t, fmt.Sprint("t", i), "world", "two", "mask")
	}
	if n, own := s.reads(store.NGBase, "base"), s.reads("t1", "default"); n != 2 || own != 1 {
		t.Errorf("the base list was read %d times, want 2; a tenant's %d, want 1", n, own)
	}
	if n := len(w.lists); n != 23 { // 21 tenants', base, kms-allow-en
		t.Errorf("%d lists are kept", n)
	}
	s.put("t1", "default", including("kms-allow-en"))
	w.changed("t1", "default")
	w.becomes(t, "t1", "world", "two", "")
	w.becomes(t, "t2", "world", "two", "mask")
	for i := range 20 {
		s.put(fmt.Sprint("t", i), "default", alone, "x", "reject")
		w.changed(fmt.Sprint("t", i), "default")
		w.becomes(t, fmt.Sprint("t", i), "world", "two", "")
	}
	w.changed(store.NGBase, "base")
	w.close()
	if n := s.reads(store.NGBase, "base"); n != 2 || w.lists[listKey{store.NGBase, "base"}] != nil {
		t.Errorf("a base list that nobody includes any more is kept, and was read %d times", n)
	}
}

func TestNGWords_baseListsIncludeNothing(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", including("base"), "one", "reject")
	s.put(store.NGBase, "base", including("base", "other"), "two", "reject") // a newer version may let it
	s.put(store.NGBase, "other", alone, "three", "reject")
	w := testWords(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if _, err := w.of(ctx, "demo"); err != nil {
		t.Fatal(err)
	}
	if w.action(t, "demo", "world", "two") != "reject" || w.action(t, "demo", "world", "three") != "" || s.reads(store.NGBase, "other") != 0 {
		t.Error("a base list included another")
	}
}

func TestNGWords_tenantMadeAnewHasNotTheOldLists(t *testing.T) {
	t.Parallel()
	st := testStore(t)
	addWords(t, st, "badword", "reject")
	api := startAPI(t, st, &network{})
	_, err := api.JudgeName(t.Context(), "demo", "user aya", "badword")
	expectCode(t, err, CodeNGWord, false)
	check(t, st.DeleteTenant(t.Context(), "demo"))
	_, err = st.CreateTenant(t.Context(), store.Tenant{ID: "demo", Name: "Another"})
	check(t, err)
	eventually(t, within, "the old list to be gone", func() bool {
		_, err := api.JudgeName(t.Context(), "demo", "user aya", "badword")
		return err == nil
	})
}

func TestNGWords_shippedAllowListsJudgeAlong(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", store.NGSettings{}, "cunt", "reject")
	s.put("bare", "default", alone, "cunt", "reject")
	s.put("quiet", "default", store.NGSettings{})
	w := testWords(t, s)
	if got := w.action(t, "demo", "world", "I live in Scunthorpe"); got != "" {
		t.Errorf("with the shipped lists: %q", got)
	}
	if got := w.action(t, "bare", "world", "I live in Scunthorpe"); got != "reject" {
		t.Errorf("without: %q", got)
	}
	f, err := w.of(t.Context(), "quiet")
	check(t, err)
	if f.of("world") != nil {
		t.Error("allow entries alone cost time on every message")
	}
}

func TestNGWords_missingBaseListIsSkippedUntilItIsThere(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", including("base"), "own", "reject")
	var log bytes.Buffer
	w := testWords(t, s)
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	for range 5 {
		w.becomes(t, "demo", "world", "own", "reject")
	}
	if n := strings.Count(log.String(), "base=base"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	s.put(store.NGBase, "base", alone, "one", "reject")
	w.changed(store.NGBase, "base")
	w.becomes(t, "demo", "world", "one", "reject")
}

func TestNGWords_newAndDeletedLists(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	w := testWords(t, s)
	w.becomes(t, "demo", "world", "one", "reject")
	s.put("demo", "more", alone, "two", "reject")
	w.changed("demo", "more")
	w.becomes(t, "demo", "world", "two", "reject")
	if n := s.reads("demo", "default"); n != 1 {
		t.Errorf("the other list was read %d times", n)
	}
	s.remove("demo", "more")
	w.changed("demo", "more")
	w.becomes(t, "demo", "world", "two", "")
	eventually(t, within, "the deleted list to be forgotten", func() bool {
		w.mu.RLock()
		defer w.mu.RUnlock()
		return len(w.lists) == 1
	})
	s.put("demo", "more", alone, "three", "reject")
	w.changed("demo", "more")
	w.becomes(t, "demo", "world", "three", "reject")
	w.forget("demo") // the tenant was deleted, and another has its name
	s.remove("demo", "more")
	if got := w.action(t, "demo", "world", "three"); got != "" || w.total != len("one") {
		t.Errorf("after the tenant was made anew: %q, %d letters", got, w.total)
	}
}

func TestNGWords_brokenListLeavesTheOldOneServingAndIsCounted(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	s.put("demo", "more", alone, "two", "reject")
	w := testWords(t, s)
	w.becomes(t, "demo", "world", "two", "reject")
	for name, breaks := range map[string]func(){
		"unreadable": func() { s.breaks("demo", "more", errors.New("bad settings")) },
		"no list":    func() { s.put("demo", "more", alone, strings.Repeat("a", maxOfList+1), "reject") },
		"a bug":      func() { s.mu.Lock(); defer s.mu.Unlock(); s.bug = true },
	} {
		breaks()
		w.changed("demo", "more")
		eventually(t, within, name+": the list to be counted", func() bool { return w.stale() == 1 })
		if got := w.action(t, "demo", "world", "two"); got != "reject" {
			t.Errorf("%s: the old list does not serve: %q", name, got)
		}
		s.mu.Lock()
		s.bug = false
		s.mu.Unlock()
		s.breaks("demo", "more", nil)
		s.put("demo", "more", alone, "two", "reject", name, "reject")
		w.changed("demo", "more")
		w.becomes(t, "demo", "world", name, "reject")
		eventually(t, within, name+": nothing to be counted", func() bool { return w.stale() == 0 })
	}
}

func TestNGWords_repairedListServesAtOnceHoweverLongItWasBroken(t *testing.T) {
	t.Parallel()
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	w := testWords(t, s)
	w.becomes(t, "demo", "world", "one", "reject")
	s.breaks("demo", "default", errors.New("bad settings"))
	w.changed("demo", "default")
	eventually(t, 10*time.Second, "three more attempts, further and further apart", func() bool { return s.reads("demo", "default") == 5 })
	s.breaks("demo", "default", nil)
	s.put("demo", "default", alone, "two", "reject")
	w.changed("demo", "default")
	eventually(t, time.Second, "the repaired list", func() bool { return w.action(t, "demo", "world", "two") == "reject" })
}

func TestNGWords_afterTheEndNothingIsReadAnyMore(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	ctx, cancel := context.WithCancel(t.Context())
	w := newWords(ctx, s, slog.New(slog.DiscardHandler))
	w.becomes(t, "demo", "world", "one", "reject")
	cancel()
	w.close()
	w.changed("", "")
	if _, err := w.of(t.Context(), "other"); err == nil || len(s.read) != 1 {
		t.Errorf("%v, read %v", err, s.read)
	}
}

func TestNGWords_oneListThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	s.put("demo", "more", alone, "two", "reject")
	w := testWords(t, s)
	w.becomes(t, "demo", "world", "two", "reject")
	s.breaks("demo", "more", errors.New("bad settings"))
	s.put("demo", "default", alone, "three", "reject")
	w.changed("", "") // a restore, say
	w.becomes(t, "demo", "world", "three", "reject")
	if got := w.action(t, "demo", "world", "two"); got != "reject" {
		t.Errorf("the broken list's old revision does not serve: %q", got)
	}
}

func TestNGWords_whatWasNeverReadRefuses(t *testing.T) {
	for name, key := range map[string]listKey{"a list": {"demo", "default"}, "the lists": {"demo", ""}, "a base list": {store.NGBase, "base"}} {
		s := newShelf()
		s.put("demo", "default", including("base"), "one", "reject")
		s.put(store.NGBase, "base", alone, "two", "reject")
		s.breaks(key.tenant, key.list, store.ErrUnavailable)
		w := testWords(t, s)
		if _, err := w.of(t.Context(), "demo"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		s.breaks(key.tenant, key.list, nil)
		w.becomes(t, "demo", "world", "one", "reject")
		w.becomes(t, "demo", "world", "two", "reject")
	}
}

func TestNGWords_whoWaitsForALongReadIsToldInTime(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", alone, "one", "reject")
	w := testWords(t, s)
	s.hold.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.of(ctx, "demo"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.hold.Unlock()
	w.becomes(t, "demo", "world", "one", "reject")
	if n := s.reads("demo", "default"); n != 1 {
		t.Errorf("read %d times: the first read did not count", n)
	}
}

func TestNGWords_hugeListsHoldUpNoSmallOnes(t *testing.T) {
	s := newShelf()
	huge := make([]string, 0, 2*(largeList+1))
	for i := range largeList + 1 {
		huge = append(huge, fmt.Sprintf("w%06d", i), "reject")
	}
	for i := range 2 * largeCompilers {
		s.put(fmt.Sprint("huge", i), "default", alone, huge...)
	}
	s.put("demo", "default", alone, "one", "reject")
	s.held = "huge"
	w := testWords(t, s)
	s.hold.Lock()
	release := sync.OnceFunc(s.hold.Unlock)
	t.Cleanup(release)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 2 * largeCompilers {
		wg.Go(func() { _, _ = w.of(ctx, fmt.Sprint("huge", i)) })
	}
	eventually(t, within, "the slots to be taken", func() bool { return len(w.large) == largeCompilers })
	w.becomes(t, "demo", "world", "one", "reject")
	release()
	eventually(t, within, "all huge lists to be read", func() bool {
		w.mu.RLock()
		defer w.mu.RUnlock()
		return w.total == 2*largeCompilers*(largeList+1)*len("w000000")+len("one")
	})
	cancel()
	wg.Wait()
}

// Characters that stand for many letters are counted as those: 200,000 words of them would be 5 GB.
func TestNGWords_listOfTooManyLettersIsNotCompiled(t *testing.T) {
	word := strings.Repeat("\ufdfa", 100) // 1,800 letters
	l := store.NGList{Name: "x"}
	for len(l.Entries)*1800 <= maxOfList {
		l.Entries = append(l.Entries, store.NGEntry{Word: word})
	}
	if _, err := compileList(l); err == nil {
		t.Error("compiled")
	}
	l.Entries = l.Entries[:10]
	if c, err := compileList(l); err != nil || c.letters != 18000 {
		t.Errorf("%d letters, %v", c.letters, err)
	}
}

func TestNGWords_tooManyLettersDropTheLongestTenants(t *testing.T) {
	s := newShelf()
	pairs := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint("word", i), "reject")
		}
		return list
	}
	s.put("small", "default", alone, pairs(10)...)
	s.put("long", "default", alone, pairs(60)...)
	s.put("longer", "default", alone, pairs(80)...)
	w := testWords(t, s)
	w.maxLetters = 600
	for range 2 {
		for _, tenant := range []string{"small", "long", "longer"} {
			w.becomes(t, tenant, "world", "word1", "reject")
			if w.mu.RLock(); w.total > 600 {
				t.Errorf("%d letters are kept", w.total)
			}
			w.mu.RUnlock()
		}
	}
	if a, b, c := s.reads("small", "default"), s.reads("long", "default"), s.reads("longer", "default"); a != 1 || b != 2 || c != 2 {
		t.Errorf("read %d, %d, %d times, want 1, 2, 2: a small tenant must not pay", a, b, c)
	}
}

func TestNGWords_tenantsHaveTheirOwn(t *testing.T) {
	s := newShelf()
	s.put("demo", "default", including("mine"), "one", "reject")
	s.put("other", "default", including("mine"), "two", "reject")
	s.put("other", "mine", alone, "three", "reject") // include names base lists only
	w := testWords(t, s)
	for tenant, want := range map[string][]string{"demo": {"one"}, "other": {"two", "three"}} {
		for _, word := range []string{"one", "two", "three"} {
			if got := w.action(t, tenant, "world", word) != ""; got != slices.Contains(want, word) {
				t.Errorf("%s: %q is forbidden: %v", tenant, word, got)
			}
		}
	}
}
