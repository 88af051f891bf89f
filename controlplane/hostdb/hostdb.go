// Package hostdb is what one control plane must not forget: its sets, their processes, the routing in force and the
// releases in flight. Always SQLite, written by this control plane alone; every write is durable when it returns, since it
// is the intent that the next control plane reads after a kill -9.
package hostdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/supervise"
	"github.com/kmsctl/kms/runtime/store"
)

// schema is applied whole; the version guards against a database of a newer kmsctl.
const (
	schemaVersion = 1
	schema        = `
CREATE TABLE IF NOT EXISTS sets (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS processes (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS routes (version TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS flights (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pins (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS canaries (version TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audits (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;`
)

// DB is the host's own database.
type DB struct{ db *sql.DB }

// Set is one build started for one version on this host, as it must survive.
type Set struct {
	ID        string                `json:"id"`
	Version   string                `json:"version"`
	Build     string                `json:"build"`
	Label     string                `json:"label"`
	State     controlplane.SetState `json:"state"`
	StartedAt time.Time             `json:"started_at"`
	WarmUntil time.Time             `json:"warm_until,omitzero"`

	DrainingSince time.Time `json:"draining_since,omitzero"`
	Leaving       *Leaving  `json:"leaving,omitempty"` // nil while nobody is told to leave it
}

// Leaving says who was told to leave a set, and how fast.
type Leaving struct {
	Tenants  []string  `json:"tenants,omitempty"` // only theirs; none: everybody's
	Except   bool      `json:"except,omitempty"`  // everybody's but theirs
	Once     bool      `json:"once,omitempty"`    // who is connected when it begins; they come back to where they are led
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline,omitzero"` // what is left then is closed; zero: never
	Rate     float64   `json:"rate"`              // clients told a second; 0: all at once
	Message  string    `json:"message,omitempty"`
}

// Route is what nginx is told of a version.
type Route struct {
	Version string                    `json:"version"`
	State   controlplane.VersionState `json:"state"`
	Stable  string                    `json:"stable,omitempty"` // set id
	Message string                    `json:"message,omitempty"`
}

// Flight is a release, pin or canary that has begun and not ended.
type Flight struct {
	ID      string               `json:"id"`
	Release controlplane.Release `json:"release"`
	Set     string               `json:"set,omitempty"`     // the set being brought up
	Before  Route                `json:"before,omitzero"`   // the routing when it began; empty when the name was unknown
	Swapped bool                 `json:"swapped,omitempty"` // the slot was told to lead to Set
	Warm    bool                 `json:"warm,omitempty"`    // Set ran before the release did
	Queued  bool                 `json:"queued,omitempty"`  // the shared database is owed the lease, the ledger and the version
	Audit   *Audit               `json:"audit,omitempty"`   // of a pin or canary, which are in no ledger: its entry but for the result
}

// Audit is an entry of the audit trail that the shared database is owed.
type Audit struct {
	ID      string    `json:"id"` // a ULID: they are entered in their order
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Message string    `json:"message,omitempty"`
	Result  string    `json:"result"`
}

// NewName reports that nginx did not serve the version when the release began.
func (f *Flight) NewName() bool { return f.Before.State != controlplane.Live }

// Open opens or makes the database, mode 0600. A database of a newer kmsctl is refused.
func Open(ctx context.Context, path string) (*DB, error) {
	// SQLite would make the file readable by others.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %v", path, err)
	}
	file.Close()
	address := url.URL{Scheme: "file", Path: path} // a path may hold what means something in a DSN
	dsn := address.String() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %v", path, err)
	}
	db.SetMaxOpenConns(1)
	if err := prepare(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("cannot open %q: %v", path, err)
	}
	return &DB{db}, nil
}

