package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

func TestTenant_lifeAndChanges(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		created := got[Tenant](t)(s.CreateTenant(ctx, Tenant{ID: "demo", Name: "デモ"}))
		if read := got[Tenant](t)(s.Tenant(ctx, "demo")); read != created || read.State != TenantActive || read.CreatedAt.IsZero() {
			t.Errorf("read %+v, created %+v", read, created)
		}
		if _, err := s.CreateTenant(ctx, Tenant{ID: "demo"}); !errors.Is(err, ErrExists) || strings.Contains(err.Error(), "tenants.") {
			t.Errorf("second create: %v, want ErrExists without the driver's words", err)
		}
		got[Tenant](t)(s.CreateTenant(ctx, Tenant{ID: names.ProbeTenant}))
		must(t, s.SetTenantState(ctx, "demo", TenantSuspended))
		if read := got[Tenant](t)(s.Tenant(ctx, "demo")); read.State != TenantSuspended {
			t.Errorf("state %q after suspend", read.State)
		}
		if list := got[[]Tenant](t)(s.Tenants(ctx)); len(list) != 2 || list[1].ID != "demo" {
			t.Errorf("tenants: %+v", list)
		}
		got[Channel](t)(s.CreateChannel(ctx, Channel{Tenant: "demo", ID: "c"}))
		got[APIKey](t)(s.CreateKey(ctx, "demo", "", hash(1)))
		must(t, s.DeleteTenant(ctx, "demo"))
		if _, err := s.Channel(ctx, "demo", "c"); !errors.Is(err, ErrNotFound) {
			t.Errorf("channel of a deleted tenant: %v", err)
		}
		if _, err := s.LookupKey(ctx, hash(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("key of a deleted tenant: %v", err)
		}
		want := []string{"tenant demo demo active", "tenant _probe _probe active", "tenant demo demo suspended",
			"channel demo c created", "tenant demo demo deleted"}
		if lines := changesSince(t, s, 0); !slices.Equal(lines, want) {
			t.Errorf("changes %q, want %q", lines, want)
		}
	})
}

func TestRules_missingThingsAreNotFound(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		before := head(t, s)
		_, noTenant := s.Tenant(ctx, "nobody")
		_, noChannel := s.Channel(ctx, tenant, "nothing")
		_, noMembers := s.Members(ctx, tenant, "nothing")
		_, noUser := s.UserName(ctx, tenant, "nobody")
		_, noVersion := s.Version(ctx, "9.9")
		_, noBuild := s.Build(ctx, hash(9))
		_, noRelease := s.Release(ctx, 999)
		_, noLink := s.Link(ctx, "nothing")
		_, noKeyTenant := s.CreateKey(ctx, "nobody", "", hash(1))
		_, noChannelTenant := s.CreateChannel(ctx, Channel{Tenant: "nobody", ID: "c"})
		_, noNGTenant := s.NGChange(ctx, NGEdit{Tenant: "nobody", Base: -1, Add: []NGEntry{{Word: "x"}}})
		_, noUpdate := s.PutRelease(ctx, Release{ID: 999, Version: "1.0", Kind: ReleaseDeploy, State: ReleaseDone})
		for what, err := range map[string]error{
			"tenant": noTenant, "channel": noChannel, "members": noMembers, "user": noUser, "version": noVersion, "build": noBuild,
			"release": noRelease, "link": noLink, "key's tenant": noKeyTenant, "channel's tenant": noChannelTenant,
			"NG words' tenant": noNGTenant, "release to update": noUpdate,
			"state":          s.SetTenantState(ctx, "nobody", TenantActive),
			"delete tenant":  s.DeleteTenant(ctx, "nobody"),
			"token's tenant": s.PutToken(ctx, Token{Tenant: "nobody", User: "u", Hash: hash(1)}),
			"revoke key":     s.RevokeKey(ctx, tenant, "k0"),
			"delete channel": s.DeleteChannel(ctx, tenant, "nothing"),
			"add member":     s.AddMember(ctx, tenant, "nothing", "u"),
			"remove member":  s.RemoveMember(ctx, tenant, "nothing", "u"),
			"delete build":   s.DeleteBuild(ctx, hash(9)),
			"delete link":    s.DeleteLink(ctx, "nothing"),
			"renew lease":    s.RenewLease(ctx, "nothing", "me", time.Second),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", what, err)
			}
		}
		if after := head(t, s); after != before {
			t.Errorf("refusals added %d changes", after-before)
		}
	})
}

