package chatlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onBoth runs a test on SQLite and on MySQL, on a database with the newest schema.
func onBoth(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, migrated(t, "sqlite:"+filepath.Join(t.TempDir(), "kms.db"))) })
	t.Run("mysql", func(t *testing.T) { test(t, migrated(t, testkit.MySQL(t))) })
}

func migrated(t testing.TB, url string) string {
	t.Helper()
	if err := testStore(t, url).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return url
}

func testStore(t testing.TB, url string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func testLog(t testing.TB, st *store.Store, o Options) *Log {
	t.Helper()
	l := Open(st, o)
	t.Cleanup(func() { l.Close() })
	return l
}

// testChannel makes a channel and returns its key.
func testChannel(t testing.TB, st *store.Store, id string) (pk int64) {
	t.Helper()
	err := st.Write(t.Context(), func(tx *store.Tx) error {
		res, err := tx.Exec(`INSERT INTO channels (tenant, id, kind, history, name, epoch, moved_at, created_at)
			VALUES ('demo', ?, 'guild', 'log', ?, 'epoch1', 0, 0)`, id, id)
		if err != nil {
			return err
		}
		pk, err = res.LastInsertId()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pk
}

func exec(t testing.TB, st *store.Store, query string, args ...any) {
	t.Helper()
	if err := st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

func say(user, text string) *envelope.Envelope {
	return &envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: "guild", ID: envelope.NewID(time.Now()), User: user, Name: "勇者", Text: text}
}

type answer struct {
	Receipt
	err error
}

// appendAll appends the messages at once and returns the answers in their order.
func appendAll(t testing.TB, l *Log, pk int64, messages ...*envelope.Envelope) []answer {
	t.Helper()
	answers := make([]answer, len(messages))
	var wg sync.WaitGroup
	wg.Add(len(messages))
	for i, e := range messages {
		l.Append(pk, e, func(r Receipt, err error) { answers[i] = answer{r, err}; wg.Done() })
	}
	wg.Wait()
	return answers
}

func mustAppend(t testing.TB, l *Log, pk int64, e *envelope.Envelope) Receipt {
	t.Helper()
	a := appendAll(t, l, pk, e)[0]
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.Receipt
}

func TestAppend_givesSeqsAndReadsBack(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		e := say("u1", "こんにちは\x00\n")
		e.Shadow = true
		r := mustAppend(t, l, pk, e)
		if r.Seq != 1 || r.Epoch != "epoch1" || r.Duplicate || r.ID != e.ID || time.Since(time.UnixMilli(r.At)).Abs() > time.Minute {
			t.Errorf("receipt %+v", r)
		}
		if e.Seq != 1 || e.Epoch != "epoch1" || e.At != r.At {
			t.Errorf("the envelope was not told where it stands: %+v", e)
		}
		del := &envelope.Envelope{Kind: envelope.Delete, ID: envelope.NewID(time.Now()), Target: e.ID}
		mustAppend(t, l, pk, del)
		got, err := l.Read(t.Context(), pk, 0, 0, 0)
		if err != nil || len(got) != 2 {
			t.Fatalf("read %d messages, %v", len(got), err)
		}
		e.Text = "" // it was deleted
		if a, b := string(got[0].Append(nil)), string(e.Append(nil)); a != b {
			t.Errorf("read back\n%s, want\n%s", a, b)
		}
		if got[1].Kind != envelope.Delete || got[1].Target != e.ID || got[1].Seq != 2 || got[1].Tenant != "demo" || got[1].Channel != "guild" {
			t.Errorf("read back %+v", got[1])
		}
	})
}

func TestAppend_unknownFieldsSurviveTheLog(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk := testChannel(t, st, "guild")
		e, err := envelope.Parse([]byte(`{"v":1,"k":"say","i":"01ARZ3NDEKTSV4RRFFQ69G5FAV","x":"hi","sticker":{"n":1}}`))
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, pk, e)
		got, err := l.Read(t.Context(), pk, 0, 0, 0)
		if err != nil || !strings.Contains(string(got[0].Append(nil)), `"sticker":{"n":1}`) {
			t.Errorf("the field is gone: %v, %v", got, err)
		}
	})
}

