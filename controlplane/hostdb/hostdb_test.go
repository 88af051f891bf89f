package hostdb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/supervise"
)

func testDB(t *testing.T) (*DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, path
}

func TestDB_remembersAcrossOpens(t *testing.T) {
	db, path := testDB(t)
	set := Set{ID: "s1", Version: "2.0", Build: "ab", State: controlplane.SetWarm, StartedAt: time.Unix(5, 0).UTC()}
	flight := Flight{ID: "f1", Release: controlplane.Release{Version: "2.0", Kind: controlplane.KindDeploy}, Set: "s1", Swapped: true}
	for _, err := range []error{
		db.PutSet(Set{ID: "s1"}), db.PutSet(set), db.PutProcess("s1/ua", supervise.Record{PID: 7}),
		db.PutRoute(Route{Version: "2.0", State: controlplane.Live, Stable: "s1"}), db.PutFlight(flight),
		db.PutRestore(Restore{Path: "/backup"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if sets, _ := db.Sets(); len(sets) != 1 || sets[0] != set {
		t.Errorf("sets = %+v", sets)
	}
	if r, err := db.Restore(); err != nil || r == nil || r.Path != "/backup" {
		t.Errorf("restore = %+v %v", r, err)
	}
	if err := db.DeleteRestore(); err != nil {
		t.Error(err)
	}
	if r, err := db.Restore(); err != nil || r != nil {
		t.Errorf("restore = %+v %v after its end", r, err)
	}
	if r, ok, err := db.Process("s1/ua"); !ok || err != nil || r.PID != 7 {
		t.Errorf("process = %+v %v %v", r, ok, err)
	}
	if routes, _ := db.Routes(); len(routes) != 1 || routes[0].Stable != "s1" {
		t.Errorf("routes = %+v", routes)
	}
	if flights, _ := db.Flights(); len(flights) != 1 || !flights[0].Swapped {
		t.Errorf("flights = %+v", flights)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("host.db has mode %v", info.Mode())
	}
}

func TestDeleteSet_forgetsItsProcesses(t *testing.T) {
	db, _ := testDB(t)
	db.PutSet(Set{ID: "s1"})
	for _, name := range []string{"s1/ua", "s1/api", "s12/ua", "nginx"} {
		db.PutProcess(name, supervise.Record{PID: 1})
	}
	if err := db.DeleteSet("s1"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"s1/ua": false, "s1/api": false, "s12/ua": true, "nginx": true} {
		if _, ok, _ := db.Process(name); ok != want {
			t.Errorf("process %s known: %v", name, ok)
		}
	}
}

func TestOpen_refusesANewerDatabase(t *testing.T) {
	db, path := testDB(t)
	db.db.Exec("PRAGMA user_version=99")
	db.Close()
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer kmsctl") {
		t.Errorf("Open = %v", err)
	}
}

func TestPutSwap_writesAllOrNothing(t *testing.T) {
	db, _ := testDB(t)
	swap := func() error {
		return db.PutSwap(Flight{ID: "f", Swapped: true}, Set{ID: "s"}, Route{Version: "2.0", Stable: "s"})
	}
	if _, err := db.db.Exec("CREATE TRIGGER no BEFORE INSERT ON routes BEGIN SELECT RAISE(ABORT, 'no'); END"); err != nil {
		t.Fatal(err)
	}
	if err := swap(); err == nil || !strings.Contains(err.Error(), `cannot write the swap of "2.0"`) {
		t.Errorf("PutSwap = %v", err)
	}
	if flights, _ := db.Flights(); len(flights) != 0 {
		t.Errorf("flights = %+v", flights)
	}
	db.db.Exec("DROP TRIGGER no")
	if err := swap(); err != nil {
		t.Fatal(err)
	}
	flights, _ := db.Flights()
	sets, _ := db.Sets()
	routes, _ := db.Routes()
	if len(flights) != 1 || len(sets) != 1 || len(routes) != 1 {
		t.Errorf("flights = %+v, sets = %+v, routes = %+v", flights, sets, routes)
	}
}

// TestPutPin_endsItsFlight: what a pin changes, its flight's end and the audit trail's entry are one write.
func TestPutPin_endsItsFlight(t *testing.T) {
	db, _ := testDB(t)
	entry := Audit{ID: "f", Action: "pin", Subject: "2.0/dragon", Result: "done"}
	pin := controlplane.Pin{Version: "2.0", Tenant: "dragon"}
	if err := db.PutFlight(Flight{ID: "f", Audit: &entry}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.db.Exec("CREATE TRIGGER no BEFORE INSERT ON audits BEGIN SELECT RAISE(ABORT, 'no'); END"); err != nil {
		t.Fatal(err)
	}
	if err := db.PutPin(pin, entry); err == nil || !strings.Contains(err.Error(), `cannot write the pin of "2.0/dragon"`) {
		t.Errorf("PutPin = %v", err)
	}
	counts := func() [3]int {
		flights, _ := db.Flights()
		pins, _ := db.Pins()
		audits, _ := db.Audits()
		return [3]int{len(flights), len(pins), len(audits)}
	}
	if n := counts(); n != [3]int{1, 0, 0} {
		t.Errorf("flights, pins and audits after a write that failed: %v", n)
	}
	db.db.Exec("DROP TRIGGER no")
	if err := db.PutPin(pin, entry); err != nil || counts() != [3]int{0, 1, 1} {
		t.Errorf("flights, pins and audits: %v, %v", counts(), err)
	}
	if err := errors.Join(db.DeletePin("2.0", "dragon", Audit{ID: "g"}), db.DeleteAudit("f")); err != nil || counts() != [3]int{0, 0, 1} {
		t.Errorf("flights, pins and audits after the pin's end: %v, %v", counts(), err)
	}
}
