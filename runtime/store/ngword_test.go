package store

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// add and replace are changes of the default list by `ann`, of any revision.
func add(tenant string, entries ...NGEntry) NGEdit {
	return NGEdit{Tenant: tenant, Base: -1, Author: "ann", Add: entries}
}

func replace(tenant string, entries ...NGEntry) NGEdit {
	return NGEdit{Tenant: tenant, Base: -1, Author: "ann", Replace: &entries}
}

func TestNGChange_revisionsKeepAdminsApart(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		before := head(t, s)
		if l, err := s.NGRead(ctx, tenant, NGDefault); l.Revision != 0 || l.Entries != nil || err != nil {
			t.Errorf("untouched list: %+v %v", l, err)
		}
		bad, ok := NGEntry{"ばか", NGWord, NGMask, NGModeAuto}, NGEntry{"ok", NGAllow, NGReject, NGModeWord}
		first := add(tenant, bad, ok)
		first.Base, first.Message = 0, "first"
		if done := got[NGChanged](t)(s.NGChange(ctx, first)); done.Revision != 1 || !slices.Equal(done.Added, []NGEntry{ok, bad}) {
			t.Errorf("first change %+v", done)
		}
		if _, err := s.NGChange(ctx, first); !errors.Is(err, ErrConflict) {
			t.Errorf("an old base: %v, want ErrConflict", err)
		}
		if done := got[NGChanged](t)(s.NGChange(ctx, NGEdit{Tenant: tenant, Base: -1, Add: []NGEntry{bad}, Remove: []string{"none"}})); done.Revision != 1 {
			t.Errorf("a change of nothing made %+v", done)
		}
		reject := bad
		reject.Action = NGReject
		second := NGEdit{Tenant: tenant, Base: 1, Author: "bob", Add: []NGEntry{reject}, Remove: []string{"ok"}, DryRun: true}
		plan := got[NGChanged](t)(s.NGChange(ctx, second))
		if l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)); l.Revision != 1 {
			t.Errorf("a dry run made revision %d", l.Revision)
		}
		second.DryRun = false
		done := got[NGChanged](t)(s.NGChange(ctx, second))
		if done.Revision != 2 || !slices.Equal(done.Added, []NGEntry{reject}) || !slices.Equal(done.Removed, []NGEntry{ok, bad}) ||
			!reflect.DeepEqual(plan, done) {
			t.Errorf("second change %+v, planned %+v", done, plan)
		}
		if l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)); l.Revision != 2 || !slices.Equal(l.Entries, []NGEntry{reject}) {
			t.Errorf("list %+v", l)
		}
		history := got[[]NGRevision](t)(s.NGHistory(ctx, tenant, NGDefault))
		if len(history) != 2 || history[0].Author != "bob" || history[0].At.IsZero() || history[1].Message != "first" ||
			history[0].Added != 1 || history[0].Removed != 2 {
			t.Errorf("history %+v", history)
		}
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"ngword demo default ", "ngword demo default "}) {
			t.Errorf("changes: %q", lines)
		}
	})
}

