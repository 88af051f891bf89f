package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// clockBack is further ahead than any lease's end is while clocks only go forward.
const clockBack = time.Hour

// Lease is a right that one holder has until it expires, by the database's clock.
type Lease struct {
	Name, Holder, Purpose string
	Expires               time.Time
}

// Owner is who is behind a holder: what stands before its last slash. One owner's holders take a lease over from each other, since
// he sees to it himself that one of them acts; what follows the slash keeps an old one's late release from ending the lease of a
// new one.
func Owner(holder string) string {
	if at := strings.LastIndexByte(holder, '/'); at >= 0 {
		return holder[:at]
	}
	return holder
}

// LeaseHeldError says who has the lease that was asked for, or stands before the one who asked.
type LeaseHeldError struct {
	Lease   Lease
	Waiting bool // it is not held, but this one waits for it already
}

func (e *LeaseHeldError) Error() string {
	return fmt.Sprintf("lease %q is held by %s for %s until %s", e.Lease.Name, e.Lease.Holder, e.Lease.Purpose,
		e.Lease.Expires.Format(time.RFC3339))
}

// LeaseClaim asks for a lease.
type LeaseClaim struct {
	Name, Holder, Purpose string
	TTL                   time.Duration
	Ahead                 bool // of those who wait
}

// AcquireLease takes a lease, or fails with *LeaseHeldError: somebody has it, or another owner waits for it. An owner gets what he
// has again at once. The holder's place in the queue, if he has one, is given up.
func (s *Store) AcquireLease(ctx context.Context, c LeaseClaim) error {
	var later error // what is told after something was written all the same
	err := s.Write(ctx, func(tx *Tx) error {
		later = nil
		l, now, err := tx.openLease(c.Name)
		if err != nil {
			return err
		}
		if l.Expires.After(now) && Owner(l.Holder) != Owner(c.Holder) {
			held := &LeaseHeldError{Lease: l}
			if l.Expires.Before(now.Add(clockBack)) {
				return held
			}
			later = held // the database's clock was set back: who lives renews it, a dead holder's ends by itself all the same
			return tx.exec(`UPDATE leases SET expires = ? WHERE name = ?`, now.Add(c.TTL).UnixMilli(), c.Name)
		}
		if first, err := tx.firstInQueue(c.Name, now); !c.Ahead && err == nil && Owner(first.Holder) != Owner(c.Holder) {
			return &LeaseHeldError{Lease: first, Waiting: true}
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		err = tx.exec(`UPDATE leases SET holder = ?, purpose = ?, expires = ? WHERE name = ?`, c.Holder, clip(c.Purpose, 255),
			now.Add(c.TTL).UnixMilli(), c.Name)
		if err != nil {
			return err
		}
		low, high := queueOf(c.Name)
		return tx.exec(`DELETE FROM leases WHERE name > ? AND name < ? AND holder = ?`, low, high, c.Holder)
	})
	if err == nil {
		err = later
	}
	if err != nil {
		return fmt.Errorf("cannot acquire lease %q: %w", c.Name, err)
	}
	return nil
}

// QueueForLease takes the last place among those who wait for a lease, for the claim's TTL, or extends the holder's. First come is
// first served between owners; LeaveQueue gives the place up.
func (s *Store) QueueForLease(ctx context.Context, c LeaseClaim) error {
	low, high := queueOf(c.Name)
	err := s.Write(ctx, func(tx *Tx) error {
		_, now, err := tx.openLease(c.Name) // its lock orders those who come
		if err != nil {
			return err
		}
		expires := now.Add(c.TTL).UnixMilli()
		var have int
		if err := tx.scan(`SELECT COUNT(*) FROM leases WHERE name > ? AND name < ? AND holder = ?`, []any{low, high, c.Holder}, &have); err != nil {
			return err
		}
		if have > 0 {
			return tx.exec(`UPDATE leases SET expires = ? WHERE name > ? AND name < ? AND holder = ?`, expires, low, high, c.Holder)
		}
		var last string
		err = tx.scan(`SELECT COALESCE(MAX(name), '') FROM leases WHERE name > ? AND name < ?`, []any{low, high}, &last)
		if err != nil {
			return err
		}
		place, _ := strconv.ParseInt(strings.TrimPrefix(last, low), 10, 64)
		return tx.exec(`INSERT INTO leases (name, holder, purpose, expires) VALUES (?, ?, ?, ?)`,
			fmt.Sprintf("%s%012d", low, place+1), c.Holder, clip(c.Purpose, 255), expires)
	})
	if err != nil {
		return fmt.Errorf("cannot queue for lease %q: %w", c.Name, err)
	}
	return nil
}

// queueOf bounds the names of the places in a lease's queue.
func queueOf(name string) (low, high string) { return name + "/wait/", name + "/wait0" }

// LeaveQueue gives the holder's place in a lease's queue up.
func (s *Store) LeaveQueue(ctx context.Context, name, holder string) error {
	low, high := queueOf(name)
	err := s.Write(ctx, func(tx *Tx) error {
		return tx.exec(`DELETE FROM leases WHERE name > ? AND name < ? AND holder = ?`, low, high, holder)
	})
	if err != nil {
		return fmt.Errorf("cannot leave the queue for lease %q: %w", name, err)
	}
	return nil
}

// RenewLease extends a lease to ttl from now. It fails with *LeaseHeldError when somebody else has taken it meanwhile, with
// ErrNotFound when it was released. One that only ran out is the holder's again.
func (s *Store) RenewLease(ctx context.Context, name, holder string, ttl time.Duration) error {
	err := s.Write(ctx, func(tx *Tx) error {
		l, now, err := tx.lockLease(name)
		switch {
		case err != nil:
			return err
		case l.Holder != holder && l.Expires.After(now):
			return &LeaseHeldError{Lease: l}
		case l.Holder != holder:
			return ErrNotFound
		}
		return tx.exec(`UPDATE leases SET expires = ? WHERE name = ?`, now.Add(ttl).UnixMilli(), name)
	})
	if err != nil {
		return fmt.Errorf("cannot renew lease %q: %w", name, err)
	}
	return nil
}

// ReleaseLease gives a lease back. One that is not the holder's (any more) is left alone.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		return tx.exec(`DELETE FROM leases WHERE name = ? AND holder = ?`, name, holder)
	})
	if err != nil {
		return fmt.Errorf("cannot release lease %q: %w", name, err)
	}
	return nil
}

