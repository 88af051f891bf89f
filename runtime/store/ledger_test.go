package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLedger_versionsBuildsReleases(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		b := Build{Digest: hash(1), Label: "v1 é", Version: "1.0", Contract: 1, SchemaMin: 1, SchemaMax: 2, Size: 5 << 30, By: "ann"}
		must(t, s.PutBuild(ctx, b))
		read := got[Build](t)(s.Build(ctx, hash(1)))
		if b.CreatedAt = read.CreatedAt; read != b || b.CreatedAt.IsZero() {
			t.Errorf("build %+v, want %+v", read, b)
		}
		must(t, s.PutBuild(ctx, Build{Digest: hash(1), Label: "renamed", Version: "1.0", Contract: 7}))
		if list := got[[]Build](t)(s.Builds(ctx)); len(list) != 1 || list[0].Label != "renamed" || list[0].Contract != 1 {
			t.Errorf("builds %+v", list)
		}
		must(t, s.PutVersion(ctx, Version{Name: "1.0", State: VersionLive, Build: hash(1)}))
		if err := s.DeleteBuild(ctx, hash(1)); !errors.Is(err, ErrInUse) {
			t.Errorf("deleting a live build: %v", err)
		}
		must(t, s.PutVersion(ctx, Version{Name: "1.0", State: VersionRetired, Build: hash(1), Message: "bye"}))
		if v := got[Version](t)(s.Version(ctx, "1.0")); v.State != VersionRetired || v.Message != "bye" || v.UpdatedAt.IsZero() {
			t.Errorf("version %+v", v)
		}
		if list := got[[]Version](t)(s.Versions(ctx)); len(list) != 1 {
			t.Errorf("versions %+v", list)
		}
		must(t, s.DeleteBuild(ctx, hash(1)))
	})
}

func TestRelease_isAddedThenSetAnew(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		r := Release{Version: "1.0", Build: hash(1), Kind: ReleaseDeploy, State: ReleaseRunning, Who: "root", Node: "n1",
			StartedAt: time.UnixMilli(1_700_000_000_123).UTC()}
		r.ID = got[int64](t)(s.PutRelease(ctx, r))
		r.State, r.Error = ReleaseFailed, "probe: 'quoted' エラー"
		r.FinishedAt = r.StartedAt.Add(time.Second)
		r.Steps = []Step{{Name: "store", State: "done", At: r.StartedAt, Took: 3 * time.Millisecond, Detail: "x"}}
		if id := got[int64](t)(s.PutRelease(ctx, r)); id != r.ID {
			t.Errorf("update gave id %d, want %d", id, r.ID)
		}
		if back := got[Release](t)(s.Release(ctx, r.ID)); !reflect.DeepEqual(back, r) {
			t.Errorf("release %+v, want %+v", back, r)
		}
		second := got[int64](t)(s.PutRelease(ctx, Release{Version: "2.0", Kind: ReleaseRollback, State: ReleaseDone}))
		if list := got[[]Release](t)(s.Releases(ctx, "", 10)); len(list) != 2 || list[0].ID != second || list[0].StartedAt.IsZero() {
			t.Errorf("releases %+v", list)
		}
		if list := got[[]Release](t)(s.Releases(ctx, "1.0", 10)); len(list) != 1 || list[0].ID != r.ID {
			t.Errorf("releases of 1.0 %+v", list)
		}
	})
}

// claimOf asks for a minute.
func claimOf(name, holder, purpose string) LeaseClaim {
	return LeaseClaim{Name: name, Holder: holder, Purpose: purpose, TTL: time.Minute}
}

func TestLease_oneHolderUntilExpiry(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		const lease = "release/1.0"
		must(t, s.AcquireLease(ctx, claimOf(lease, "n1", "deploy")))
		must(t, s.AcquireLease(ctx, claimOf(lease, "n1", "deploy again")))
		var held *LeaseHeldError
		if err := s.AcquireLease(ctx, claimOf(lease, "n2", "rollback")); !errors.As(err, &held) ||
			held.Lease.Holder != "n1" || held.Lease.Purpose != "deploy again" || held.Lease.Expires.IsZero() {
			t.Errorf("second holder: %v", err)
		}
		if err := s.RenewLease(ctx, lease, "n2", time.Minute); !errors.As(err, &held) {
			t.Errorf("renewed by another: %v", err)
		}
		must(t, s.ReleaseLease(ctx, lease, "n2"))
		if list := got[[]Lease](t)(s.Leases(ctx)); len(list) != 1 {
			t.Errorf("another's release ended the lease: %+v", list)
		}
		must(t, s.RenewLease(ctx, lease, "n1", -time.Second)) // run out
		if list := got[[]Lease](t)(s.Leases(ctx)); len(list) != 0 {
			t.Errorf("leases after expiry: %+v", list)
		}
		must(t, s.AcquireLease(ctx, claimOf(lease, "n2", "rollback")))
		must(t, s.ReleaseLease(ctx, lease, "n2"))
		must(t, s.AcquireLease(ctx, claimOf(lease, "n1", "deploy")))
	})
}