// Nothing is added to a tenant while it is being deleted, or the other way round.
func TestDeleteTenant_waitsForWhoAddsToIt(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		tenant := testTenant(t, s)
		must(t, s.Write(t.Context(), func(tx *Tx) error {
			must(t, tx.holdTenant(tenant))
			if err := s.DeleteTenant(shortly(t), tenant); !errors.Is(err, ErrUnavailable) {
				t.Errorf("delete meanwhile: %v, want it to wait", err)
			}
			return nil
		}))
		must(t, s.DeleteTenant(t.Context(), tenant))
	})
}

func TestRules_badNamesAreRefused(t *testing.T) {
	s := testSQLite(t)
	ctx := t.Context()
	tenant := testTenant(t, s)
	for _, bad := range []string{"", "a b", "a;b", "a\nb", "か", "a'b", strings.Repeat("x", 65)} {
		_, err1 := s.CreateTenant(ctx, Tenant{ID: bad})
		_, err2 := s.CreateChannel(ctx, Channel{Tenant: tenant, ID: bad})
		err3 := s.PutToken(ctx, Token{Tenant: tenant, User: bad, Hash: hash(1)})
		err4 := s.AddMember(ctx, tenant, "c", bad)
		err5 := s.PutVersion(ctx, Version{Name: bad, State: VersionLive})
		for i, err := range []error{err1, err2, err3, err4, err5} {
			var refused *names.Error
			if !errors.As(err, &refused) {
				t.Errorf("%q, call %d: %v, want a *names.Error", bad, i+1, err)
			}
		}
	}
	for what, err := range map[string]error{
		"plain secret as hash": s.PutToken(ctx, Token{Tenant: tenant, User: "u", Hash: "secret"}),
		"display name":         s.PutToken(ctx, Token{Tenant: tenant, User: "u", Name: "a\x1b[31m", Hash: hash(1)}),
		"tenant state":         s.SetTenantState(ctx, tenant, "asleep"),
		"version state":        s.PutVersion(ctx, Version{Name: "1.0", State: "odd"}),
		"link": s.PutLink(ctx, Link{Name: "l", Kind: "matrix", Servers: []string{"a:1"}, Key: []byte("k"), Channels: 1, MaxLine: 512,
			State: LinkActive}),
	} {
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestKey_isFoundByHashUntilRevoked(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		a := got[APIKey](t)(s.CreateKey(ctx, tenant, "old", hash(1)))
		b := got[APIKey](t)(s.CreateKey(ctx, tenant, "new", hash(2)))
		if found := got[APIKey](t)(s.LookupKey(ctx, hash(1))); found != a {
			t.Errorf("found %+v, created %+v", found, a)
		}
		if _, err := s.CreateKey(ctx, tenant, "again", hash(1)); !errors.Is(err, ErrExists) {
			t.Errorf("same hash: %v, want ErrExists", err)
		}
		must(t, s.TouchKey(ctx, b))
		touched := got[APIKey](t)(s.LookupKey(ctx, hash(2)))
		if touched.LastUsed.IsZero() {
			t.Error("a touched key has no time of use")
		}
		must(t, s.Write(ctx, func(*Tx) error { return s.TouchKey(within(t, 3*time.Second), touched) })) // so soon it asks for no turn to write
		got[Tenant](t)(s.CreateTenant(ctx, Tenant{ID: "other"}))
		if err := s.RevokeKey(ctx, "other", a.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("another tenant revokes: %v", err)
		}
		before := head(t, s)
		must(t, s.RevokeKey(ctx, tenant, a.ID))
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"key demo " + a.ID + " "}) {
			t.Errorf("changes: %q", lines)
		}
		must(t, s.RevokeKey(ctx, tenant, a.ID))
		if _, err := s.LookupKey(ctx, hash(1)); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked key: %v", err)
		}
		list := got[[]APIKey](t)(s.Keys(ctx, tenant))
		revoked := slices.IndexFunc(list, func(k APIKey) bool { return k.ID == a.ID && !k.RevokedAt.IsZero() })
		if len(list) != 2 || revoked < 0 {
			t.Errorf("keys: %+v", list)
		}
	})
}

