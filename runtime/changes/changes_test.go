package changes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// feed is a Source and the record of what a follower was told.
type feed struct {
	mu    sync.Mutex
	epoch string
	rows  []store.Change
	head  int64
	err   error
	reads int
	told  []string
}

func (f *feed) ChangesHead(context.Context) (string, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return f.epoch, f.head, f.err
}

func (f *feed) ChangesAfter(_ context.Context, n int64, limit int) (string, []store.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []store.Change
	for _, c := range f.rows {
		if c.N > n && len(list) < limit {
			list = append(list, c)
		}
	}
	return f.epoch, list, f.err
}

func (f *feed) add(count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range count {
		f.head++
		f.rows = append(f.rows, store.Change{N: f.head})
	}
}

func (f *feed) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// heard returns what was told since the last call.
func (f *feed) heard() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := fmt.Sprint(f.told)
	f.told = nil
	return told
}

func (f *feed) tell(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, what)
}

func follow(f *feed) *Follower {
	return Follow(f, Options{
		OnReload:  func() { f.tell("reload") },
		OnChanges: func(list []store.Change) { f.tell(fmt.Sprintf("%d-%d", list[0].N, list[len(list)-1].N)) },
	})
}

func expect(t *testing.T, f *feed, want string) {
	t.Helper()
	synctest.Wait()
	if got := f.heard(); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

func TestFollow_tellsEachChangeOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{epoch: "a"}
		f.add(3)
		follower := follow(f)
		defer follower.Close()
		expect(t, f, "[reload]")
		f.add(2)
		time.Sleep(501 * time.Millisecond)
		expect(t, f, "[4-5]")
		f.add(1100)
		follower.Wake()
		time.Sleep(20 * time.Millisecond)
		expect(t, f, "[6-505 506-1005 1006-1105]")
		time.Sleep(time.Minute)
		expect(t, f, "[]")
	})
}

func TestFollow_wakeStormCostsFewReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{epoch: "a"}
		follower := follow(f)
		defer follower.Close()
		synctest.Wait()
		before := f.reads
		for range 1000 {
			follower.Wake()
			time.Sleep(100 * time.Microsecond)
		}
		synctest.Wait()
		if n := f.reads - before; n < 5 || n > 11 {
			t.Errorf("%d reads in 100 ms of wake-ups", n)
		}
	})
}

func TestFollow_reloadsWhenItCannotKnow(t *testing.T) {
	cases := map[string]func(f *feed){
		"new epoch":      func(f *feed) { f.epoch = "b" },
		"number back":    func(f *feed) { f.rows, f.head = f.rows[:2], 2 },
		"purged rows":    func(f *feed) { f.rows, f.head = []store.Change{{N: 9}}, 9 },
		"all are purged": func(f *feed) { f.rows, f.head = nil, 9 },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &feed{epoch: "a"}
				f.add(5)
				follower := follow(f)
				defer follower.Close()
				expect(t, f, "[reload]")
				f.set(func() { change(f) })
				follower.Wake()
				time.Sleep(20 * time.Millisecond)
				expect(t, f, "[reload]")
				f.add(1)
				follower.Wake()
				time.Sleep(20 * time.Millisecond)
				expect(t, f, fmt.Sprintf("[%d-%d]", f.head, f.head))
			})
		})
	}
}

func TestStale_growsWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{epoch: "a", err: errors.New("away")}
		follower := follow(f)
		defer follower.Close()
		synctest.Wait()
		if follower.Stale() < time.Hour {
			t.Errorf("before the first read: %v", follower.Stale())
		}
		f.set(func() { f.err = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if s := follower.Stale(); s > 500*time.Millisecond {
			t.Errorf("while it is read: %v", s)
		}
		expect(t, f, "[reload]")
		f.set(func() { f.err = errors.New("away") })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := follower.Stale(); s < 10*time.Second || s > 11*time.Second {
			t.Errorf("after 10 s without the database: %v", s)
		}
		f.add(1)
		f.set(func() { f.err = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if s := follower.Stale(); s > 500*time.Millisecond {
			t.Errorf("after it came back: %v", s)
		}
		expect(t, f, "[1-1]")
	})
}

// TestStale_countsOnlyWhatWasHandedOver: a callback that hangs makes the knowledge old.
func TestStale_countsOnlyWhatWasHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{epoch: "a"}
		release := make(chan struct{})
		follower := Follow(f, Options{OnReload: func() {}, OnChanges: func([]store.Change) { <-release }})
		defer follower.Close()
		synctest.Wait()
		f.add(1)
		time.Sleep(20 * time.Second)
		if s := follower.Stale(); s < 19*time.Second {
			t.Errorf("while a change is not applied: %v", s)
		}
		close(release)
	})
}

// onBoth runs a test on a fresh store of either dialect.
func onBoth(t *testing.T, test func(t *testing.T, st *store.Store)) {
	urls := map[string]func(*testing.T) string{
		"sqlite": func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "kms.db") },
		"mysql":  func(t *testing.T) string { return testkit.MySQL(t) },
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(t.Context(), url(t), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if err := st.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			test(t, st)
		})
	}
}

// followReal follows a store at an interval and returns what waits to be told something.
func followReal(t *testing.T, st *store.Store, every time.Duration) (follower *Follower, wait func(want string)) {
	f := &feed{}
	follower = Follow(st, Options{
		Interval:  every,
		OnReload:  func() { f.tell("reload") },
		OnChanges: func(list []store.Change) { f.tell(list[0].Kind + ":" + list[0].Subject) },
	})
	t.Cleanup(follower.Close)
	return follower, func(want string) {
		t.Helper()
		testkit.Eventually(t, 10*time.Second, want, func() bool { return f.heard() == want })
	}
}

func change(t *testing.T, st *store.Store, channel string) {
	t.Helper()
	if err := st.Write(t.Context(), func(tx *store.Tx) error { return tx.Change("member", "demo", channel, "u1") }); err != nil {
		t.Fatal(err)
	}
}

// TestFollow_realStore follows what the rules write, on both databases, through a restore.
func TestFollow_realStore(t *testing.T) {
	onBoth(t, func(t *testing.T, st *store.Store) {
		_, wait := followReal(t, st, 0)
		wait("[reload]")
		change(t, st, "guild")
		wait("[member:guild]")
		if err := st.NewEpochs(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait("[reload]")
	})
}

// TestFollow_whatIsForgotten: who is behind what the feed still has reloads everything, once; who is not notices nothing.
func TestFollow_whatIsForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, st *store.Store) {
		behind, waitBehind := followReal(t, st, time.Hour)
		upToDate, wait := followReal(t, st, time.Hour)
		waitBehind("[reload]")
		wait("[reload]")
		change(t, st, "guild")
		upToDate.Wake()
		wait("[member:guild]")
		if n, err := st.ForgetChanges(t.Context(), -time.Hour, 10); n != 1 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
		change(t, st, "lobby")
		behind.Wake()
		upToDate.Wake()
		waitBehind("[reload]")
		wait("[member:lobby]")
		change(t, st, "plaza")
		behind.Wake()
		waitBehind("[member:plaza]")
	})
}
