package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestNGWords_revisionsKeepAdminsApart(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		before := head(t, s)
		if rev, list, err := s.NGList(ctx, tenant); rev != 0 || list != nil || err != nil {
			t.Errorf("untouched list: %d %v %v", rev, list, err)
		}
		bad, ok := NGEntry{"ばか", NGWord, NGMask, NGModeAuto}, NGEntry{"ok", NGAllow, NGReject, NGModeWord}
		if rev := got[int64](t)(s.NGChange(ctx, tenant, 0, []NGEntry{bad, ok}, nil, "ann", "first")); rev != 1 {
			t.Errorf("first revision %d", rev)
		}
		if _, err := s.NGChange(ctx, tenant, 0, []NGEntry{{Word: "x"}}, nil, "bob", "blind"); !errors.Is(err, ErrConflict) {
			t.Errorf("an old base: %v, want ErrConflict", err)
		}
		if rev := got[int64](t)(s.NGChange(ctx, tenant, -1, []NGEntry{bad}, []string{"none"}, "bob", "nothing new")); rev != 1 {
			t.Errorf("a change of nothing made revision %d", rev)
		}
		reject := bad
		reject.Action = NGReject
		if rev := got[int64](t)(s.NGChange(ctx, tenant, 1, []NGEntry{reject}, []string{"ok"}, "bob", "harder")); rev != 2 {
			t.Errorf("second revision %d", rev)
		}
		rev, list, err := s.NGList(ctx, tenant)
		if rev != 2 || !slices.Equal(list, []NGEntry{reject}) || err != nil {
			t.Errorf("list %d %+v %v", rev, list, err)
		}
		history := got[[]NGRevision](t)(s.NGHistory(ctx, tenant))
		if len(history) != 2 || history[0].Author != "bob" || history[0].At.IsZero() || history[1].Message != "first" ||
			!slices.Equal(history[0].Added, []NGEntry{reject}) || !slices.Equal(history[0].Removed, []NGEntry{ok, bad}) {
			t.Errorf("history %+v", history)
		}
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"ngword demo default ", "ngword demo default "}) {
			t.Errorf("changes: %q", lines)
		}
	})
}

func TestNGReplace_takesLongListsAndHostileWords(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		words := []string{"か", "が", "a", "A", "ａ", "it's", `"`, `\`, `\'`, "%_", "🍣🍺", "\u0301", "ß", "ss", "; DROP TABLE tenants", "?", "i", "İ"}
		for i := range 3 * ngBatch {
			words = append(words, fmt.Sprintf("word%d", i))
		}
		var entries []NGEntry
		for _, w := range words {
			entries = append(entries, NGEntry{Word: w}.withDefaults())
		}
		got[int64](t)(s.NGReplace(ctx, tenant, -1, entries, "ann", ""))
		_, list, err := s.NGList(ctx, tenant)
		must(t, err)
		slices.SortFunc(entries, func(a, b NGEntry) int { return strings.Compare(a.Word, b.Word) })
		if !slices.Equal(list, entries) {
			t.Errorf("got %d words back of %d, or in another order: %.500v", len(list), len(entries), list)
		}
		got[int64](t)(s.NGReplace(ctx, tenant, 1, entries[:1], "ann", ""))
		if _, list, _ := s.NGList(ctx, tenant); !slices.Equal(list, entries[:1]) {
			t.Errorf("after replace: %+v", list)
		}
		for _, w := range []string{"", " a", "a ", "a\x00", "\xff", "a\nb", strings.Repeat("あ", MaxNGWord+1)} {
			if _, err := s.NGChange(ctx, tenant, -1, []NGEntry{{Word: w}}, nil, "", ""); err == nil {
				t.Errorf("word %q was accepted", w)
			}
		}
	})
}

func TestNGChange_atOnceLosesNothing(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		const admins = 8
		var wg sync.WaitGroup
		for i := range admins {
			wg.Go(func() {
				if _, err := s.NGChange(t.Context(), tenant, -1, []NGEntry{{Word: fmt.Sprint("w", i)}}, nil, "a", ""); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		rev, list, err := s.NGList(t.Context(), tenant)
		if rev != admins || len(list) != admins || err != nil {
			t.Errorf("revision %d with %d words, want %d; %v", rev, len(list), admins, err)
		}
	})
}

func TestNGList_belongsToItsRevision(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		const revisions = 60
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range revisions { // revision n has n words
				if _, err := s.NGChange(t.Context(), tenant, -1, []NGEntry{{Word: fmt.Sprint("w", i)}}, nil, "a", ""); err != nil {
					t.Error(err)
				}
			}
		}()
		for rev := int64(0); rev < revisions && !t.Failed(); {
			var list []NGEntry
			var err error
			if rev, list, err = s.NGList(t.Context(), tenant); err != nil || rev != int64(len(list)) {
				t.Errorf("revision %d with %d words, %v", rev, len(list), err)
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
