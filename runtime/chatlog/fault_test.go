package chatlog

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// faulty is a store's Write with an answer to lose or a wait to insert.
type faulty struct {
	st   *store.Store
	next atomic.Pointer[func(context.Context, func(*store.Tx) error) error]
}

func (f *faulty) Write(ctx context.Context, fn func(*store.Tx) error) error {
	if do := f.next.Swap(nil); do != nil {
		return (*do)(ctx, fn)
	}
	return f.st.Write(ctx, fn)
}

func (f *faulty) once(do func(context.Context, func(*store.Tx) error) error) { f.next.Store(&do) }

func faultyLog(t *testing.T, url string, o Options) (*Log, *faulty, int64) {
	t.Helper()
	st := testStore(t, url)
	f := &faulty{st: st}
	l := open(st, f.Write, o)
	t.Cleanup(func() { l.Close() })
	return l, f, testChannel(t, st, "guild")
}

func sqliteURL(t *testing.T) string {
	return migrated(t, "sqlite:"+filepath.Join(t.TempDir(), "kms.db"))
}

var errLost = errors.Join(store.ErrUnavailable, errors.New("connection lost"))

// TestAppend_unknownCommitIsSettled: whether the commit whose answer was lost went through or not, each message stands in
// the log once and is acknowledged with its place.
func TestAppend_unknownCommitIsSettled(t *testing.T) {
	for name, committed := range map[string]bool{"committed": true, "undone": false} {
		t.Run(name, func(t *testing.T) {
			l, f, pk := faultyLog(t, sqliteURL(t), Options{})
			known := say("u1", "an earlier message, sent again")
			mustAppend(t, l, pk, known)
			f.once(func(ctx context.Context, fn func(*store.Tx) error) error {
				err := f.st.Write(ctx, func(tx *store.Tx) error {
					if err := fn(tx); err != nil || committed {
						return err
					}
					return errors.New("undone")
				})
				if (err == nil) != committed {
					t.Errorf("the fault did not work: %v", err)
				}
				f.once(func(context.Context, func(*store.Tx) error) error { return errLost }) // nor can it be looked up at once
				return errLost
			})
			answers := appendAll(t, l, pk, say("u1", "a"), known.Clone(), say("u1", "b"))
			for i, want := range []Receipt{{Seq: 2}, {Seq: 1, Duplicate: true}, {Seq: 3}} {
				if a := answers[i]; a.err != nil || a.Seq != want.Seq || a.Duplicate != want.Duplicate {
					t.Errorf("answer %d: %+v, want seq %d", i, a, want.Seq)
				}
			}
			if got := checkGapless(t, l, pk); len(got) != 3 {
				t.Errorf("%d messages in the log, want 3", len(got))
			}
		})
	}
}

// TestAppend_databaseAwayIsSaidAtOnce: nothing was committed and nothing is claimed.
func TestAppend_databaseAwayIsSaidAtOnce(t *testing.T) {
	l, f, pk := faultyLog(t, sqliteURL(t), Options{Timeout: time.Minute})
	var away func(context.Context, func(*store.Tx) error) error
	away = func(context.Context, func(*store.Tx) error) error {
		f.once(away) // the two may go into a batch each
		return errLost
	}
	f.once(away)
	for _, a := range appendAll(t, l, pk, say("u1", "a"), say("u1", "b")) {
		if !errors.Is(a.err, ErrUnavailable) {
			t.Errorf("got %+v", a)
		}
	}
	f.next.Store(nil)
	if r := mustAppend(t, l, pk, say("u1", "c")); r.Seq != 1 {
		t.Errorf("after it came back: %+v", r)
	}
}

// TestAppend_timeoutThenRetryGivesTheFirstReceipt: a commit that hangs is not waited for; what it committed in the end is
// found by the retry. What still waited in the queue was never committed.
func TestAppend_timeoutThenRetryGivesTheFirstReceipt(t *testing.T) {
	l, f, pk := faultyLog(t, sqliteURL(t), Options{Timeout: 150 * time.Millisecond})
	release, hanging := make(chan struct{}), make(chan struct{})
	f.once(func(ctx context.Context, fn func(*store.Tx) error) error {
		err := f.st.Write(ctx, fn)
		close(hanging)
		<-release
		return err
	})
	var order []string
	var wg sync.WaitGroup
	late := func(name string) func(Receipt, error) {
		return func(_ Receipt, err error) {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %v", name, err)
			}
			order = append(order, name)
			wg.Done()
		}
	}
	wg.Add(2)
	first, queued := say("u1", "in the commit"), say("u1", "in the queue")
	retry := first.Clone()
	l.Append(pk, first, late("first"))
	<-hanging
	l.Append(pk, queued, late("queued"))
	wg.Wait()
	if len(order) != 2 || order[0] != "first" {
		t.Errorf("answers came as %v", order)
	}
	if first.Seq != 0 {
		t.Error("an unanswered envelope was written to")
	}
	first.Text = "the sender may use it again" // the race detector watches
	close(release)
	if r := mustAppend(t, l, pk, retry); r.Seq != 1 || !r.Duplicate {
		t.Errorf("the retry: %+v", r)
	}
	if r := mustAppend(t, l, pk, queued); r.Seq != 2 || r.Duplicate {
		t.Errorf("the queued one's retry: %+v", r)
	}
	if got := checkGapless(t, l, pk); got[0].Text != "in the commit" {
		t.Errorf("logged %q", got[0].Text)
	}
}

