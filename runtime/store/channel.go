package store

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// The kinds and histories of channels. Whoever reads another value treats it as the most restrictive: members only, no log.
const (
	KindWorld  = "world" // anyone of the tenant
	KindGuild  = "guild"
	KindDirect = "direct"

	HistoryLog  = "log"
	HistoryNone = "none" // no seq, no resume
)

// Channel is a live channel of a tenant. PK is never used again, not even for the same id; messages of its log have the seqs
// First to Head, under Epoch.
type Channel struct {
	PK                              int64
	Tenant, ID, Kind, History, Name string
	Epoch                           string
	Head, First                     int64
	CreatedAt                       time.Time
}

// CreateChannel adds a channel: ErrExists when a live one has the id, ErrLimit beyond the tenant's limit (which several processes
// that make them in the same second may exceed). Kind defaults to guild, History to log, Name to the id.
func (s *Store) CreateChannel(ctx context.Context, c Channel) (Channel, error) {
	c.Kind, c.History, c.Name = orElse(c.Kind, KindGuild), orElse(c.History, HistoryLog), orElse(c.Name, c.ID)
	c.Epoch, c.Head, c.First = newEpoch(), 0, 1
	err := firstError(names.Channel(c.ID), names.Display(c.Name), oneOf("channel kind", c.Kind, KindWorld, KindGuild, KindDirect),
		oneOf("channel history", c.History, HistoryLog, HistoryNone))
	if err == nil {
		err = s.channelFits(ctx, c.Tenant, c.ID)
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error { return tx.createChannel(&c) })
	}
	if err != nil {
		return Channel{}, fmt.Errorf("cannot create channel %q of tenant %q: %w", c.ID, c.Tenant, err)
	}
	return c, nil
}

func (tx *Tx) createChannel(c *Channel) error {
	if err := tx.holdTenant(c.Tenant); err != nil {
		return err
	}
	now, err := tx.NowMS()
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(tx.ctx, `INSERT INTO channels (tenant, id, live, kind, history, name, epoch, head, first, moved_at, created_at)
		VALUES (?, ?, 1, ?, ?, ?, ?, 0, 1, ?, ?)`, c.Tenant, c.ID, c.Kind, c.History, c.Name, c.Epoch, now, now)
	if err != nil {
		return err
	}
	c.CreatedAt = fromMS(now)
	if c.PK, err = res.LastInsertId(); err != nil {
		return err
	}
	return tx.Change(ChangeChannel, c.Tenant, c.ID, "created")
}

// Channel returns a live channel, or ErrNotFound.
func (s *Store) Channel(ctx context.Context, tenant, id string) (Channel, error) {
	c, err := scanChannel(s.DB().QueryRowContext(ctx, `SELECT `+channelColumns+` FROM channels c
		WHERE c.tenant = ? AND c.id = ? AND c.live = 1`, tenant, id))
	if err != nil {
		return Channel{}, fmt.Errorf("cannot read channel %q of tenant %q: %w", id, tenant, Wrap(err))
	}
	return c, nil
}

// Channels returns a tenant's live channels by id.
func (s *Store) Channels(ctx context.Context, tenant string) ([]Channel, error) {
	list, err := collect(ctx, s.DB(), scanChannel, `SELECT `+channelColumns+` FROM channels c
		WHERE c.tenant = ? AND c.live = 1 ORDER BY c.id`, tenant)
	if err != nil {
		return nil, fmt.Errorf("cannot list channels of tenant %q: %w", tenant, err)
	}
	return list, nil
}

// DeleteChannel ends a channel and its memberships. Its row and log stay, out of reach, until they are purged; a channel made
// with the same id later is another one.
func (s *Store) DeleteChannel(ctx context.Context, tenant, id string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		c, err := tx.lockChannel(tenant, id)
		if err != nil {
			return err
		}
		if err := tx.exec(`UPDATE channels SET live = NULL, deleted_at = `+tx.dialect.NowMS()+` WHERE pk = ?`, c.PK); err != nil {
			return err
		}
		if err := tx.exec(`DELETE FROM members WHERE channel_pk = ?`, c.PK); err != nil {
			return err
		}
		return tx.Change(ChangeChannel, tenant, id, "deleted")
	})
	if err != nil {
		return fmt.Errorf("cannot delete channel %q of tenant %q: %w", id, tenant, err)
	}
	return nil
}

// lockChannel reads a live channel and holds it until the transaction ends.
func (tx *Tx) lockChannel(tenant, id string) (Channel, error) {
	c, err := scanChannel(tx.QueryRowContext(tx.ctx, `SELECT `+channelColumns+` FROM channels c
		WHERE c.tenant = ? AND c.id = ? AND c.live = 1`+tx.dialect.ForUpdate(), tenant, id))
	return c, Wrap(err)
}

const channelColumns = `c.pk, c.tenant, c.id, c.kind, c.history, c.name, c.epoch, c.head, c.first, c.created_at`

func scanChannel(row scanner) (Channel, error) {
	var c Channel
	var created int64
	err := row.Scan(&c.PK, &c.Tenant, &c.ID, &c.Kind, &c.History, &c.Name, &c.Epoch, &c.Head, &c.First, &created)
	c.CreatedAt = fromMS(created)
	return c, err
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