func TestNGRollback_bringsBackWordsAndSettings(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		a, b := NGEntry{Word: "a"}.WithDefaults(), NGEntry{Word: "b"}.WithDefaults()
		edit := func(e NGEdit) { got[NGChanged](t)(s.NGChange(ctx, e)) }
		edit(add(tenant, a))
		edit(NGEdit{Tenant: tenant, Base: -1, Settings: &NGSettings{Scopes: []string{KindWorld}, Include: []string{}, Spacing: NGSpacingOff}})
		edit(replace(tenant, b))
		edit(NGEdit{Tenant: tenant, Base: -1, Settings: &NGSettings{}})
		for revision, want := range map[int64]string{0: "[] word", 1: "[a] word", 2: "[a] off", 3: "[b] off", 4: "[b] word"} {
			l := got[NGList](t)(s.NGReadAt(ctx, tenant, NGDefault, revision))
			words := []string{}
			for _, e := range l.Entries {
				words = append(words, e.Word)
			}
			if is := fmt.Sprint(words, " ", l.Settings.Spacing); is != want || l.Revision != revision {
				t.Errorf("revision %d: %s, want %s", l.Revision, is, want)
			}
		}
		done := got[NGChanged](t)(s.NGRollback(ctx, NGEdit{Tenant: tenant, Base: 4, Author: "ann", Message: "back"}, 2))
		l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault))
		if done.Revision != 5 || !slices.Equal(l.Entries, []NGEntry{a}) || l.Settings.Spacing != NGSpacingOff || !slices.Equal(l.Settings.Scopes, []string{KindWorld}) {
			t.Errorf("%+v, list %+v", done, l)
		}
		if _, err := s.NGReadAt(ctx, tenant, NGDefault, 6); !errors.Is(err, ErrNotFound) {
			t.Errorf("a revision to come: %v", err)
		}
		if _, err := s.NGRollback(ctx, NGEdit{Tenant: tenant, Base: 4}, 1); !errors.Is(err, ErrConflict) {
			t.Errorf("a rollback of an old base: %v", err)
		}
	})
}

func TestNGLists_ofTenantsAndBase(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		names := func(tenant string) (names []string) {
			for _, l := range got[[]NGList](t)(s.NGLists(ctx, tenant)) {
				names = append(names, fmt.Sprint(l.Name, l.Words))
			}
			return names
		}
		settings := func(tenant, list string, include ...string) error {
			_, err := s.NGChange(ctx, NGEdit{Tenant: tenant, List: list, Base: -1, Settings: &NGSettings{Include: append([]string{}, include...)}})
			return err
		}
		slang := add(tenant, NGEntry{Word: "x"}, NGEntry{Word: "y"})
		slang.List = "slang"
		if _, err := s.NGChange(ctx, slang); !errors.Is(err, ErrNotFound) {
			t.Errorf("words for a list that is not there: %v", err)
		}
		if _, err := s.NGRead(ctx, tenant, "slang"); !errors.Is(err, ErrNotFound) {
			t.Errorf("reading it: %v", err)
		}
		if err := settings(tenant, "slang", "rude"); !errors.Is(err, ErrNotFound) {
			t.Errorf("including a list that is not there: %v", err)
		}
		must(t, settings(NGBase, "rude"))
		must(t, settings(tenant, "slang", "rude", NGShipped[0]))
		got[NGChanged](t)(s.NGChange(ctx, slang))
		if is, base := names(tenant), names(NGBase); !slices.Equal(is, []string{"default0", "slang2"}) || !slices.Equal(base, []string{"rude0"}) {
			t.Errorf("lists %q, base lists %q", is, base)
		}
		if err := s.NGDeleteList(ctx, NGBase, "rude", -1); !errors.Is(err, ErrInUse) {
			t.Errorf("deleting an included list: %v", err)
		}
		if err := s.NGDeleteList(ctx, tenant, NGDefault, -1); !errors.Is(err, ErrInUse) {
			t.Errorf("deleting the default list: %v", err)
		}
		if err := settings(NGBase, NGShipped[0]); !errors.Is(err, ErrInUse) {
			t.Errorf("changing a shipped list: %v", err)
		}
		if err := s.NGDeleteList(ctx, tenant, "slang", 1); !errors.Is(err, ErrConflict) {
			t.Errorf("deleting an old revision: %v", err)
		}
		must(t, s.NGDeleteList(ctx, tenant, "slang", 2))
		must(t, s.NGDeleteList(ctx, NGBase, "rude", -1))
		for i := range MaxNGLists {
			must(t, settings(tenant, fmt.Sprint("l", i)))
		}
		if err := settings(tenant, "one-more"); !errors.Is(err, ErrLimit) {
			t.Errorf("too many lists: %v", err)
		}
	})
}

