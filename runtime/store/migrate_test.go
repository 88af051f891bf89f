package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

// forEachURL is forEachStore for tests that open an empty database by themselves.
func forEachURL(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, sqliteURL(t)) })
	t.Run("mysql", func(t *testing.T) { test(t, testkit.MySQL(t)) })
}

func TestMigrate_onceByManyAtOnce(t *testing.T) {
	forEachURL(t, func(t *testing.T, url string) {
		var wg sync.WaitGroup
		for range 4 {
			s := openStore(t, url)
			wg.Go(func() {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := openStore(t, url)
		if n := got[int](t)(s.Schema(t.Context())); n != Schema {
			t.Errorf("schema %d, want %d", n, Schema)
		}
		var applied int
		must(t, s.DB().QueryRow(`SELECT COUNT(*) FROM kms_schema WHERE version_id > 0`).Scan(&applied))
		if applied != Schema {
			t.Errorf("%d migrations were applied, want %d", applied, Schema)
		}
	})
}

func TestMigrate_waitsForAnotherAndGivesUpInTime(t *testing.T) {
	forEachURL(t, func(t *testing.T, url string) {
		a, b := openStore(t, url), openStore(t, url)
		var err error
		must(t, a.engine.migrating(t.Context(), func(*sql.DB) error {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // longer than one GET_LOCK
			defer cancel()
			err = b.Migrate(ctx)
			if rows, err := b.DB().Query(`SELECT id FROM tenants`); err == nil {
				rows.Close()
				t.Error("it did not wait")
			}
			return nil
		}))
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("migrating beside another: %v, want ErrUnavailable", err)
		}
		must(t, b.Migrate(t.Context()))
	})
}

// MySQL cannot undo half a migration: the next run has to get over what is there, half of it or all but the record.
func TestMigrate_finishesAfterAKillHalfWay(t *testing.T) {
	for _, share := range []int{2, 1} {
		s := openStore(t, testkit.MySQL(t))
		conn := got[*sql.Conn](t)(s.DB().Conn(t.Context())) // a migration's variables are its connection's
		entries := got[[]fs.DirEntry](t)(migrations.ReadDir("migrations/mysql"))
		for _, entry := range entries {
			text := got[[]byte](t)(migrations.ReadFile("migrations/mysql/" + entry.Name()))
			statements := strings.SplitAfter(strings.TrimSpace(string(text)), ";\n")
			for _, statement := range statements[:len(statements)/share] {
				_, err := conn.ExecContext(t.Context(), statement)
				must(t, err)
			}
		}
		must(t, conn.Close())
		must(t, s.Migrate(t.Context()))
		testTenant(t, s)
	}
}

func TestSchema_emptyNewerAndOlderAreTold(t *testing.T) {
	forEachURL(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := openStore(t, url)
		if n := got[int](t)(s.Schema(ctx)); n != 0 {
			t.Errorf("an empty database has schema %d", n)
		}
		if err := s.CheckSchema(ctx, 1, 1); err == nil || errors.Is(err, ErrSchemaNewer) {
			t.Errorf("checking an empty database: %v", err)
		}
		must(t, s.Migrate(ctx))
		must(t, s.CheckSchema(ctx, 1, Schema))
		if err := s.CheckSchema(ctx, Schema+1, Schema+1); err == nil || errors.Is(err, ErrSchemaNewer) {
			t.Errorf("a build that needs more: %v", err)
		}
		must(t, s.Write(ctx, func(tx *Tx) error {
			return tx.exec(`INSERT INTO kms_schema (version_id, is_applied) VALUES (?, ?)`, Schema+7, true)
		}))
		if err := s.CheckSchema(ctx, 1, Schema); !errors.Is(err, ErrSchemaNewer) {
			t.Errorf("checking a newer database: %v, want ErrSchemaNewer", err)
		}
		if err := s.Migrate(ctx); !errors.Is(err, ErrSchemaNewer) {
			t.Errorf("migrating a newer database: %v, want ErrSchemaNewer", err)
		}
	})
}

// A migration that has been released is history: databases that ran it will not run it again. Add another file instead.
func TestMigrations_firstIsFrozen(t *testing.T) {
	for file, want := range map[string]string{
		"migrations/sqlite/00001_first.sql": "fd16d7260a4497fa19c755949418ffba8b9bb3accaa157a17c9aa817d0861022",
		"migrations/mysql/00001_first.sql":  "105358a792031918cd6fc2f34b4f5bc8da546e417e9eefc4da71c240c6177380",
	} {
		text, err := migrations.ReadFile(file)
		must(t, err)
		if sum := fmt.Sprintf("%x", sha256.Sum256(text)); sum != want {
			t.Errorf("%s was changed: its sha256 is %s", file, sum)
		}
	}
	for _, dialect := range []Dialect{SQLite, MySQL} {
		entries, err := migrations.ReadDir("migrations/" + string(dialect))
		must(t, err)
		if len(entries) != Schema {
			t.Errorf("%d migrations for %s, Schema is %d", len(entries), dialect, Schema)
		}
	}
}

// testdata/first.*.sql is a database of the first schema with something in every table, as it was then.
func TestMigrate_upgradesADatabaseOfTheFirstSchema(t *testing.T) {
	forEachURL(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := openStore(t, url)
		load(t, s, "testdata/first."+string(s.Dialect())+".sql")
		load(t, s, "testdata/first.rows.sql")
		if n := got[int](t)(s.Schema(ctx)); n != 1 {
			t.Fatalf("the old database has schema %d", n)
		}
		must(t, s.Migrate(ctx))
		must(t, s.CheckSchema(ctx, Schema, Schema))
		c := got[Channel](t)(s.Channel(ctx, "demo", "guild:1"))
		users := got[[]string](t)(s.Members(ctx, "demo", "guild:1"))
		if c.Head != 2 || c.Epoch != "epoch" || len(users) != 1 || users[0] != "u" {
			t.Errorf("channel %+v with %q", c, users)
		}
		if k := got[APIKey](t)(s.LookupKey(ctx, hash(1))); k.Tenant != "demo" {
			t.Errorf("key %+v", k)
		}
		if token := got[Token](t)(s.LookupToken(ctx, "demo", hash(2))); token.Name != "勇者" {
			t.Errorf("token %+v", token)
		}
		words := got[NGList](t)(s.NGRead(ctx, "demo", NGDefault))
		if len(words.Entries) != 1 || words.Entries[0].Word != "ばか" {
			t.Errorf("NG words %+v", words)
		}
		list := got[[]Release](t)(s.Releases(ctx, "", 9))
		if len(list) != 1 || len(list[0].Steps) != 1 {
			t.Errorf("releases %+v", list)
		}
		if links := got[[]Link](t)(s.Links(ctx)); len(links) != 1 || links[0].Servers[0] != "127.0.0.1:6667" {
			t.Errorf("links %+v", links)
		}
		if epoch, n, err := s.ChangesHead(ctx); epoch != "changes" || n != 3 || err != nil {
			t.Errorf("changes %q %d %v", epoch, n, err)
		}
		var body string
		must(t, s.DB().QueryRow(`SELECT body FROM messages WHERE channel_pk = ? AND seq = 2`, c.PK).Scan(&body))
		if body != `{"text":"やあ"}` {
			t.Errorf("message %q", body)
		}
	})
}

func load(t *testing.T, s *Store, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, s.Write(context.WithoutCancel(t.Context()), func(tx *Tx) error {
		for _, statement := range strings.Split(string(text), ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if err := tx.exec(statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	}))
}
