package store

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/runtime/testkit"
)

// TestMain also is the process that TestWrite_frozenProcessIsWaitedForUntilItDies freezes.
func TestMain(m *testing.M) {
	if path := os.Getenv("KMS_STORE_TEST_HOLD"); path != "" {
		holdWrite(path)
	}
	os.Exit(m.Run())
}

// holdWrite says "inside" from within a write transaction and stays there.
func holdWrite(path string) {
	s, err := Open(context.Background(), "sqlite:"+path, Options{})
	if err != nil {
		panic(err)
	}
	panic(s.Write(context.Background(), func(tx *Tx) error {
		if err := tx.Change(ChangeUser, "demo", "ghost", ""); err != nil {
			return err
		}
		os.Stdout.WriteString("inside\n")
		select {}
	}))
}

func TestOpen_filesArePrivateAndPathsMayBeOdd(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "a b?c%20#か&_pragma=x")
	must(t, os.Mkdir(dir, 0o700))
	s := migrated(t, openStore(t, "sqlite:"+filepath.Join(dir, "kms.db")))
	testTenant(t, s)
	entries, err := os.ReadDir(dir)
	must(t, err)
	var found []string
	for _, e := range entries {
		info := got[fs.FileInfo](t)(e.Info())
		if found = append(found, e.Name()); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
		}
	}
	if want := "kms.db kms.db-shm kms.db-wal kms.db.queue kms.db.writer"; strings.Join(found, " ") != want {
		t.Errorf("files %q, want %q", found, want)
	}
}

func TestOpen_pragmasHoldOnEveryConnection(t *testing.T) {
	s := testSQLite(t)
	check := func(what string, query func(pragma string) string) {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
			if v := query(pragma); v != want {
				t.Errorf("%s: %s = %s, want %s", what, pragma, v, want)
			}
		}
	}
	for range sqliteReaders {
		conn, err := s.DB().Conn(t.Context())
		must(t, err)
		defer conn.Close()
		check("reader", func(pragma string) (v string) {
			must(t, conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&v))
			return v
		})
		if _, err := conn.ExecContext(t.Context(), `DELETE FROM tenants`); err == nil {
			t.Error("a reader wrote")
		}
	}
	must(t, s.Write(t.Context(), func(tx *Tx) error {
		check("writer", func(pragma string) (v string) {
			must(t, tx.QueryRow("PRAGMA "+pragma).Scan(&v))
			return v
		})
		return nil
	}))
}

// Separate handles contend like processes: a flock belongs to an open file.
func TestWrite_manyHandlesAreAllServed(t *testing.T) {
	url := sqliteURL(t)
	migrated(t, openStore(t, url))
	const handles, window = 5, 3 * time.Second
	var served [handles]int
	var worst [handles]time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(window)
	for h := range handles {
		s := openStore(t, url)
		wg.Go(func() {
			for time.Now().Before(end) {
				start := time.Now()
				err := s.Write(t.Context(), func(tx *Tx) error { return tx.Change(ChangeUser, "demo", "u", "") })
				if err != nil {
					t.Error(err)
					return
				}
				served[h]++
				worst[h] = max(worst[h], time.Since(start))
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range served {
		total += n
	}
	for h, n := range served {
		if n < total/handles/4 || worst[h] > window/2 {
			t.Errorf("handle %d: %d of %d writes, worst %v", h, n, total, worst[h])
		}
	}
	if n := head(t, openStore(t, url)); n != int64(total) {
		t.Errorf("%d writes were acknowledged, %d are there", total, n)
	}
}

// A process that is stopped inside a write: others wait in vain until their deadline, and go on as soon as it is killed.
// Nothing piles up meanwhile, and nothing of its transaction is seen.
func TestWrite_frozenProcessIsWaitedForUntilItDies(t *testing.T) {
	url := sqliteURL(t)
	s := migrated(t, openStore(t, url))
	path := strings.TrimPrefix(url, "sqlite:")
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "KMS_STORE_TEST_HOLD="+path)
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "inside\n" {
		t.Fatalf("the holder said %q", line)
	}
	must(t, holder.Process.Signal(unix.SIGSTOP))

	goroutines := goleak.IgnoreCurrent()
	write := func(ctx context.Context) error {
		return s.Write(ctx, func(tx *Tx) error { return tx.Change(ChangeUser, "demo", "u", "") })
	}
	for range 3 {
		start := time.Now()
		err := write(shortly(t))
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("write beside a frozen holder: %v, want ErrUnavailable", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v to give up", took)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := write(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("cancelled write: %v", err)
	}
	if n := head(t, s); n != 0 {
		t.Errorf("reading sees %d changes of an open transaction", n)
	}

	done := make(chan error, 1)
	go func() { done <- write(t.Context()) }()
	must(t, holder.Process.Kill())
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("still locked out after the holder's death")
	}
	if lines := changesSince(t, s, 0); len(lines) != 1 || lines[0] != "user demo u " {
		t.Errorf("changes %q", lines)
	}
	goleak.VerifyNone(t, goroutines)
}

// A waiter that gave up leaves its place in the queue to the next one, and an unwanted turn is given back.
func TestTurn_abandonedWaitNeitherPilesUpNorKeepsTheLock(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "db")
	a, err := openTurnLock(path)
	must(t, err)
	b, err := openTurnLock(path)
	must(t, err)
	must(t, a.acquire(t.Context()))
	for range 3 {
		if err := b.acquire(shortly(t)); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("acquire: %v", err)
		}
	}
	a.release()
	waiting := func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.waiting }
	testkit.Eventually(t, 5*time.Second, "b's waiter ends", func() bool { return !waiting() })
	must(t, a.acquire(t.Context())) // b gave back what nobody wanted
	if err := b.acquire(shortly(t)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("acquire: %v", err)
	}
	go func() { a.release() }()
	must(t, b.acquire(t.Context())) // takes over the wait
	b.release()
	must(t, a.acquire(t.Context()))
	if err := b.acquire(shortly(t)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("acquire: %v", err)
	}
	must(t, b.close()) // with a waiter left in flock
	a.release()
	testkit.Eventually(t, 5*time.Second, "b's last waiter ends and closes", func() bool {
		_, err := b.writer.Stat()
		return !waiting() && errors.Is(err, os.ErrClosed)
	})
	must(t, a.acquire(t.Context()))
	a.release()
	must(t, a.close())
	must(t, a.close())
}

