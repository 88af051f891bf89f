package api_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/kmsctl/kms/runtime/api/apitest"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is version 2.0's API with the tenants demo and other, and a key of each.
type world struct {
	*apitest.API
	store      *store.Store
	key, other string
}

func newWorld(t testing.TB, url string) *world {
	t.Helper()
	st := openStore(t, url)
	check(t, st.Migrate(t.Context()))
	for _, tenant := range []string{"demo", "other"} {
		_, err := st.CreateTenant(t.Context(), store.Tenant{ID: tenant})
		check(t, err)
	}
	return &world{apitest.Start(t, st, "2.0"), st, apitest.Key(t, st, "demo"), apitest.Key(t, st, "other")}
}

func openStore(t testing.TB, url string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), url, store.Options{})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	return st
}

func sqliteWorld(t testing.TB) *world {
	return newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "kms.db"))
}

// onBoth runs a test on both stores.
func onBoth(t *testing.T, test func(*testing.T, *world)) {
	t.Run("sqlite", func(t *testing.T) { test(t, sqliteWorld(t)) })
	t.Run("mysql", func(t *testing.T) { test(t, newWorld(t, testkit.MySQL(t))) })
}

// call makes a request with demo's key.
func (w *world) call(t testing.TB, method, path, body string) apitest.Answer {
	t.Helper()
	return w.Call(t, method, path, body, "Authorization: Bearer "+w.key)
}

// must is call below demo's address, with the status that it has to have.
func (w *world) must(t testing.TB, status int, method, path, body string) apitest.Answer {
	t.Helper()
	a := w.call(t, method, "/api/2.0/demo/"+path, body)
	if a.Status != status {
		t.Fatalf("%s %s %.200s answers %d %s, want %d", method, path, body, a.Status, a.Body, status)
	}
	return a
}

// code returns the code of a refusal.
func code(t testing.TB, a apitest.Answer) string {
	t.Helper()
	var problem struct{ Code, Message string }
	if err := json.Unmarshal([]byte(a.Body), &problem); err != nil || problem.Message == "" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("a refusal that is none: %d %s %q", a.Status, a.Header.Get("Content-Type"), a.Body)
	}
	return problem.Code
}
