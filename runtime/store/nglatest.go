package store

import (
	"context"
	"fmt"
)

// NGLatest is NGHistory of the newest revisions only, at most limit.
func (s *Store) NGLatest(ctx context.Context, tenant, list string, limit int) ([]NGRevision, error) {
	revisions, err := collect(ctx, s.DB(), scanNGRevision, `SELECT revision, author, message, at, added, removed, settings FROM ng_revisions
		WHERE tenant = ? AND list = ? ORDER BY revision DESC LIMIT ?`, tenant, list, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of NG list %q of tenant %q: %w", list, tenant, err)
	}
	return revisions, nil
}