func TestNGChange_takesLongListsAndHostileWords(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		words := []string{"か", "が", "a", "A", "ａ", "it's", `"`, `\`, `\'`, "%_", "🍣🍺", "\u0301", "ß", "ss", "; DROP TABLE tenants", "?", "i", "İ"}
		for i := range 3 * ngBatch {
			words = append(words, fmt.Sprintf("word%d", i))
		}
		var entries []NGEntry
		for _, w := range words {
			entries = append(entries, NGEntry{Word: w}.WithDefaults())
		}
		got[NGChanged](t)(s.NGChange(ctx, replace(tenant, entries...)))
		slices.SortFunc(entries, func(a, b NGEntry) int { return strings.Compare(a.Word, b.Word) })
		if l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)); !slices.Equal(l.Entries, entries) {
			t.Errorf("got %d words back of %d, or in another order: %.500v", len(l.Entries), len(entries), l.Entries)
		}
		got[NGChanged](t)(s.NGChange(ctx, replace(tenant, entries[0])))
		if l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)); !slices.Equal(l.Entries, entries[:1]) {
			t.Errorf("after replace: %+v", l)
		}
		for _, w := range []string{"", " a", "a ", "a\x00", "\xff", "a\nb", strings.Repeat("あ", MaxNGWord+1)} {
			if _, err := s.NGChange(ctx, add(tenant, NGEntry{Word: w})); err == nil {
				t.Errorf("word %q was accepted", w)
			}
		}
	})
}

// manyWords are more than one transaction takes.
func manyWords(n int) (entries []NGEntry) {
	for i := range n {
		entries = append(entries, NGEntry{Word: fmt.Sprintf("word%06d", i)}.WithDefaults())
	}
	return entries
}

func TestNGChange_largeListsComeIntoForceAtOnce(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		got[NGChanged](t)(s.NGChange(ctx, add(tenant, NGEntry{Word: "old"})))
		done := make(chan error)
		go func() {
			_, err := s.NGChange(ctx, replace(tenant, manyWords(20*ngStep)...))
			done <- err
		}()
		sizes, conflicts, longest := map[int]bool{}, 0, time.Duration(0)
		for end := false; !end; {
			select {
			case err := <-done:
				must(t, err)
				end = true
			default:
			}
			sizes[len(got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)).Entries)] = true
			began := time.Now()
			_, err := s.NGChange(ctx, NGEdit{Tenant: tenant, Base: -1, Remove: []string{"none"}})
			longest = max(longest, time.Since(began))
			if errors.Is(err, ErrConflict) {
				conflicts++
			} else {
				must(t, err)
			}
		}
		delete(sizes, 1)
		delete(sizes, 20*ngStep)
		if len(sizes) > 0 || conflicts == 0 {
			t.Errorf("readers saw lists of %v words; %d edits met the claim", sizes, conflicts)
		}
		t.Logf("another writer waited for %v at most", longest)
	})
}

// deadEditor leaves half a large edit behind, as a killed control plane would.
func deadEditor(t *testing.T, s *Store, e NGEdit) {
	must(t, s.Write(t.Context(), func(tx *Tx) error {
		head, err := tx.ngOpen(e, "dead")
		if err == nil {
			err = tx.ngApply(e, head.Revision+1, manyWords(3), []NGEntry{{Word: "old"}})
		}
		return err
	}))
}

