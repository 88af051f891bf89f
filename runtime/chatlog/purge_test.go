package chatlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// keeping makes a tenant that keeps messages for an hour, with a channel of n messages, the first old ones of which are older.
func keeping(t *testing.T, st *store.Store, tenant string, n, old int) store.Channel {
	t.Helper()
	ctx := t.Context()
	if _, err := st.CreateTenant(ctx, store.Tenant{ID: tenant}); err != nil {
		t.Fatal(err)
	}
	if err := st.SetTenantRetention(ctx, tenant, time.Hour); err != nil {
		t.Fatal(err)
	}
	ch, err := st.CreateChannel(ctx, store.Channel{Tenant: tenant, ID: "lobby", Kind: store.KindWorld})
	if err != nil {
		t.Fatal(err)
	}
	l := testLog(t, st, Options{Timeout: time.Minute})
	var messages []*envelope.Envelope
	for i := range n {
		messages = append(messages, say("u", fmt.Sprint("m", i+1)))
	}
	for _, a := range appendAll(t, l, ch.PK, messages...) {
		if a.err != nil {
			t.Fatal(a.err)
		}
	}
	age(t, st, ch.PK, old)
	return ch
}

// age makes the messages up to a seq two hours old.
func age(t *testing.T, st *store.Store, pk int64, upTo int) {
	t.Helper()
	exec(t, st, `UPDATE messages SET at = at - 7200000 WHERE channel_pk = ? AND seq <= ?`, pk, upTo)
}

func count(t *testing.T, st *store.Store, query string, args ...any) (n int) {
	t.Helper()
	if err := st.DB().QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPurge_removesWhatIsOlderThanItsTenantKeeps(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		a, b, whole := keeping(t, st, "a", 1000, 700), keeping(t, st, "b", 3, 3), keeping(t, st, "c", 3, 3)
		if err := st.SetTenantRetention(t.Context(), "c", 0); err != nil {
			t.Fatal(err)
		}
		if done, err := Purge(t.Context(), st); err != nil || done != (Purged{Messages: 703}) {
			t.Errorf("removed %+v, %v", done, err)
		}
		l := testLog(t, st, Options{})
		for _, want := range []Head{{PK: a.PK, First: 701, Seq: 1000}, {PK: b.PK, First: 4, Seq: 3}, {PK: whole.PK, First: 1, Seq: 3}} {
			h, err := l.Head(t.Context(), want.PK)
			if err != nil || h.First != want.First || h.Seq != want.Seq {
				t.Errorf("head %+v, %v, want %d to %d", h, err, want.First, want.Seq)
			}
			kept, err := l.Read(t.Context(), want.PK, 0, 0, 0)
			if err != nil || len(kept) != int(want.Seq-want.First+1) || len(kept) > 0 && kept[0].Seq != want.First {
				t.Errorf("%d are left, %v", len(kept), err)
			}
		}
		if r := mustAppend(t, l, b.PK, say("u", "on")); r.Seq != 4 {
			t.Errorf("the next message of an emptied log got %d, want 4", r.Seq)
		}
		if done, err := Purge(t.Context(), st); err != nil || done != (Purged{}) {
			t.Errorf("there was nothing more: %+v, %v", done, err)
		}
	})
}

func TestPurge_keepsWhatFollowsAYoungerMessage(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		ch := keeping(t, st, "a", 4, 4)
		exec(t, st, `UPDATE messages SET at = at + 7200000 WHERE channel_pk = ? AND seq = 2`, ch.PK) // the clock went back after it
		if done, err := Purge(t.Context(), st); err != nil || done.Messages != 1 {
			t.Errorf("removed %+v, %v", done, err)
		}
		if n := count(t, st, `SELECT COUNT(*) FROM messages WHERE channel_pk = ?`, ch.PK); n != 3 {
			t.Errorf("%d are left", n)
		}
	})
}

