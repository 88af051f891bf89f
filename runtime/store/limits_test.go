package store

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/names"
)

func TestLimits_areSetOneByOneAndFallBackToTheDefault(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx, tenant := t.Context(), testTenant(t, s)
		if l := got[Tenant](t)(s.Tenant(ctx, tenant)).Limits; l != (Limits{}) {
			t.Errorf("a new tenant has the limits %+v", l)
		}
		before := head(t, s)
		must(t, s.SetTenantLimits(ctx, tenant, map[string]int{"connections": 7, "text_length": 50}))
		must(t, s.SetTenantLimits(ctx, tenant, map[string]int{"channels": 3, "text_length": 0}))
		if l := got[Tenant](t)(s.Tenant(ctx, tenant)).Limits; l != (Limits{Connections: 7, Channels: 3}) {
			t.Errorf("limits %+v", l)
		}
		if lines := changesSince(t, s, before); len(lines) != 2 || lines[0] != "tenant demo demo limits" {
			t.Errorf("changes %q", lines)
		}
		must(t, s.SetTenantLimits(ctx, tenant, map[string]int{"connections": 0, "channels": 0}))
		if text := storedLimits(t, s); text != "" {
			t.Errorf("stored %q once all are the defaults", text)
		}
	})
}

func storedLimits(t testing.TB, s *Store) (text string) {
	t.Helper()
	must(t, s.DB().QueryRowContext(t.Context(), `SELECT limits FROM tenants WHERE id = 'demo'`).Scan(&text))
	return text
}

func TestLimits_refusesWhatIsNone(t *testing.T) {
	s := testSQLite(t)
	tenant, before := testTenant(t, s), head(t, s)
	for what, change := range map[string]map[string]int{
		"messages_per_second": {"messages-per-second": 5}, // names those there are
		"-1":                  {"connections": -1},
		"1 to 4000":           {"text_length": 4001},
	} {
		err := s.SetTenantLimits(t.Context(), tenant, change)
		var wrong *names.Error
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want a names.Error with %q", change, err, what)
		}
	}
	if err := s.SetTenantLimits(t.Context(), "nobody", map[string]int{"connections": 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no tenant: %v", err)
	}
	if head(t, s) != before {
		t.Error("refusals changed something")
	}
}

func TestLimits_whatIsStoredAndUnknown(t *testing.T) {
	s := testSQLite(t)
	testTenant(t, s)
	for text, want := range map[string]Limits{
		`{"connections":7,"stickers":9}`:              {Connections: 7},
		`{"connections":"many","channels":0}`:         {Connections: 1, Channels: 1},
		`{"text_length":99999,"channel_members":2.5}`: {TextLength: 1, ChannelMembers: 1},
		`[`: {1, 1, 1, 1, 1, 1, 1, 1},
	} {
		must(t, s.Write(t.Context(), func(tx *Tx) error { return tx.exec(`UPDATE tenants SET limits = ?`, text) }))
		if l := got[Tenant](t)(s.Tenant(t.Context(), "demo")).Limits; l != want {
			t.Errorf("%s is read as %+v", text, l)
		}
	}
	must(t, s.Write(t.Context(), func(tx *Tx) error { return tx.exec(`UPDATE tenants SET limits = ?`, `{"stickers":9}`) }))
	must(t, s.SetTenantLimits(t.Context(), "demo", map[string]int{"connections": 2}))
	if text := storedLimits(t, s); text != `{"connections":2,"stickers":9}` {
		t.Errorf("a newer build's limit did not survive: %s", text)
	}
}

func TestLimits_holdChannelsAndMembers(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx, tenant := t.Context(), testTenant(t, s)
		must(t, s.SetTenantLimits(ctx, tenant, map[string]int{"channels": 2, "channel_members": 2}))
		create := func(id string) error { _, err := s.CreateChannel(ctx, Channel{Tenant: tenant, ID: id}); return err }
		must(t, create("a"))
		must(t, create("b"))
		if err := create("c"); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "at most 2 channels") {
			t.Errorf("a third channel: %v", err)
		}
		if err := create("b"); !errors.Is(err, ErrExists) {
			t.Errorf("one that exists: %v", err)
		}
		must(t, s.DeleteChannel(ctx, tenant, "b"))
		must(t, create("c"))

		add := func(ctx context.Context, user string) error { return s.AddMember(ctx, tenant, "a", user) }
		must(t, add(ctx, "u1"))
		must(t, add(ctx, "u2"))
		if err := add(ctx, "u3"); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "at most 2 members") {
			t.Errorf("a third member: %v", err)
		}
		must(t, add(ctx, "u2"))
		if list := got[[]string](t)(s.Members(ctx, tenant, "a")); len(list) != 2 {
			t.Errorf("members %q", list)
		}
	})
}