// TestLease_endsAlthoughTheClockWasSetBack, without ending at once: its holder may live.
func TestLease_endsAlthoughTheClockWasSetBack(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		const lease = "release/1.0"
		ahead := claimOf(lease, "n1/a", "deploy")
		ahead.TTL = 24 * time.Hour
		must(t, s.AcquireLease(ctx, ahead))
		next := claimOf(lease, "n2/a", "rollback")
		next.TTL = time.Second
		var held *LeaseHeldError
		if err := s.AcquireLease(ctx, next); !errors.As(err, &held) || held.Lease.Holder != "n1/a" {
			t.Errorf("the holder may live: %v", err)
		}
		for began := time.Now(); s.AcquireLease(ctx, next) != nil; time.Sleep(50 * time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatal("a dead holder has it for a day")
			}
		}
	})
}

// TestLease_anOwnersHolders: a control plane that comes back gets its lease at once, and what its dead predecessor still sends
// does not end it. Another of the same name is another owner.
func TestLease_anOwnersHolders(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.AcquireLease(ctx, claimOf("l", "host/home1/a", "deploy")))
		must(t, s.AcquireLease(ctx, claimOf("l", "host/home1/b", "settling")))
		must(t, s.ReleaseLease(ctx, "l", "host/home1/a"))
		var held *LeaseHeldError
		if err := s.RenewLease(ctx, "l", "host/home1/a", time.Minute); !errors.As(err, &held) {
			t.Errorf("renewed by a predecessor: %v", err)
		}
		if err := s.AcquireLease(ctx, claimOf("l", "host/home2/c", "deploy")); !errors.As(err, &held) || held.Lease.Holder != "host/home1/b" {
			t.Errorf("taken by another home on a host of the same name: %v", err)
		}
		must(t, s.QueueForLease(ctx, claimOf("l", "host/home1/d", "deploy")))
		if list := got[[]Lease](t)(s.LeasesOf(ctx, "host/home1")); len(list) != 2 {
			t.Errorf("leases of an owner: %+v", list)
		}
		if list := got[[]Lease](t)(s.LeasesOf(ctx, "host/home")); len(list) != 0 {
			t.Errorf("leases of an owner whose name begins another's: %+v", list)
		}
	})
}

// TestLease_firstComeFirstServed between owners; whoever does not wait gets nothing before those who do, unless he goes ahead.
func TestLease_firstComeFirstServed(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.AcquireLease(ctx, claimOf("l", "a/1", "deploy")))
		for _, holder := range []string{"c/1", "b/1", "b/2", "c/1", "gone/1"} { // who asks again keeps his place
			must(t, s.QueueForLease(ctx, claimOf("l", holder, "deploy")))
		}
		must(t, s.QueueForLease(ctx, LeaseClaim{Name: "l", Holder: "gone/1", TTL: -time.Second})) // died
		if list := got[[]Lease](t)(s.LeaseQueue(ctx, "l")); len(list) != 3 || list[0].Holder != "c/1" || list[2].Holder != "b/2" {
			t.Errorf("the queue is %+v", list)
		}
		if list := got[[]Lease](t)(s.Leases(ctx)); len(list) != 1 {
			t.Errorf("who waits is shown as holder: %+v", list)
		}
		must(t, s.ReleaseLease(ctx, "l", "a/1"))
		var held *LeaseHeldError
		for _, early := range []string{"a/2", "b/1"} {
			if err := s.AcquireLease(ctx, claimOf("l", early, "deploy")); !errors.As(err, &held) || !held.Waiting || held.Lease.Holder != "c/1" {
				t.Errorf("%s gets it before c: %v", early, err)
			}
		}
		must(t, s.AcquireLease(ctx, claimOf("l", "c/1", "deploy")))
		must(t, s.ReleaseLease(ctx, "l", "c/1"))
		must(t, s.AcquireLease(ctx, LeaseClaim{Name: "l", Holder: "a/3", TTL: time.Minute, Ahead: true}))
		must(t, s.ReleaseLease(ctx, "l", "a/3"))
		must(t, s.LeaveQueue(ctx, "l", "b/1"))
		must(t, s.AcquireLease(ctx, claimOf("l", "b/2", "deploy")))
		if list := got[[]Lease](t)(s.LeaseQueue(ctx, "l")); len(list) != 0 {
			t.Errorf("left in the queue: %+v", list)
		}
	})
}