func TestChannel_recreatedIsAnother(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		first := got[Channel](t)(s.CreateChannel(ctx, Channel{Tenant: tenant, ID: "g", Kind: KindGuild, Name: "ギルド"}))
		if read := got[Channel](t)(s.Channel(ctx, tenant, "g")); read != first || read.First != 1 || read.Head != 0 || read.History != HistoryLog {
			t.Errorf("read %+v, created %+v", read, first)
		}
		if _, err := s.CreateChannel(ctx, Channel{Tenant: tenant, ID: "g"}); !errors.Is(err, ErrExists) {
			t.Errorf("second live channel: %v, want ErrExists", err)
		}
		must(t, s.AddMember(ctx, tenant, "g", "u"))
		for range 2 { // twice: deleted rows of one id must not hinder each other
			must(t, s.DeleteChannel(ctx, tenant, "g"))
			if _, err := s.Channel(ctx, tenant, "g"); !errors.Is(err, ErrNotFound) {
				t.Errorf("deleted channel: %v", err)
			}
			again := got[Channel](t)(s.CreateChannel(ctx, Channel{Tenant: tenant, ID: "g"}))
			if again.PK <= first.PK || again.Epoch == first.Epoch {
				t.Errorf("the channel came back as itself: %+v after %+v", again, first)
			}
			if users := got[[]string](t)(s.Members(ctx, tenant, "g")); len(users) != 0 {
				t.Errorf("it came back with members %q", users)
			}
		}
		var deleted int
		must(t, s.DB().QueryRow(`SELECT COUNT(*) FROM channels WHERE live IS NULL AND deleted_at > 0`).Scan(&deleted))
		if deleted != 2 {
			t.Errorf("%d deleted rows are kept, want 2", deleted)
		}
		if list := got[[]Channel](t)(s.Channels(ctx, tenant)); len(list) != 1 {
			t.Errorf("channels: %+v", list)
		}
	})
}

func TestMember_addRemoveAndChanges(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		c := got[Channel](t)(s.CreateChannel(ctx, Channel{Tenant: tenant, ID: "g"}))
		before := head(t, s)
		must(t, s.AddMember(ctx, tenant, "g", "b"))
		must(t, s.AddMember(ctx, tenant, "g", "b"))
		must(t, s.AddMember(ctx, tenant, "g", "a"))
		if users := got[[]string](t)(s.Members(ctx, tenant, "g")); !slices.Equal(users, []string{"a", "b"}) {
			t.Errorf("members %q", users)
		}
		if list := got[[]Channel](t)(s.ChannelsOf(ctx, tenant, "a")); len(list) != 1 || list[0] != c {
			t.Errorf("channels of a: %+v", list)
		}
		must(t, s.RemoveMember(ctx, tenant, "g", "a"))
		if err := s.RemoveMember(ctx, tenant, "g", "a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("removing nobody: %v", err)
		}
		for user, want := range map[string]bool{"a": false, "b": true} {
			if is := got[bool](t)(s.IsMember(ctx, c.PK, user)); is != want {
				t.Errorf("IsMember(%s) = %v", user, is)
			}
		}
		if lines := changesSince(t, s, before); !slices.Equal(lines, []string{"member demo g b", "member demo g a", "member demo g a"}) {
			t.Errorf("changes: %q", lines)
		}
	})
}

// Ids and names compare by their bytes, whatever a server's collation would make of them.
func TestKeys_compareBytewise(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tenant := testTenant(t, s)
		for _, id := range []string{"a", "A", "a.", "a:"} {
			got[Channel](t)(s.CreateChannel(ctx, Channel{Tenant: tenant, ID: id}))
		}
		if _, err := s.Channel(ctx, tenant, "A:"); !errors.Is(err, ErrNotFound) {
			t.Errorf("channel A: was found: %v", err)
		}
		c := got[Channel](t)(s.Channel(ctx, tenant, "a"))
		for _, user := range []string{"bob", "Bob", "BOB"} {
			must(t, s.AddMember(ctx, tenant, "a", user))
		}
		if users := got[[]string](t)(s.Members(ctx, tenant, "a")); !slices.Equal(users, []string{"BOB", "Bob", "bob"}) {
			t.Errorf("members %q, want three in the order of bytes", users)
		}
		if is := got[bool](t)(s.IsMember(ctx, c.PK, "bOB")); is {
			t.Error("bOB is taken for bob")
		}
		for i, name := range []string{"か", "が", "か\u3099", "カ", "ｶ", "A", "a", "Ａ", `'"\%_;--`, strings.Repeat("🏯", names.MaxDisplay), "ß", "ss"} {
			user := fmt.Sprint("u", i)
			must(t, s.PutToken(ctx, Token{Tenant: tenant, User: user, Name: name, Hash: hash(i)}))
			if back := got[string](t)(s.UserName(ctx, tenant, user)); back != name {
				t.Errorf("name %q came back as %q", name, back)
			}
			var same int
			must(t, s.DB().QueryRow(`SELECT COUNT(*) FROM users WHERE name = ?`, name).Scan(&same))
			if same != 1 {
				t.Errorf("name %q equals %d names", name, same)
			}
		}
	})
}
