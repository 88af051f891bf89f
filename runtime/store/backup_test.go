package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

func TestBackup_isOneMomentWhileWritersRun(t *testing.T) {
	url := sqliteURL(t)
	s := migrated(t, openStore(t, url))
	tenant := testTenant(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // two tables that agree after each commit
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.CreateChannel(t.Context(), Channel{Tenant: tenant, ID: "c" + newID(10)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	begun := head(t, s)
	testkit.Eventually(t, 5*time.Second, "the writer writes", func() bool { return head(t, s) > begun+20 })
	file := filepath.Join(t.TempDir(), "backup.db")
	must(t, s.Backup(t.Context(), file, ".kms-half-"))
	during := head(t, s)
	testkit.Eventually(t, 5*time.Second, "the writer goes on", func() bool { return head(t, s) > during })
	close(stop)
	wg.Wait()

	if mode := got[fs.FileInfo](t)(os.Stat(file)).Mode().Perm(); mode != 0o600 {
		t.Errorf("the backup has mode %v", mode)
	}
	if err := s.Backup(t.Context(), file, ".kms-half-"); !errors.Is(err, ErrExists) {
		t.Errorf("over a backup: %v, want ErrExists", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".kms-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	copied := openStore(t, "sqlite:"+file)
	channels := got[[]Channel](t)(copied.Channels(t.Context(), tenant))
	if n := head(t, copied); n != int64(len(channels))+1 || len(channels) < 20 {
		t.Errorf("the copy has %d changes for %d channels and a tenant", n, len(channels))
	}
}

func TestRestore_bringsTheBackupUnderNewEpochs(t *testing.T) {
	url := sqliteURL(t)
	s := migrated(t, openStore(t, url))
	tenant := testTenant(t, s)
	before := got[Channel](t)(s.CreateChannel(t.Context(), Channel{Tenant: tenant, ID: "kept"}))
	feed, n, err := s.ChangesHead(t.Context())
	must(t, err)
	file := filepath.Join(t.TempDir(), "backup.db")
	must(t, s.Backup(t.Context(), file, ".kms-half-"))
	got[Channel](t)(s.CreateChannel(t.Context(), Channel{Tenant: tenant, ID: "later"}))

	if err := Restore(t.Context(), url, file); !errors.Is(err, ErrInUse) {
		t.Fatalf("restore under an open store: %v, want ErrInUse", err)
	}
	got[Channel](t)(s.Channel(t.Context(), tenant, "later")) // untouched
	must(t, s.Close())
	must(t, Restore(t.Context(), url, file))

	s = openStore(t, url)
	after := got[Channel](t)(s.Channel(t.Context(), tenant, "kept"))
	if after.Epoch == before.Epoch || after.PK != before.PK {
		t.Errorf("channel %+v, was %+v: want another epoch", after, before)
	}
	if epoch, m, err := s.ChangesHead(t.Context()); epoch == feed || m != n || err != nil {
		t.Errorf("changes at %q %d, were at %q %d: want another epoch", epoch, m, feed, n)
	}
	if _, err := s.Channel(t.Context(), tenant, "later"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what came after the backup: %v", err)
	}
	path := strings.TrimPrefix(url, "sqlite:")
	if mode := got[fs.FileInfo](t)(os.Stat(path)).Mode().Perm(); mode != 0o600 {
		t.Errorf("the restored store has mode %v", mode)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".kms-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	backup := openStore(t, "sqlite:"+file)
	if c := got[Channel](t)(backup.Channel(t.Context(), tenant, "kept")); c != before {
		t.Errorf("the backup itself was changed: %+v", c)
	}
}

func TestRestore_intoNothingAndOverADamagedStore(t *testing.T) {
	s := testSQLite(t)
	testTenant(t, s)
	file := filepath.Join(t.TempDir(), "backup.db")
	must(t, s.Backup(t.Context(), file, ".kms-half-"))
	for what, content := range map[string]string{"nothing": "", "garbage": strings.Repeat("not a database ", 1000)} {
		url := sqliteURL(t)
		path := strings.TrimPrefix(url, "sqlite:")
		if content != "" {
			must(t, os.WriteFile(path, []byte(content), 0o600))
			must(t, os.WriteFile(path+"-wal", []byte(content), 0o600))
		}
		if err := Restore(t.Context(), url, file); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		got[Tenant](t)(openStore(t, url).Tenant(t.Context(), "demo"))
	}
}

// A log that lies there without its store, say because somebody removed only that, must not be played into the new one.
func TestRestore_ignoresAStrayLog(t *testing.T) {
	s := testSQLite(t)
	testTenant(t, s)
	file := filepath.Join(t.TempDir(), "backup.db")
	must(t, s.Backup(t.Context(), file, ".kms-half-"))
	oldURL, url := sqliteURL(t), sqliteURL(t)
	old := migrated(t, openStore(t, oldURL)) // open, so that its log is not brought home
	got[Tenant](t)(old.CreateTenant(t.Context(), Tenant{ID: "ghost"}))
	log := got[[]byte](t)(os.ReadFile(strings.TrimPrefix(oldURL, "sqlite:") + "-wal"))
	must(t, os.WriteFile(strings.TrimPrefix(url, "sqlite:")+"-wal", log, 0o600))
	must(t, Restore(t.Context(), url, file))
	restored := openStore(t, url)
	if list := got[[]Tenant](t)(restored.Tenants(t.Context())); len(list) != 1 || list[0].ID != "demo" {
		t.Errorf("tenants %+v, want those of the backup", list)
	}
}

func TestRestore_refusesWhatIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	garbage, empty, newer := filepath.Join(dir, "garbage"), filepath.Join(dir, "empty"), filepath.Join(dir, "newer.db")
	must(t, os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600))
	must(t, os.WriteFile(empty, nil, 0o600))
	from := migrated(t, openStore(t, sqliteURL(t)))
	must(t, from.Write(t.Context(), func(tx *Tx) error {
		return tx.exec(`INSERT INTO kms_schema (version_id, is_applied) VALUES (?, ?)`, Schema+1, true)
	}))
	must(t, from.Backup(t.Context(), newer, ".kms-half-"))
	url := sqliteURL(t)
	s := migrated(t, openStore(t, url))
	testTenant(t, s)
	must(t, s.Close())
	for _, file := range []string{garbage, empty, newer, filepath.Join(dir, "missing"), dir} {
		err := Restore(t.Context(), url, file)
		if err == nil || !strings.Contains(err.Error(), file) || errors.Is(err, ErrSchemaNewer) != (file == newer) {
			t.Errorf("%s: %v", file, err)
		}
		if file == empty && !strings.Contains(err.Error(), "not one of a kms store") {
			t.Errorf("an empty file: %v", err)
		}
	}
	got[Tenant](t)(openStore(t, url).Tenant(t.Context(), "demo")) // still the old one
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(strings.TrimPrefix(url, "sqlite:")), ".kms-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestNewEpochs_changeChannelsAndFeed(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		before := got[Channel](t)(s.CreateChannel(t.Context(), Channel{Tenant: tenant, ID: "c"}))
		feed, n, err := s.ChangesHead(t.Context())
		must(t, err)
		must(t, s.NewEpochs(t.Context()))
		if after := got[Channel](t)(s.Channel(t.Context(), tenant, "c")); after.Epoch == before.Epoch {
			t.Error("the channel kept its epoch")
		}
		if epoch, m, err := s.ChangesHead(t.Context()); epoch == feed || m != n || err != nil {
			t.Errorf("changes at %q %d %v, were at %q %d", epoch, m, err, feed, n)
		}
	})
}

func TestBackup_namesTheCommandForMySQL(t *testing.T) {
	s := openStore(t, "mysql://u:secret@127.0.0.1:1/kms")
	err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "b"), ".kms-half-")
	if err == nil || !strings.Contains(err.Error(), "mariadb-dump") || strings.Contains(err.Error(), "secret") {
		t.Errorf("backup of MySQL: %v", err)
	}
	err = Restore(t.Context(), "mysql://u:secret@127.0.0.1:1/kms", "x")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("restore of MySQL: %v", err)
	}
}