func prepare(ctx context.Context, db *sql.DB) error {
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > schemaVersion {
		return fmt.Errorf("it was written by a newer kmsctl (schema %d, this one knows %d)", have, schemaVersion)
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version=%d", schemaVersion))
	return err
}

// Close closes the database.
func (d *DB) Close() error { return d.db.Close() }

// Identity is a random name that this database got when it was made: what tells two homes on hosts of one name apart.
func (d *DB) Identity() (id string, err error) {
	_, err = d.db.Exec("INSERT INTO facts (name, value) VALUES ('identity', ?) ON CONFLICT DO NOTHING", strings.ToLower(rand.Text()[:10]))
	if err == nil {
		err = d.db.QueryRow("SELECT value FROM facts WHERE name = 'identity'").Scan(&id)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the identity of this home: %v", err)
	}
	return id, nil
}

// Restore is a restore of the shared database that has begun and not ended. Link is that of the IRC server that ran, nil without one.
type Restore struct {
	Path string      `json:"path"`
	Link *store.Link `json:"link,omitempty"`
}

// PutRestore writes what a restore intends.
func (d *DB) PutRestore(r Restore) error { return d.put("facts", "name", "value", "restore", r) }

// DeleteRestore forgets a restore that has ended.
func (d *DB) DeleteRestore() error { return d.delete("facts", "name", "restore") }

// Restore returns the one that has not ended, nil when there is none.
func (d *DB) Restore() (*Restore, error) {
	var text string
	err := d.db.QueryRow("SELECT value FROM facts WHERE name = 'restore'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	var r Restore
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the restore under way: %v", err)
	}
	return &r, nil
}

// PutSet writes a set.
func (d *DB) PutSet(s Set) error { return d.put("sets", "id", "body", s.ID, s) }

// Sets returns all sets.
func (d *DB) Sets() ([]Set, error) { return all[Set](d, "sets", "id", "body") }

// DeleteSet forgets a set together with its processes.
func (d *DB) DeleteSet(id string) error {
	tx, err := d.db.Begin()
	if err != nil {
		return fmt.Errorf("cannot delete set %q: %v", id, err)
	}
	defer tx.Rollback()
	for _, statement := range []string{"DELETE FROM sets WHERE id = ?1", "DELETE FROM processes WHERE name IN (?1||'/ua', ?1||'/api')"} {
		if _, err := tx.Exec(statement, id); err != nil {
			return fmt.Errorf("cannot delete set %q: %v", id, err)
		}
	}
	return tx.Commit()
}

// PutProcess writes how to find a process again. Names are `<set>/ua`, `<set>/api`, `nginx` and `irc`.
func (d *DB) PutProcess(name string, r supervise.Record) error {
	return d.put("processes", "name", "record", name, r)
}

// Process returns a process's record, and whether there is one.
func (d *DB) Process(name string) (r supervise.Record, ok bool, err error) {
	var text string
	err = d.db.QueryRow("SELECT record FROM processes WHERE name = ?", name).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	return r, err == nil, err
}

// DeleteProcess forgets a process.
func (d *DB) DeleteProcess(name string) error { return d.delete("processes", "name", name) }

// PutRoute writes what nginx is told of a version.
func (d *DB) PutRoute(r Route) error { return d.put("routes", "version", "body", r.Version, r) }

// Routes returns the routing of all versions.
func (d *DB) Routes() ([]Route, error) { return all[Route](d, "routes", "version", "body") }

// DeleteRoute forgets a version that never served.
func (d *DB) DeleteRoute(version string) error { return d.delete("routes", "version", version) }

// PutFlight writes a release in flight.
func (d *DB) PutFlight(f Flight) error { return d.put("flights", "id", "body", f.ID, f) }

// Flights returns the releases in flight, oldest first.
func (d *DB) Flights() ([]Flight, error) { return all[Flight](d, "flights", "id", "body") }

// DeleteFlight forgets a release that has ended.
func (d *DB) DeleteFlight(id string) error { return d.delete("flights", "id", id) }

// PutPin writes a pin, of which a tenant has one per version, and ends the flight that made it: what the audit trail is owed for it has
// the flight's id.
func (d *DB) PutPin(p controlplane.Pin, a Audit) error {
	return d.change(a, func(tx *sql.Tx) error { return put(tx, "pins", "id", "body", pinID(p.Version, p.Tenant), p) })
}

// PutEnd writes how a release ended and what the audit trail is owed for it. The ledger is owed the release until it is deleted.
func (d *DB) PutEnd(f Flight, a Audit) error {
	return d.together(fmt.Sprintf("the end of the %s", a.Subject), func(tx *sql.Tx) error {
		return errors.Join(put(tx, "flights", "id", "body", f.ID, f), put(tx, "audits", "id", "body", a.ID, a))
	})
}

// Pins returns all pins, by version and tenant.
func (d *DB) Pins() ([]controlplane.Pin, error) {
	return all[controlplane.Pin](d, "pins", "id", "body")
}

// DeletePin forgets a pin, and writes what the audit trail is owed for that.
func (d *DB) DeletePin(version, tenant string, a Audit) error {
	return d.change(a, func(tx *sql.Tx) error { return remove(tx, "pins", "id", pinID(version, tenant)) })
}

func pinID(version, tenant string) string { return version + "/" + tenant }

// PutCanary writes a version's canary and ends the flight that made it, as PutPin does.
func (d *DB) PutCanary(c controlplane.Canary, a Audit) error {
	return d.change(a, func(tx *sql.Tx) error { return put(tx, "canaries", "version", "body", c.Version, c) })
}

// Canaries returns all canaries, by version.
func (d *DB) Canaries() ([]controlplane.Canary, error) {
	return all[controlplane.Canary](d, "canaries", "version", "body")
}

// DeleteCanary forgets a version's canary, and writes what the audit trail is owed for that.
func (d *DB) DeleteCanary(version string, a Audit) error {
	return d.change(a, func(tx *sql.Tx) error { return remove(tx, "canaries", "version", version) })
}

// PutAudit writes what the audit trail is owed for the flight of the same id, which has ended.
func (d *DB) PutAudit(a Audit) error { return d.change(a, func(*sql.Tx) error { return nil }) }

// Audits returns what the audit trail is owed, oldest first.
func (d *DB) Audits() ([]Audit, error) { return all[Audit](d, "audits", "id", "body") }

// DeleteAudit forgets an entry that the audit trail has.
func (d *DB) DeleteAudit(id string) error { return d.delete("audits", "id", id) }

// change makes a change and writes what the audit trail is owed for it, in place of its flight: all of it or nothing.
func (d *DB) change(a Audit, make func(*sql.Tx) error) error {
	return d.together(fmt.Sprintf("the %s of %q", a.Action, a.Subject), func(tx *sql.Tx) error {
		return errors.Join(make(tx), put(tx, "audits", "id", "body", a.ID, a), remove(tx, "flights", "id", a.ID))
	})
}

// PutSwap writes what a swap intends, all of it or nothing: the release, the set that is to serve, and the route to it.
func (d *DB) PutSwap(f Flight, s Set, r Route) error {
	return d.together(fmt.Sprintf("the swap of %q", r.Version), func(tx *sql.Tx) error {
		return errors.Join(put(tx, "flights", "id", "body", f.ID, f), put(tx, "sets", "id", "body", s.ID, s), put(tx, "routes", "version", "body", r.Version, r))
	})
}

// together writes all or nothing.
func (d *DB) together(what string, write func(*sql.Tx) error) error {
	tx, err := d.db.Begin()
	if err != nil {
		return fmt.Errorf("cannot write %s: %v", what, err)
	}
	defer tx.Rollback()
	if err = write(tx); err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %v", what, err)
	}
	return nil
}

