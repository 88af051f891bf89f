package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Lease is a right that one holder has until it expires, by the database's clock.
type Lease struct {
	Name, Holder, Purpose string
	Expires               time.Time
}

// LeaseHeldError says who has the lease that was asked for.
type LeaseHeldError struct{ Lease Lease }

func (e *LeaseHeldError) Error() string {
	return fmt.Sprintf("lease %q is held by %s for %s until %s", e.Lease.Name, e.Lease.Holder, e.Lease.Purpose,
		e.Lease.Expires.Format(time.RFC3339))
}

// AcquireLease takes a lease for ttl, or fails with *LeaseHeldError. Its own holder gets it again at once.
func (s *Store) AcquireLease(ctx context.Context, name, holder, purpose string, ttl time.Duration) error {
	err := s.Write(ctx, func(tx *Tx) error {
		l, now, err := tx.lockLease(name)
		if errors.Is(err, ErrNotFound) {
			// The row first, so that two who ask for a new lease wait for each other.
			err = tx.exec(`INSERT INTO leases (name, holder, purpose, expires) VALUES (?, '', '', 0)`, name)
			if err != nil && !IsDuplicate(err) {
				return err
			}
			l, now, err = tx.lockLease(name)
		}
		if err != nil {
			return err
		}
		if l.Holder != holder && l.Expires.After(now) {
			return &LeaseHeldError{l}
		}
		return tx.exec(`UPDATE leases SET holder = ?, purpose = ?, expires = ? WHERE name = ?`, holder, clip(purpose, 255),
			now.Add(ttl).UnixMilli(), name)
	})
	if err != nil {
		return fmt.Errorf("cannot acquire lease %q: %w", name, err)
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
			return &LeaseHeldError{l}
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
	scan := func(row scanner) (Lease, error) {
		var l Lease
		var expires int64
		err := row.Scan(&l.Name, &l.Holder, &l.Purpose, &expires)
		l.Expires = fromMS(expires)
		return l, err
	}
	list, err := collect(ctx, s.DB(), scan, `SELECT name, holder, purpose, expires FROM leases
		WHERE expires > `+s.Dialect().NowMS()+` ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("cannot list leases: %w", err)
	}
	return list, nil
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
