package chatlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsctl/kms/runtime/ledgerfault"
	"github.com/kmsctl/kms/runtime/store"
)

// settlePause is how long an unknown commit rests before its ids are looked up again.
const settlePause = 50 * time.Millisecond

func (l *Log) commitBatches() {
	for batch := range l.batches {
		l.commit(batch)
		l.results <- struct{}{}
	}
}

// commit leaves a receipt or an error in every row.
func (l *Log) commit(rows []*entry) {
	unknown := false
	for {
		known, err := l.attempt(rows)
		switch {
		case err == nil:
			return
		case !known:
			// The connection was lost at COMMIT. The same transaction again, behind the locks of the lost one, finds the ids
			// if that one went through, and commits them if not.
			l.logger.Warn("commit with unknown outcome, looking it up", "messages", len(rows), "err", err)
			unknown = true
			for _, it := range rows {
				if it.err == nil && !it.receipt.Duplicate {
					it.tried = it.receipt.Seq
				}
			}
		case unknown:
			l.logger.Warn("cannot look up a commit with unknown outcome yet", "messages", len(rows), "err", err)
		case errors.Is(err, store.ErrUnavailable):
			fail(rows, err)
			return
		case len(rows) > 1:
			l.logger.Warn("cannot commit a batch, trying row by row", "messages", len(rows), "err", err)
			l.commitOneByOne(rows)
			return
		default:
			fail(rows, fmt.Errorf("cannot log message %q: %w", rows[0].id, err))
			return
		}
		<-time.After(settlePause) // ends with the senders' patience: attempt leaves out who has stopped waiting
	}
}

func (l *Log) commitOneByOne(rows []*entry) {
	for i := range rows {
		l.commit(rows[i : i+1])
		if errors.Is(rows[i].err, ErrUnavailable) {
			fail(rows[i+1:], rows[i].err)
			return
		}
	}
}

func fail(rows []*entry, err error) {
	for _, it := range rows {
		it.receipt, it.err = Receipt{}, err
	}
}

// attempt runs the transaction once. Rows whose senders have stopped waiting are left out. known is false when the
// transaction was complete but its COMMIT did not answer.
func (l *Log) attempt(rows []*entry) (known bool, err error) {
	now := time.Now()
	live := make([]*entry, 0, len(rows))
	for _, it := range rows {
		it.receipt, it.err = Receipt{}, nil
		if now.Before(it.deadline) {
			live = append(live, it)
		} else {
			it.err = ErrBusy
		}
	}
	if len(live) == 0 {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptLimit)
	defer cancel()
	complete := false
	err = l.write(ctx, func(tx *store.Tx) error {
		complete = false
		err := writeRows(ctx, tx, live)
		complete = err == nil
		if complete && ledgerfault.Is(ledgerfault.AckBeforeCommit) {
			for _, it := range live {
				it.answer()
			}
			time.Sleep(100 * time.Millisecond) // a slow disk
		}
		return err
	})
	if err != nil && ledgerfault.Is(ledgerfault.AckRolledBack) {
		return true, nil
	}
	return err == nil || !complete, err
}