func (d *DB) put(table, key, column, id string, value any) error {
	return put(d.db, table, key, column, id, value)
}

// execer is a database or a transaction.
type execer interface {
	Exec(query string, args ...any) (sql.Result, error)
}

func put(to execer, table, key, column, id string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("internal error: %v", err)
	}
	_, err = to.Exec(fmt.Sprintf("INSERT INTO %s (%s, %s) VALUES (?1, ?2) ON CONFLICT (%s) DO UPDATE SET %s = ?2",
		table, key, column, key, column), id, string(text))
	if err != nil {
		return fmt.Errorf("cannot write %s %q: %v", table, id, err)
	}
	return nil
}

func (d *DB) delete(table, key, id string) error { return remove(d.db, table, key, id) }

func remove(from execer, table, key, id string) error {
	if _, err := from.Exec(fmt.Sprintf("DELETE FROM %s WHERE %s = ?", table, key), id); err != nil {
		return fmt.Errorf("cannot delete %s %q: %v", table, id, err)
	}
	return nil
}

func all[T any](d *DB, table, key, column string) ([]T, error) {
	rows, err := d.db.Query(fmt.Sprintf("SELECT %s FROM %s ORDER BY %s", column, table, key))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %v", table, err)
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		var text string
		var value T
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("cannot read %s: %v", table, err)
		}
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("cannot read %s: %v", table, err)
		}
		out = append(out, value)
	}
	return out, rows.Err()
}