// TestAppend_sameIDTwiceInOneBatchIsOneCommit: the second one is a duplicate, not a bad row.
func TestAppend_sameIDTwiceInOneBatchIsOneCommit(t *testing.T) {
	st := testStore(t, sqliteURL(t))
	var commits atomic.Int64
	hanging, release := make(chan struct{}), make(chan struct{})
	l := open(st, func(ctx context.Context, fn func(*store.Tx) error) error {
		if commits.Add(1) == 1 {
			close(hanging)
			<-release
		}
		return st.Write(ctx, fn)
	}, Options{})
	t.Cleanup(func() { l.Close() })
	pk := testChannel(t, st, "guild")
	var wg sync.WaitGroup
	wg.Add(3)
	l.Append(pk, say("u1", "holds the commit"), func(Receipt, error) { wg.Done() })
	<-hanging
	e := say("u1", "twice")
	for i := range 2 {
		l.Append(pk, e.Clone(), func(r Receipt, err error) {
			if err != nil || r.Seq != 2 || r.Duplicate != (i == 1) {
				t.Errorf("answer %d: %+v, %v", i, r, err)
			}
			wg.Done()
		})
	}
	close(release)
	wg.Wait()
	if n := commits.Load(); n != 2 {
		t.Errorf("%d commits", n)
	}
}

// TestAppend_unknownCommitOfLostDatabaseEndsBusy: while the outcome cannot be looked up nobody is told that it worked.
func TestAppend_unknownCommitOfLostDatabaseEndsBusy(t *testing.T) {
	st := testStore(t, sqliteURL(t))
	var away atomic.Bool
	away.Store(true)
	l := open(st, func(ctx context.Context, fn func(*store.Tx) error) error {
		if !away.Load() {
			return st.Write(ctx, fn)
		}
		if err := st.Write(ctx, fn); err != nil {
			t.Errorf("the fault did not work: %v", err)
		}
		return errLost
	}, Options{Timeout: 200 * time.Millisecond})
	t.Cleanup(func() { l.Close() })
	pk := testChannel(t, st, "guild")
	e := say("u1", "hi")
	retry := e.Clone()
	if a := appendAll(t, l, pk, e)[0]; !errors.Is(a.err, ErrBusy) {
		t.Errorf("got %+v", a)
	}
	away.Store(false)
	if r := mustAppend(t, l, pk, retry); r.Seq != 1 || !r.Duplicate {
		t.Errorf("the retry: %+v", r)
	}
}

// TestAppend_nothingIsCommittedForWhoStoppedWaiting: what was not committed when its sender was told busy stays so.
func TestAppend_nothingIsCommittedForWhoStoppedWaiting(t *testing.T) {
	st := testStore(t, sqliteURL(t))
	var away atomic.Bool
	away.Store(true)
	l := open(st, func(ctx context.Context, fn func(*store.Tx) error) error {
		if !away.Load() {
			return st.Write(ctx, fn)
		}
		_ = st.Write(ctx, func(tx *store.Tx) error {
			if err := fn(tx); err != nil {
				t.Errorf("the fault did not work: %v", err)
			}
			return errLost
		})
		return errLost
	}, Options{Timeout: 200 * time.Millisecond})
	t.Cleanup(func() { l.Close() })
	pk := testChannel(t, st, "guild")
	if a := appendAll(t, l, pk, say("u1", "hi"))[0]; !errors.Is(a.err, ErrBusy) {
		t.Errorf("got %+v", a)
	}
	away.Store(false)
	next := say("u1", "the first one")
	testkit.Eventually(t, 5*time.Second, "the log to take messages", func() bool {
		a := appendAll(t, l, pk, next.Clone())[0]
		if a.err == nil && a.Seq != 1 {
			t.Errorf("it is at %d: one before it was committed for nobody", a.Seq)
		}
		return a.err == nil
	})
}