// Leases returns the leases that are held now, by name.
func (s *Store) Leases(ctx context.Context) ([]Lease, error) {
	list, err := collect(ctx, s.DB(), scanLease, `SELECT name, holder, purpose, expires FROM leases
		WHERE expires > `+s.Dialect().NowMS()+` AND name NOT LIKE '%/wait/%' ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("cannot list leases: %w", err)
	}
	return list, nil
}

// LeasesOf returns what an owner has, places in queues and what ran out included.
func (s *Store) LeasesOf(ctx context.Context, owner string) ([]Lease, error) {
	// '0' follows '/' in the order of bytes.
	list, err := collect(ctx, s.DB(), scanLease, `SELECT name, holder, purpose, expires FROM leases WHERE holder > ? AND holder < ?
		ORDER BY name`, owner+"/", owner+"0")
	if err != nil {
		return nil, fmt.Errorf("cannot list leases: %w", err)
	}
	return list, nil
}

// LeaseQueue returns who waits for a lease, who came first first.
func (s *Store) LeaseQueue(ctx context.Context, name string) ([]Lease, error) {
	low, high := queueOf(name)
	list, err := collect(ctx, s.DB(), scanLease, `SELECT name, holder, purpose, expires FROM leases
		WHERE name > ? AND name < ? AND expires > `+s.Dialect().NowMS()+` ORDER BY name`, low, high)
	if err != nil {
		return nil, fmt.Errorf("cannot list who waits for lease %q: %w", name, err)
	}
	return list, nil
}

func scanLease(row scanner) (Lease, error) {
	var l Lease
	var expires int64
	err := row.Scan(&l.Name, &l.Holder, &l.Purpose, &expires)
	l.Expires = fromMS(expires)
	return l, err
}

// openLease locks a lease's row and makes it first if need be, so that two who ask for a new lease wait for each other. It also
// returns the database's time.
func (tx *Tx) openLease(name string) (Lease, time.Time, error) {
	l, now, err := tx.lockLease(name)
	if !errors.Is(err, ErrNotFound) {
		return l, now, err
	}
	err = tx.exec(`INSERT INTO leases (name, holder, purpose, expires) VALUES (?, '', '', 0)`, name)
	if err != nil && !IsDuplicate(err) {
		return l, now, err
	}
	return tx.lockLease(name)
}

// firstInQueue is who has waited longest, or ErrNotFound.
func (tx *Tx) firstInQueue(name string, now time.Time) (Lease, error) {
	low, high := queueOf(name)
	var l Lease
	var expires int64
	err := tx.scan(`SELECT name, holder, purpose, expires FROM leases WHERE name > ? AND name < ? AND expires > ? ORDER BY name LIMIT 1`,
		[]any{low, high, now.UnixMilli()}, &l.Name, &l.Holder, &l.Purpose, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	l.Expires = fromMS(expires)
	return l, err
}

// lockLease also returns the database's time.
func (tx *Tx) lockLease(name string) (Lease, time.Time, error) {
	l := Lease{Name: name}
	var expires int64
	err := tx.scan(`SELECT holder, purpose, expires FROM leases WHERE name = ?`+tx.dialect.ForUpdate(), []any{name},
		&l.Holder, &l.Purpose, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return l, time.Time{}, err
	}
	l.Expires = fromMS(expires)
	// Read after the lock was got: waiting for it may have taken a while.
	now, err := tx.NowMS()
	return l, fromMS(now), err
}