func TestPurge_collectsDeletedChannels(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		ctx := t.Context()
		gone, stays := keeping(t, st, "a", 250, 0), keeping(t, st, "b", 1, 0)
		if err := st.DeleteTenant(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if done, err := Purge(ctx, st); err != nil || done != (Purged{Messages: 250, Channels: 1}) {
			t.Errorf("removed %+v, %v", done, err)
		}
		if n := count(t, st, `SELECT COUNT(*) FROM messages WHERE channel_pk = ?`, gone.PK); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		if n := count(t, st, `SELECT COUNT(*) FROM channels`); n != 1 {
			t.Errorf("%d channels are left", n)
		}
		l := testLog(t, st, Options{})
		if _, err := l.Head(ctx, gone.PK); !errors.Is(err, ErrGone) {
			t.Errorf("the head of what is gone: %v", err)
		}
		if a := appendAll(t, l, gone.PK, say("u", "late"))[0]; !errors.Is(a.err, ErrGone) {
			t.Errorf("a message to what is gone: %v", a.err)
		}
		mustAppend(t, l, stays.PK, say("u", "here"))
	})
}

// TestPurge_forgetsOldChanges leaves those of the last hour, and the head, whose numbers go on.
func TestPurge_forgetsOldChanges(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		const old = 2*purgeRows + 1
		err := st.Write(t.Context(), func(tx *store.Tx) error {
			for range old + 2 {
				if err := tx.Change(store.ChangeMember, "demo", "guild", "u1"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		keep := store.KeepChanges.Milliseconds()
		exec(t, st, `UPDATE changes SET at = at - ? + 60000`, keep) // nearly an hour old
		exec(t, st, `UPDATE changes SET at = at - 120000 WHERE n <= ?`, old)
		if done, err := Purge(t.Context(), st); err != nil || done != (Purged{Changes: old}) {
			t.Errorf("removed %+v, %v", done, err)
		}
		_, list, err := st.ChangesAfter(t.Context(), 0, 10)
		if err != nil || len(list) != 2 || list[0].N != old+1 {
			t.Errorf("%v is left, %v", list, err)
		}
		exec(t, st, `UPDATE changes SET at = 0`)
		if done, err := Purge(t.Context(), st); err != nil || done.Changes != 2 {
			t.Errorf("removed %+v, %v", done, err)
		}
		if _, n, err := st.ChangesHead(t.Context()); err != nil || n != old+2 {
			t.Errorf("the head is %d, %v", n, err)
		}
	})
}

// TestPurge_readersSeeNoHole reads while messages are removed: what a page lacks at its beginning, its First says.
func TestPurge_readersSeeNoHole(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		ch := keeping(t, st, "a", 1000, 1000)
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		defer work.Wait()
		defer stop()
		for range 2 {
			work.Go(func() {
				for ctx.Err() == nil {
					page, err := Query(ctx, st, ch.PK, QueryOptions{Limit: 50})
					if err == nil && len(page.Messages) > 0 && page.Messages[0].Seq > page.Head.First {
						t.Errorf("begins at %d and says %d", page.Messages[0].Seq, page.Head.First)
						return
					}
				}
			})
		}
		if done, err := Purge(t.Context(), st); err != nil || done.Messages != 1000 {
			t.Errorf("removed %+v, %v", done, err)
		}
	})
}

// TestPurge_writersHardlyWait has senders write to the purged channel and to another one all the while.
func TestPurge_writersHardlyWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		const old = 2000
		same, other := keeping(t, st, "a", old, old), keeping(t, st, "b", 1, 0)
		l := testLog(t, testStore(t, url), Options{}) // as of another process
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		slowest := make([]time.Duration, 2)
		for i, pk := range []int64{same.PK, other.PK} {
			work.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					mustAppend(t, l, pk, say("u", "hi"))
					slowest[i] = max(slowest[i], time.Since(began))
				}
			})
		}
		began := time.Now()
		done, err := Purge(t.Context(), st)
		took := time.Since(began)
		stop()
		work.Wait()
		if err != nil || done.Messages != old {
			t.Errorf("removed %+v, %v", done, err)
		}
		t.Logf("%d messages in %s; the slowest other write took %s in the same channel, %s in another", old, took, slowest[0], slowest[1])
		if max(slowest[0], slowest[1]) > 2*time.Second {
			t.Errorf("writers waited for %s", slowest)
		}
	})
}