func TestAppend_fullQueueIsToldAtOnce(t *testing.T) {
	l, f, pk := faultyLog(t, sqliteURL(t), Options{Timeout: time.Minute})
	release, hanging := make(chan struct{}), make(chan struct{})
	f.once(func(ctx context.Context, fn func(*store.Tx) error) error {
		close(hanging)
		<-release
		return f.st.Write(ctx, fn)
	})
	var wg sync.WaitGroup
	wg.Add(1)
	l.Append(pk, say("u1", "hangs"), func(Receipt, error) { wg.Done() })
	<-hanging
	big := say("u1", string(bytes.Repeat([]byte("x"), envelope.MaxText)))
	var accepted, refused atomic.Int64
	n := maxBytes/envelope.MaxText + 10
	wg.Add(n)
	for range n {
		c := big.Clone()
		c.ID = envelope.NewID(time.Now())
		l.Append(pk, c, func(_ Receipt, err error) {
			if err == nil {
				accepted.Add(1)
			} else if errors.Is(err, ErrBusy) {
				refused.Add(1)
			}
			wg.Done()
		})
	}
	testkit.Eventually(t, 5*time.Second, "what finds the queue full is told", func() bool { return refused.Load() >= 10 })
	if accepted.Load() != 0 {
		t.Error("acknowledged before the commit")
	}
	close(release)
	wg.Wait()
	if accepted.Load()+refused.Load() != int64(n) {
		t.Errorf("%d accepted, %d refused of %d", accepted.Load(), refused.Load(), n)
	}
}

// TestAppend_quietLogCommitsAtOnceAndBusyOneInGroups holds the rhythm: nobody waits after a quiet moment, and whatever
// comes within an interval is one commit.
func TestAppend_quietLogCommitsAtOnceAndBusyOneInGroups(t *testing.T) {
	st := testStore(t, sqliteURL(t))
	var commits atomic.Int64
	l := open(st, func(ctx context.Context, fn func(*store.Tx) error) error {
		commits.Add(1)
		return st.Write(ctx, fn)
	}, Options{Interval: 300 * time.Millisecond, Timeout: time.Minute, MaxBatch: 10})
	t.Cleanup(func() { l.Close() })
	pk := testChannel(t, st, "guild")
	start := time.Now()
	mustAppend(t, l, pk, say("u1", "first"))
	if took := time.Since(start); took > 250*time.Millisecond {
		t.Errorf("the first after quiet took %v", took)
	}
	messages := make([]*envelope.Envelope, 15)
	for i := range messages {
		messages[i] = say("u1", "more")
	}
	appendAll(t, l, pk, messages...)
	if took := time.Since(start); took < 600*time.Millisecond {
		t.Errorf("two more batches began within %v", took)
	}
	if n := commits.Load(); n != 3 {
		t.Errorf("%d commits for 1 + 10 + 5 messages", n)
	}
}

// TestAppend_mysqlConnectionLostAtCommit cuts the real wire as the COMMIT passes: once before the server sees it, once
// after it has answered.
func TestAppend_mysqlConnectionLostAtCommit(t *testing.T) {
	for name, deliver := range map[string]bool{"committed": true, "undone": false} {
		t.Run(name, func(t *testing.T) {
			direct := migrated(t, testkit.MySQL(t))
			u, err := url.Parse(direct)
			if err != nil {
				t.Fatal(err)
			}
			cut := &cutter{deliver: deliver}
			u.Host = cut.listen(t, u.Host)
			st := testStore(t, direct)
			pk := testChannel(t, st, "guild")
			l := testLog(t, testStore(t, u.String()), Options{})
			mustAppend(t, l, pk, say("u1", "before"))
			cut.armed.Store(true)
			answers := appendAll(t, l, pk, say("u1", "a"), say("u1", "b"))
			if cut.armed.Load() {
				t.Fatal("no COMMIT was cut")
			}
			for i, a := range answers {
				if a.err != nil || a.Seq != int64(i+2) || a.Duplicate {
					t.Errorf("answer %d: %+v", i, a)
				}
			}
			checkGapless(t, testLog(t, st, Options{}), pk)
		})
	}
}

// cutter is a TCP proxy to a MySQL server that cuts one connection at its COMMIT.
type cutter struct {
	armed   atomic.Bool
	deliver bool
	wg      sync.WaitGroup
}

func (c *cutter) listen(t *testing.T, server string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); c.wg.Wait() })
	c.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(client, server) })
		}
	})
	return ln.Addr().String()
}

func (c *cutter) serve(client net.Conn, server string) {
	defer client.Close()
	up, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer up.Close()
	var swallow atomic.Bool
	c.wg.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := up.Read(buf)
			if err != nil || swallow.Load() {
				return // the server's answer to the COMMIT is lost
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("\x03COMMIT")) && c.armed.CompareAndSwap(true, false) {
			if !c.deliver {
				return
			}
			swallow.Store(true)
		}
		if _, err := up.Write(buf[:n]); err != nil {
			return
		}
	}
}
