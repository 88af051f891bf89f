package store

import (
	"context"
	"fmt"
	"time"
)

// Node is a host with its own control plane. SeenAt is when it last said so, by the database's clock.
type Node struct {
	ID, Host string
	SeenAt   time.Time
}

// PutNode says that a node is there, now.
func (s *Store) PutNode(ctx context.Context, n Node) error {
	err := s.Write(ctx, func(tx *Tx) error {
		now, err := tx.NowMS()
		if err != nil {
			return err
		}
		return tx.exec(tx.dialect.upsert("nodes", "id", "host seen_at"), n.ID, clip(n.Host, 255), now)
	})
	if err != nil {
		return fmt.Errorf("cannot store node %q: %w", n.ID, err)
	}
	return nil
}

// Nodes returns all nodes by id.
func (s *Store) Nodes(ctx context.Context) ([]Node, error) {
	scan := func(row scanner) (Node, error) {
		var n Node
		var seen int64
		err := row.Scan(&n.ID, &n.Host, &seen)
		n.SeenAt = fromMS(seen)
		return n, err
	}
	list, err := collect(ctx, s.DB(), scan, `SELECT id, host, seen_at FROM nodes ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("cannot list nodes: %w", err)
	}
	return list, nil
}
