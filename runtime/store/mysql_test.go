package store

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/testkit"
)

func TestOpen_badURLsAreRefusedWithoutTheirPassword(t *testing.T) {
	for _, url := range []string{
		"", "kms.db", "sqlite:", "sqlite:kms.db", "sqlite:/dir/", "sqlite:/missing/dir/kms.db", "sqlite:/a\x00b", "postgres://u:secret@h/d",
		"mysql://", "mysql://h/d", "mysql://u:secret@h", "mysql://u:secret@h/", "mysql://u:secret@/d", "mysql://u:secret@h:1/d/e",
		"mysql://u:secret@h:port/d", "mysql://u:secret@h/d?tls=skip", "mysql://u:sec%ret@h/d", "mysql://u:secret@h/d#x",
	} {
		s, err := Open(t.Context(), url, Options{})
		if err == nil {
			s.Close()
			t.Errorf("%q was accepted", url)
			continue
		}
		if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, "sec%ret") {
			t.Errorf("%q: the error shows the password: %v", url, err)
		}
	}
}

func TestRedact_hidesPasswords(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite:/a/kms.db":                   "sqlite:/a/kms.db",
		"mysql://u:secret@h:3307/d":          "mysql://u@h:3307/d",
		"mysql://u:p%40ss@h/d":               "mysql://u@h:3306/d",
		"mysql://u:sec%ret@h/d":              "mysql://…",
		"postgres://u:secret@h/d":            "postgres://…",
		"u:secret@h/d":                       "…",
		"mysql://secret@[::1]:3306:x/d?a=b#": "mysql://…",
	} {
		if text := Redact(url); text != want {
			t.Errorf("Redact(%q) = %q, want %q", url, text, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"sqlite:/a/b", "mysql://u:p@h:1/d", "mysql://u:%zz@h/d", "mysql://u@[::1]/d", "sqlite:\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := parseURL(s)
		if err == nil && (target.path == "") == (target.mysql.database == "") {
			t.Errorf("%q is neither or both: %+v", s, target)
		}
		if p := target.mysql.password; len(p) > 20 && strings.Contains(Redact(s), p) {
			t.Errorf("Redact(%q) shows the password", s)
		}
	})
}

func TestMySQL_awayIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	silent := l.Addr().String() // accepts and never says a word
	defer l.Close()
	for what, addr := range map[string]string{"nobody listens": "127.0.0.1:1", "frozen server": silent} {
		s := openStore(t, "mysql://u:secret@"+addr+"/kms")
		for call, err := range map[string]error{
			"write":   s.Write(shortly(t), func(*Tx) error { return nil }),
			"read":    func() error { _, err := s.Tenant(shortly(t), "demo"); return err }(),
			"list":    func() error { _, err := s.Tenants(shortly(t)); return err }(),
			"words":   func() error { _, err := s.NGRead(shortly(t), "demo", NGDefault); return err }(),
			"migrate": s.Migrate(shortly(t)),
		} {
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s, %s: %v, want ErrUnavailable", what, call, err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: the error shows the password: %v", what, call, err)
			}
		}
	}
}

func TestMySQL_missingDatabaseAndWrongPasswordAreExplained(t *testing.T) {
	url := testkit.MySQL(t)
	at := strings.LastIndex(url, "/")
	for url, want := range map[string]string{
		url[:at] + "/no_such_database":                           "CREATE DATABASE",
		"mysql://root:wrong" + url[strings.LastIndex(url, "@"):]: "check the user",
	} {
		err := openStore(t, url).Migrate(t.Context())
		if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("migrate: %v, want a hint with %q", err, want)
		}
	}
}