func TestLease_manyAskAndOneGetsIt(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		results := make(chan error, 20)
		for i := range cap(results) {
			go func() { results <- s.AcquireLease(t.Context(), claimOf("l", fmt.Sprint("n", i), "p")) }()
		}
		won := 0
		for range cap(results) {
			var held *LeaseHeldError
			switch err := <-results; {
			case err == nil:
				won++
			case !errors.As(err, &held):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d got the lease", won)
		}
	})
}

func TestLink_oneIsActive(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		l := Link{Name: "main", Kind: "inspircd", Servers: []string{"127.0.0.1:6667", "[::1]:6697"}, TLS: true, TLSCA: "-----\n",
			Password: `p'"\`, Key: []byte{0, 1, 0xff, '\'', '\\'}, Channels: 64, MaxLine: 4096, State: LinkActive, Node: "n1"}
		must(t, s.PutLink(ctx, l))
		read := got[Link](t)(s.Link(ctx, "main"))
		if l.CreatedAt = read.CreatedAt; !reflect.DeepEqual(read, l) || l.CreatedAt.IsZero() {
			t.Errorf("link %+v, want %+v", read, l)
		}
		second := l
		second.Name = "a-second"
		must(t, s.PutLink(ctx, second))
		list := got[[]Link](t)(s.Links(ctx))
		if len(list) != 2 || list[0].Name != "a-second" || list[0].State != LinkActive || list[1].State != LinkStandby {
			t.Errorf("links %+v", list)
		}
		if err := s.DeleteLink(ctx, "a-second"); !errors.Is(err, ErrInUse) {
			t.Errorf("deleting the active of two: %v", err)
		}
		must(t, s.DeleteLink(ctx, "main"))
		must(t, s.DeleteLink(ctx, "a-second"))
	})
}

func TestAudit_takesAnyText(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.AppendAudit(ctx, Audit{Who: "uid 0", Action: "deploy", Subject: "1.0", Message: "why'\"\\", Result: "done", Node: "n1"}))
		must(t, s.AppendAudit(ctx, Audit{Who: "x", Action: "a", Subject: "2.0", Message: strings.Repeat("長", 20000), Result: "a\xffb\x00"}))
		list := got[[]Audit](t)(s.AuditTrail(ctx, AuditFilter{}))
		if len(list) != 2 || list[0].Subject != "2.0" || list[0].Result != "a\uFFFDb\uFFFD" || list[0].At.IsZero() ||
			len([]rune(list[0].Message)) != maxText || list[1].Message != "why'\"\\" {
			t.Errorf("audit %.300v", list)
		}
		if list := got[[]Audit](t)(s.AuditTrail(ctx, AuditFilter{Subject: "1.0", Limit: 5})); len(list) != 1 || list[0].Who != "uid 0" {
			t.Errorf("audit of 1.0: %+v", list)
		}
		late := Audit{At: time.Now().Add(-time.Hour), Who: "uid 0", Action: "pin", Subject: "2.0/d", Result: "done", Node: "n1"}
		for range 2 {
			must(t, s.AppendAudit(ctx, late))
		}
		late.At = late.At.Add(time.Millisecond)
		must(t, s.AppendAudit(ctx, late))
		if list := got[[]Audit](t)(s.AuditTrail(ctx, AuditFilter{Subject: "2.0/d"})); len(list) != 2 || list[0].At.UnixMilli() != late.At.UnixMilli() {
			t.Errorf("of two late entries, one of them tried twice, there are %+v", list)
		}
	})
}

func TestNodesAndTenantSeen_areUpserted(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.PutNode(ctx, Node{ID: "n1", Host: "old"}))
		must(t, s.PutNode(ctx, Node{ID: "n1", Host: "new"}))
		if list := got[[]Node](t)(s.Nodes(ctx)); len(list) != 1 || list[0].Host != "new" || list[0].SeenAt.IsZero() {
			t.Errorf("nodes %+v", list)
		}
		must(t, s.TenantSeen(ctx, "1.0", "demo"))
		must(t, s.Write(ctx, func(*Tx) error { return s.TenantSeen(within(t, 3*time.Second), "1.0", "demo") })) // the second asks for no turn to write
		must(t, s.TenantSeen(ctx, "2.0", "other"))
		seen := got[map[string]time.Time](t)(s.TenantsSeen(ctx, "1.0", time.Now().Add(-14*24*time.Hour)))
		if day := seen["demo"]; len(seen) != 1 || day.IsZero() || time.Since(day) > 25*time.Hour || day != day.Truncate(24*time.Hour) {
			t.Errorf("seen %v", seen)
		}
		if seen := got[map[string]time.Time](t)(s.TenantsSeen(ctx, "1.0", time.Now().Add(48*time.Hour))); len(seen) != 0 {
			t.Errorf("seen in the future %v", seen)
		}
	})
}
