package chatlog

import (
	"context"
	"fmt"
	"strings"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

// Bounds of a sample.
const (
	maxSample         = 5000
	maxSampleChannels = 20
	maxSampleBytes    = 4 << 20
	samplePage        = 500 // messages in memory at a time: one may have half a MiB
)

// Sample returns the texts of recent messages of a tenant's users, from its channels that were active last (of the given
// kinds; none: of all). Each channel gets the same share of at most 5,000 messages and 4 MiB in all.
func Sample(ctx context.Context, st *store.Store, tenant string, kinds ...string) ([]string, error) {
	heads, err := sampleChannels(ctx, st, tenant, kinds)
	if err != nil {
		return nil, fmt.Errorf("cannot sample the log of tenant %q: %w", tenant, store.Wrap(err))
	}
	var texts []string
	for i, h := range heads {
		left := len(heads) - i // what a quiet channel does not use goes to the next ones
		s := sampler{messages: (maxSample - len(texts)) / left, bytes: maxSampleBytes / len(heads)}
		if err := s.read(ctx, reader{st: st, head: h, unreadable: func(int64, int64, error) {}}); err != nil {
			return nil, err
		}
		texts = append(texts, s.texts...)
	}
	return texts, nil
}

func sampleChannels(ctx context.Context, st *store.Store, tenant string, kinds []string) ([]Head, error) {
	query := `SELECT pk, tenant, id, epoch, first, head FROM channels WHERE tenant = ? AND deleted_at IS NULL AND head >= first`
	args := []any{tenant}
	if len(kinds) > 0 {
		query += ` AND kind IN (?` + strings.Repeat(`, ?`, len(kinds)-1) + `)`
		for _, kind := range kinds {
			args = append(args, kind)
		}
	}
	return readHeads(ctx, st, query+` ORDER BY moved_at DESC, pk DESC LIMIT ?`, append(args, maxSampleChannels))
}

// sampler takes texts of one channel until it has as many messages, or as many bytes, as it may.
type sampler struct {
	messages, bytes int
	texts           []string
}

func (s *sampler) read(ctx context.Context, r reader) error {
	for before := r.head.Seq + 1; s.messages > 0 && s.bytes > 0; {
		page, err := r.messages(ctx, `seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?`, r.head.First, before, min(samplePage, s.messages))
		if err != nil || len(page) == 0 {
			return err
		}
		before = page[len(page)-1].Seq
		for _, e := range page {
			s.take(e)
		}
	}
	return nil
}

// take counts what is no user's text as well: a log of nothing else is read in bounded time.
func (s *sampler) take(e *envelope.Envelope) {
	s.messages--
	if e.Kind != envelope.Say || e.Text == "" || s.bytes < len(e.Text) {
		return
	}
	s.bytes -= len(e.Text)
	s.texts = append(s.texts, e.Text)
}