// Two transactions that lock two rows crosswise: InnoDB undoes one of them, and it is run again.
func TestMySQL_deadlocksAreRetried(t *testing.T) {
	s := migrated(t, openStore(t, testkit.MySQL(t)))
	for _, id := range []string{"a", "b"} {
		got[Tenant](t)(s.CreateTenant(t.Context(), Tenant{ID: id}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var both, wg sync.WaitGroup
	both.Add(2)
	var mu sync.Mutex
	runs := 0
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		first := true
		wg.Go(func() {
			err := s.Write(ctx, func(tx *Tx) error {
				mu.Lock()
				runs++
				mu.Unlock()
				for _, id := range order {
					if err := tx.exec(`UPDATE tenants SET name = CONCAT(name, ?) WHERE id = ?`, "+", id); err != nil {
						return err
					}
					if first { // each holds one row before either asks for its second
						first = false
						both.Done()
						both.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if runs < 3 {
		t.Errorf("%d runs: there was no deadlock to retry", runs)
	}
	for _, id := range []string{"a", "b"} {
		if tenant := got[Tenant](t)(s.Tenant(t.Context(), id)); tenant.Name != id+"++" {
			t.Errorf("tenant %s is named %q: an update was lost or doubled", id, tenant.Name)
		}
	}
}

// What a server's own settings would let pass: text that is too long is refused, never cut.
func TestMySQL_nothingIsCutSilently(t *testing.T) {
	s := migrated(t, openStore(t, testkit.MySQL(t)))
	err := s.Write(t.Context(), func(tx *Tx) error {
		return tx.exec(`INSERT INTO nodes (id, host, seen_at) VALUES (?, '', 0)`, strings.Repeat("x", 65))
	})
	if err == nil {
		t.Error("65 characters went into a column of 64")
	}
}

func TestMySQL_writesReadWhatIsCommitted(t *testing.T) {
	s := migrated(t, openStore(t, testkit.MySQL(t)))
	tenant := testTenant(t, s)
	must(t, s.Write(t.Context(), func(tx *Tx) error {
		for _, want := range []string{TenantActive, TenantSuspended} {
			var state string
			must(t, tx.scan(`SELECT state FROM tenants WHERE id = ?`, []any{tenant}, &state))
			if state != want {
				t.Errorf("state %q, want %q: not READ COMMITTED", state, want)
			}
			must(t, s.SetTenantState(t.Context(), tenant, TenantSuspended))
		}
		return nil
	}))
}

// The commands that stand in for Backup and Restore: see Backup's error for the first.
func TestMySQL_dumpAndLoadKeepEverything(t *testing.T) {
	dump, load := testkit.Need(t, "mariadb-dump"), testkit.Need(t, "mariadb")
	from, to := testkit.MySQL(t), testkit.MySQL(t)
	s := migrated(t, openStore(t, from))
	tenant := testTenant(t, s)
	before := got[Channel](t)(s.CreateChannel(t.Context(), Channel{Tenant: tenant, ID: "c", Name: "ギルド🏯"}))
	link := Link{Name: "main", Kind: "ngircd", Servers: []string{"a:1"}, Key: []byte{0, 1, '\n', '\'', '\\', 0x80, 0xff}, Channels: 8, MaxLine: 512, State: LinkActive}
	must(t, s.PutLink(t.Context(), link))

	sqlText := got[[]byte](t)(client(t, dump, from, nil, "--single-transaction", "--hex-blob"))
	got[[]byte](t)(client(t, load, to, sqlText))
	restored := openStore(t, to)
	must(t, restored.Migrate(t.Context()))
	must(t, restored.NewEpochs(t.Context()))
	after := got[Channel](t)(restored.Channel(t.Context(), tenant, "c"))
	if after.Name != before.Name || after.PK != before.PK || after.Epoch == before.Epoch {
		t.Errorf("channel %+v, was %+v: want another epoch only", after, before)
	}
	if back := got[Link](t)(restored.Link(t.Context(), "main")); !bytes.Equal(back.Key, link.Key) {
		t.Errorf("key %x, was %x", back.Key, link.Key)
	}
}

// client runs one of MariaDB's programs on the database at a store URL.
func client(t *testing.T, program, url string, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	target, err := parseURL(url)
	must(t, err)
	host, port, err := net.SplitHostPort(target.mysql.addr)
	must(t, err)
	args = append([]string{"--no-defaults", "-h", host, "-P", port, "-u", target.mysql.user}, args...)
	cmd := exec.CommandContext(t.Context(), program, append(args, target.mysql.database)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+target.mysql.password)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}