func TestNGChange_tidiesUpAfterADeadEditor(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		got[NGChanged](t)(s.NGChange(ctx, add(tenant, NGEntry{Word: "old"})))
		e := add(tenant, NGEntry{Word: "new"})
		e.List = NGDefault
		deadEditor(t, s, e)
		if _, err := s.NGChange(ctx, e); !errors.Is(err, ErrConflict) {
			t.Errorf("a change under the claim of another: %v", err)
		}
		must(t, s.Write(ctx, func(tx *Tx) error { return tx.exec(`UPDATE ng_lists SET edit_until = 1`) }))
		got[NGChanged](t)(s.NGChange(ctx, e))
		want := []NGEntry{NGEntry{Word: "new"}.WithDefaults(), NGEntry{Word: "old"}.WithDefaults()}
		if l := got[NGList](t)(s.NGRead(ctx, tenant, NGDefault)); l.Revision != 2 || !slices.Equal(l.Entries, want) {
			t.Errorf("%+v", l)
		}
		err := s.Write(ctx, func(tx *Tx) error { return tx.ngHold(e, "dead") })
		if !errors.Is(err, ErrConflict) {
			t.Errorf("the dead one comes back: %v", err)
		}
	})
}

func TestNGChange_refusesMoreThanAListHolds(t *testing.T) {
	s := testSQLite(t)
	tenant := testTenant(t, s)
	got[NGChanged](t)(s.NGChange(t.Context(), add(tenant, NGEntry{Word: "x"})))
	must(t, s.Write(t.Context(), func(tx *Tx) error { return tx.exec(`UPDATE ng_lists SET words = ?`, MaxNGWords) }))
	if _, err := s.NGChange(t.Context(), add(tenant, NGEntry{Word: "y"})); !errors.Is(err, ErrLimit) {
		t.Errorf("one word too many: %v", err)
	}
	if _, err := s.NGChange(t.Context(), add(tenant, NGEntry{Word: "x", Action: NGMask})); err != nil {
		t.Errorf("changing a word of a full list: %v", err)
	}
}

func TestNGChange_atOnceLosesNothing(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		const admins = 8
		var wg sync.WaitGroup
		for i := range admins {
			wg.Go(func() {
				if _, err := s.NGChange(t.Context(), add(tenant, NGEntry{Word: fmt.Sprint("w", i)})); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		l := got[NGList](t)(s.NGRead(t.Context(), tenant, NGDefault))
		if l.Revision != admins || len(l.Entries) != admins {
			t.Errorf("revision %d with %d words, want %d", l.Revision, len(l.Entries), admins)
		}
	})
}

func TestNGRead_belongsToItsRevision(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		const revisions = 60
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range revisions { // revision n has n words
				if _, err := s.NGChange(t.Context(), add(tenant, NGEntry{Word: fmt.Sprint("w", i)})); err != nil {
					t.Error(err)
				}
			}
		}()
		for rev := int64(0); rev < revisions && !t.Failed(); {
			l := got[NGList](t)(s.NGRead(t.Context(), tenant, NGDefault))
			if rev = l.Revision; rev != int64(len(l.Entries)) {
				t.Errorf("revision %d with %d words", rev, len(l.Entries))
			}
		}
		<-done
	})
}

func TestChanges_areNumberedWithoutHolesAndPaged(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		const writers, each = 6, 10
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					err := s.Write(t.Context(), func(tx *Tx) error { return tx.Change(ChangeUser, "demo", fmt.Sprint(w), fmt.Sprint(i)) })
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		epoch, n, err := s.ChangesHead(t.Context())
		if n != writers*each || epoch == "" || err != nil {
			t.Fatalf("head %q %d %v", epoch, n, err)
		}
		var next int64
		last := map[string]string{}
		for {
			e, page, err := s.ChangesAfter(t.Context(), next, 7)
			must(t, err)
			if e != epoch {
				t.Fatalf("epoch %q, head said %q", e, epoch)
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				if next++; c.N != next {
					t.Fatalf("change %d where %d was due", c.N, next)
				}
				if before, ok := last[c.Subject]; ok && before >= c.Detail {
					t.Errorf("writer %s: %s after %s", c.Subject, c.Detail, before)
				}
				last[c.Subject] = c.Detail
			}
		}
		if next != n {
			t.Errorf("read up to %d of %d", next, n)
		}
	})
}
