package store

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// forEachStore runs the same test on a fresh, migrated store of either dialect.
func forEachStore(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Run("sqlite", func(t *testing.T) { test(t, testSQLite(t)) })
	t.Run("mysql", func(t *testing.T) { test(t, migrated(t, openStore(t, testkit.MySQL(t)))) })
}

func testSQLite(t testing.TB) *Store {
	t.Helper()
	return migrated(t, openStore(t, sqliteURL(t)))
}

func sqliteURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "kms.db")
}

func openStore(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func migrated(t testing.TB, s *Store) *Store {
	t.Helper()
	must(t, s.Migrate(t.Context()))
	return s
}

// shortly is a context whose deadline comes soon: for what is to wait in vain.
func shortly(t testing.TB) context.Context {
	t.Helper()
	return within(t, 100*time.Millisecond)
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is for calls with a result: got[Tenant](t)(s.Tenant(ctx, "a")).
func got[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func testTenant(t testing.TB, s *Store) string {
	t.Helper()
	got[Tenant](t)(s.CreateTenant(t.Context(), Tenant{ID: "demo"}))
	return "demo"
}

// hash is a well-formed hash, another for each n.
func hash(n int) string { return fmt.Sprintf("%064x", n) }

// changesSince returns what the feed has after n, as "kind tenant subject detail".
func changesSince(t testing.TB, s *Store, n int64) []string {
	t.Helper()
	_, list, err := s.ChangesAfter(t.Context(), n, 1000)
	must(t, err)
	var lines []string
	for _, c := range list {
		lines = append(lines, c.Kind+" "+c.Tenant+" "+c.Subject+" "+c.Detail)
	}
	return lines
}

func head(t testing.TB, s *Store) int64 {
	t.Helper()
	_, n, err := s.ChangesHead(t.Context())
	must(t, err)
	return n
}

func TestNow_isTheDatabasesClockInMilliseconds(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		now := got[time.Time](t)(s.Now(t.Context()))
		if off := time.Since(now).Abs(); off > 2*time.Second {
			t.Errorf("the database's clock is %v off this machine's", off)
		}
		var inTx int64
		must(t, s.Write(t.Context(), func(tx *Tx) (err error) { inTx, err = tx.NowMS(); return err }))
		if inTx < now.UnixMilli() || inTx > now.UnixMilli()+2000 {
			t.Errorf("NowMS = %d, Now before it = %d", inTx, now.UnixMilli())
		}
	})
}