// Whoever has just written stands behind whoever waits, however fast it comes back.
func TestTurn_comesToTheWaiterFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	a, err := openTurnLock(path)
	must(t, err)
	defer a.close()
	b, err := openTurnLock(path)
	must(t, err)
	defer b.close()
	probe, err := os.Open(path + ".queue")
	must(t, err)
	defer probe.Close()
	must(t, a.acquire(t.Context()))
	for range 20 {
		var served atomic.Bool
		done := make(chan error, 1)
		go func() {
			err := b.acquire(t.Context())
			served.Store(true)
			if err == nil {
				b.release()
			}
			done <- err
		}()
		testkit.Eventually(t, 5*time.Second, "b stands in the queue", func() bool {
			if flock(probe, unix.LOCK_SH|unix.LOCK_NB) != nil {
				return true
			}
			flock(probe, unix.LOCK_UN)
			return false
		})
		a.release()
		must(t, a.acquire(t.Context()))
		if !served.Load() {
			a.release() // or b would never end
			t.Fatal("a wrote twice while b was waiting")
		}
		must(t, <-done)
	}
	a.release()
}

// A deadline that comes in the middle of a transaction undoes it before the turn goes to the next writer.
func TestWrite_deadlineInsideUndoesAll(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := shortly(t)
		err := s.Write(ctx, func(tx *Tx) error {
			if err := tx.Change(ChangeUser, "demo", "late", ""); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("write past its deadline: %v", err)
		}
		must(t, s.Write(t.Context(), func(tx *Tx) error { return tx.Change(ChangeUser, "demo", "next", "") }))
		if lines := changesSince(t, s, 0); len(lines) != 1 || lines[0] != "user demo next " {
			t.Errorf("changes %q", lines)
		}
	})
}

func TestWrite_failureUndoesAll(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		mine := errors.New("mine")
		err := s.Write(t.Context(), func(tx *Tx) error {
			if err := tx.Change(ChangeUser, "demo", "u", ""); err != nil {
				return err
			}
			return mine
		})
		if !errors.Is(err, mine) {
			t.Errorf("write: %v, want the function's own error", err)
		}
		if n := head(t, s); n != 0 {
			t.Errorf("%d changes after a failure", n)
		}
	})
}

func TestWrite_diskFullIsUnavailable(t *testing.T) {
	s := testSQLite(t)
	err := s.Write(t.Context(), func(tx *Tx) error {
		if err := tx.exec(`PRAGMA max_page_count = 1`); err != nil { // the least it can be: the file as it is
			return err
		}
		return tx.exec(`INSERT INTO audit (at, who, action, subject, message, result, node) VALUES (0, '', '', '', randomblob(1000000), '', '')`)
	})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("write to a full store: %v, want ErrUnavailable", err)
	}
}