// TestAppend_manyProcesses: several logs with stores of their own write the same channels; some messages come to two of
// them at once. Each log's answers are in order, and the channel has no gap and no message twice.
func TestAppend_manyProcesses(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		const logs, senders, each = 3, 4, 40
		st := testStore(t, url)
		pks := []int64{testChannel(t, st, "a"), testChannel(t, st, "b")}
		shared := make([]*envelope.Envelope, each)
		for i := range shared {
			shared[i] = say("both", "x")
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		acked := map[key]int64{}
		for n := range logs {
			l := testLog(t, testStore(t, url), Options{Interval: time.Millisecond})
			for s := range senders {
				pk := pks[s%2]
				last := int64(0)
				for i := range each {
					e := say(fmt.Sprintf("u%d-%d", n, s), "hi")
					if s == 0 {
						e = shared[i].Clone()
					}
					wg.Add(1)
					l.Append(pk, e, func(r Receipt, err error) {
						defer wg.Done()
						if err != nil {
							t.Errorf("log %d: %v", n, err)
							return
						}
						if s != 0 && r.Seq <= last {
							t.Errorf("answers out of order: %d after %d", r.Seq, last)
						}
						last = r.Seq
						mu.Lock()
						defer mu.Unlock()
						k := key{pk, e.ID, e.User}
						if first, ok := acked[k]; ok && first != r.Seq {
							t.Errorf("message %s has seqs %d and %d", e.ID, first, r.Seq)
						}
						acked[k] = r.Seq
					})
				}
			}
		}
		wg.Wait()
		l := testLog(t, st, Options{})
		total := 0
		for _, pk := range pks {
			total += len(checkGapless(t, l, pk))
		}
		if want := logs*(senders-1)*each + each; total != want || len(acked) != want {
			t.Errorf("%d messages in the log, %d acknowledged, want %d", total, len(acked), want)
		}
	})
}

func checkGapless(t *testing.T, l *Log, pk int64) []*envelope.Envelope {
	t.Helper()
	got, err := l.Read(t.Context(), pk, 0, 0, 100000)
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Head(t.Context(), pk)
	if err != nil || h.Seq != int64(len(got)) {
		t.Errorf("head %+v, %v; %d messages", h, err, len(got))
	}
	seen := map[string]bool{}
	for i, e := range got {
		if e.Seq != int64(i+1) || seen[e.User+e.ID] {
			t.Errorf("message %d has seq %d, seen before: %v", i, e.Seq, seen[e.User+e.ID])
		}
		seen[e.User+e.ID] = true
	}
	return got
}

func TestAppend_sameIDGivesTheFirstReceipt(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk, other := testChannel(t, st, "guild"), testChannel(t, st, "other")
		e := say("u1", "hi")
		answers := appendAll(t, l, pk, e, e.Clone(), say("u1", "next"))
		if a, b := answers[0], answers[1]; a.err != nil || b.err != nil || a.Seq != 1 || b.Seq != 1 || a.Duplicate || !b.Duplicate || a.At != b.At {
			t.Errorf("twice in one batch: %+v", answers)
		}
		if answers[2].Seq != 2 {
			t.Errorf("the duplicate used up a seq: %+v", answers[2])
		}
		again := mustAppend(t, testLog(t, testStore(t, url), Options{}), pk, e.Clone())
		want := answers[0].Receipt
		want.Duplicate = true
		if again != want {
			t.Errorf("from another process: %+v, want %+v", again, want)
		}
		foreign := e.Clone()
		foreign.User = "u2"
		if a := appendAll(t, l, pk, foreign)[0]; !errors.Is(a.err, ErrTaken) {
			t.Errorf("another user's message with the same id: %+v", a)
		}
		if r := mustAppend(t, l, other, e.Clone()); r.Duplicate || r.Seq != 1 {
			t.Errorf("the same id in another channel: %+v", r)
		}
		if r, ok, err := l.Find(t.Context(), pk, e); err != nil || !ok || r != want {
			t.Errorf("Find = %+v, %v, %v", r, ok, err)
		}
		nobodys := e.Clone()
		nobodys.User = "u3"
		if _, ok, err := l.Find(t.Context(), pk, nobodys); err != nil || ok {
			t.Errorf("Find of nobody's message = %v, %v", ok, err)
		}
	})
}

