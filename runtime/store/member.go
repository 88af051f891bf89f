package store

import (
	"context"
	"fmt"

	"github.com/kmsctl/kms/runtime/names"
)

// AddMember puts a user into a channel. Doing so again changes nothing. Beyond the tenant's limit it is ErrLimit.
func (s *Store) AddMember(ctx context.Context, tenant, channel, user string) error {
	err := names.User(user)
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			c, err := tx.lockChannel(tenant, channel)
			if err != nil {
				return err
			}
			err = tx.exec(`INSERT INTO members (channel_pk, user, tenant, created_at) VALUES (?, ?, ?, `+tx.dialect.NowMS()+`)`,
				c.PK, user, tenant)
			if IsDuplicate(err) {
				return nil
			}
			if err == nil {
				err = tx.membersFit(c)
			}
			if err != nil {
				return err
			}
			return tx.Change(ChangeMember, tenant, channel, user)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot add user %q to channel %q of tenant %q: %w", user, channel, tenant, err)
	}
	return nil
}

// RemoveMember takes a user out of a channel: ErrNotFound when there is no such channel or member.
func (s *Store) RemoveMember(ctx context.Context, tenant, channel, user string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		c, err := tx.lockChannel(tenant, channel)
		if err != nil {
			return err
		}
		if err := tx.mustAffect(`DELETE FROM members WHERE channel_pk = ? AND user = ?`, c.PK, user); err != nil {
			return err
		}
		return tx.Change(ChangeMember, tenant, channel, user)
	})
	if err != nil {
		return fmt.Errorf("cannot remove user %q from channel %q of tenant %q: %w", user, channel, tenant, err)
	}
	return nil
}

// Members returns the users of a channel in bytewise order: ErrNotFound when there is no such channel.
func (s *Store) Members(ctx context.Context, tenant, channel string) ([]string, error) {
	c, err := s.Channel(ctx, tenant, channel)
	if err != nil {
		return nil, err
	}
	scan := func(row scanner) (user string, err error) { return user, row.Scan(&user) }
	list, err := collect(ctx, s.DB(), scan, `SELECT user FROM members WHERE channel_pk = ? ORDER BY user`, c.PK)
	if err != nil {
		return nil, fmt.Errorf("cannot list members of channel %q of tenant %q: %w", channel, tenant, err)
	}
	return list, nil
}

// IsMember reports whether a user is in the channel with this PK.
func (s *Store) IsMember(ctx context.Context, pk int64, user string) (bool, error) {
	var n int
	err := s.DB().QueryRowContext(ctx, `SELECT COUNT(*) FROM members WHERE channel_pk = ? AND user = ?`, pk, user).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look up member %q: %w", user, Wrap(err))
	}
	return n > 0, nil
}

// ChannelsOf returns the channels that a user is a member of, by id.
func (s *Store) ChannelsOf(ctx context.Context, tenant, user string) ([]Channel, error) {
	list, err := collect(ctx, s.DB(), scanChannel, `SELECT `+channelColumns+` FROM members m JOIN channels c ON c.pk = m.channel_pk
		WHERE m.tenant = ? AND m.user = ? AND c.live = 1 ORDER BY c.id`, tenant, user)
	if err != nil {
		return nil, fmt.Errorf("cannot list channels of user %q of tenant %q: %w", user, tenant, err)
	}
	return list, nil
}