func TestAppend_deletedChannelIsGone(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{})
		pk, live := testChannel(t, st, "guild"), testChannel(t, st, "live")
		mustAppend(t, l, pk, say("u1", "hi"))
		exec(t, st, `UPDATE channels SET deleted_at = 1, live = NULL WHERE pk = ?`, pk)
		var wg sync.WaitGroup
		wg.Add(3)
		check := func(want error) func(Receipt, error) {
			return func(_ Receipt, err error) {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				wg.Done()
			}
		}
		l.Append(pk, say("u1", "a"), check(ErrGone))
		l.Append(live, say("u1", "b"), check(nil))
		l.Append(pk+1000, say("u1", "c"), check(ErrGone))
		wg.Wait()
		if _, err := l.Head(t.Context(), pk); !errors.Is(err, ErrGone) {
			t.Errorf("Head: %v", err)
		}
		if _, err := l.Read(t.Context(), pk, 0, 0, 0); !errors.Is(err, ErrGone) {
			t.Errorf("Read: %v", err)
		}
	})
}

// TestAppend_oneBadRowFailsAlone: a message that the database refuses does not take its batch along.
func TestAppend_oneBadRowFailsAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		st := testStore(t, url)
		l := testLog(t, st, Options{Interval: 20 * time.Millisecond})
		pk, broken := testChannel(t, st, "guild"), testChannel(t, st, "broken")
		// A head that fell behind its messages: the next seq is taken.
		mustAppend(t, l, broken, say("u1", "hi"))
		exec(t, st, `UPDATE channels SET head = 0 WHERE pk = ?`, broken)
		var wg sync.WaitGroup
		wg.Add(5)
		for i := range 5 {
			if i == 2 {
				l.Append(broken, say("u1", "hi"), func(_ Receipt, err error) {
					if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBusy) {
						t.Errorf("the bad row: %v", err)
					}
					wg.Done()
				})
				continue
			}
			l.Append(pk, say("u1", "hi"), func(_ Receipt, err error) {
				if err != nil {
					t.Error(err)
				}
				wg.Done()
			})
		}
		wg.Wait()
		if got := checkGapless(t, l, pk); len(got) != 4 {
			t.Errorf("%d of the 4 good messages are in the log", len(got))
		}
	})
}

func TestAppend_refusesWhatCannotBeLogged(t *testing.T) {
	st := testStore(t, migrated(t, "sqlite:"+filepath.Join(t.TempDir(), "kms.db")))
	l := testLog(t, st, Options{})
	pk := testChannel(t, st, "guild")
	presence, noID := say("u1", ""), say("u1", "")
	presence.Kind, noID.ID = envelope.Join, "short"
	for _, a := range appendAll(t, l, pk, presence, noID) {
		if a.err == nil || !strings.Contains(a.err.Error(), "internal error") {
			t.Errorf("got %v", a.err)
		}
	}
}

func TestClose_commitsWhatWaits(t *testing.T) {
	st := testStore(t, migrated(t, "sqlite:"+filepath.Join(t.TempDir(), "kms.db")))
	l := Open(st, Options{Interval: time.Hour})
	pk := testChannel(t, st, "guild")
	mustAppend(t, l, pk, say("u1", "starts the hour"))
	var got error = context.Canceled
	l.Append(pk, say("u1", "waits"), func(_ Receipt, err error) { got = err })
	l.Close()
	if got != nil {
		t.Errorf("a waiting message: %v", got)
	}
	if a := appendAll(t, l, pk, say("u1", "late"))[0]; !errors.Is(a.err, ErrUnavailable) {
		t.Errorf("after Close: %v", a.err)
	}
}
