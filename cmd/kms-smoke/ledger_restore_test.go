package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/runtime/store"
)

// TestLedger_restore has the users of the ledger chat while a backup is made, after it, and while it is restored, and holds what they
// wrote down against the log that the restore has left. Then it kills the control plane in the middle of further restores.
func TestLedger_restore(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sqlite", "mysql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			runLedger(t, ledgerOptions{store: kind, seed: fixedSeed, steps: restoreSteps, calm: true, afterwards: killRestores})
		})
	}
}

// What was removed is in no backup.
var restoreSteps = []step{
	{time.Second, "purge", "plaza", 0}, {time.Second, "backup", "store", 0}, {1500 * time.Millisecond, "restore", "store", 0}, {2 * time.Second, "reload", "nginx", 0},
}

// restoration is what is known of a run's restore.
type restoration struct {
	backup time.Time // everything acknowledged by then is in the backup
	began  time.Time // what the log has from before then came with the backup
	ended  time.Time
}

func (c *chaos) backupFile() string { return c.path("ledger.backup") }

func (c *chaos) backup(ctx context.Context) error {
	at := time.Now()
	_, err := c.must(ctx, nil, "backup", c.backupFile(), "--message", "ledger")
	c.book.note(func() { c.book.backup = at })
	return err
}

func (c *chaos) restore(ctx context.Context) error {
	c.book.note(func() { c.book.restored = &restoration{backup: c.book.backup, began: time.Now()} })
	_, err := c.must(ctx, nil, "restore", c.backupFile(), "--yes", "--message", "ledger")
	c.book.note(func() { c.book.restored.ended = time.Now() })
	return err
}

// settleRestore is settleAccounts for a run with a restore: what was told in the epochs before it may be gone, but names the same
// messages for everybody, and nobody goes on in them.
func settleRestore(b *book, log map[string][]logRow, places []*place) *account {
	a := &account{book: b, log: b.whole(log), byID: map[string]logRow{}, byText: map[string]logRow{}}
	a.index()
	for _, channel := range sortedKeys(log) {
		a.channel(channel)
	}
	for _, s := range b.sent {
		if a.outlasts(s) {
			a.answer(s)
		}
	}
	a.agree(places)
	for _, p := range places {
		a.endOf(p)
	}
	for _, s := range b.stretchs {
		switch {
		case s.channel == unlogged:
			a.shouts(s)
		case s.version == "1.0" && s.began.After(b.restored.ended):
			a.stretch(s)
		}
	}
	a.closes()
	return a
}

// outlasts: what was acknowledged between the backup and the restore is gone, or was in the backup after all.
func (a *account) outlasts(s *sending) bool {
	return s.acked.IsZero() || s.acked.Before(a.restored.backup) || s.acked.After(a.restored.ended) || s.epoch == a.epoch(s.channel) && s.epoch != ""
}

// cameBack: what was told in an epoch before is in the log under the new one.
func (a *account) cameBack(s *sending) bool {
	return a.restored != nil && s.acked.Before(a.restored.ended)
}

// epoch is the one in force in the end.
func (a *account) epoch(channel string) string {
	if rows := a.log[channel]; len(rows) > 0 {
		return rows[len(rows)-1].epoch
	}
	return ""
}

// agree: a place in the log, in whichever epoch, is one message's for everybody who was told of it.
func (a *account) agree(places []*place) {
	type spot struct {
		channel string
		position
	}
	told := map[spot]string{}
	tell := func(v violation, epoch string) {
		at := spot{v.channel, position{epoch, v.seq}}
		if first, known := told[at]; known && first != v.id {
			v.what = fmt.Sprintf("%s %d is %s here and %s elsewhere", epoch, v.seq, v.id, first)
			a.wrong = append(a.wrong, v)
			return
		}
		told[at] = v.id
	}
	for channel, rows := range a.log {
		for _, row := range rows[len(a.removed[channel]):] {
			tell(violation{at: row.at, who: "the log", channel: channel, seq: row.seq, id: row.id}, row.epoch)
		}
	}
	for _, s := range a.sent {
		if s.seq > 0 {
			tell(violation{at: s.acked, who: s.who, channel: s.channel, seq: s.seq, id: s.id}, s.epoch)
		}
	}
	for _, p := range places {
		for _, got := range p.got {
			tell(violation{at: got.at, who: p.who, channel: p.channel, seq: got.seq, id: got.id}, p.Epoch)
		}
	}
}

// endOf: whoever was there before the restore was told of it, and has the log from there to its head.
func (a *account) endOf(p *place) {
	switch {
	case p.Epoch == a.epoch(p.channel):
		a.place(p)
	case !p.cut:
		a.wrong = append(a.wrong, violation{at: a.restored.ended, who: p.who, channel: p.channel, seq: p.Seq,
			what: fmt.Sprintf("still in epoch %s, the log is in %s", p.Epoch, a.epoch(p.channel))})
	}
	if p.Epoch == a.epoch(p.channel) && len(p.got) > 0 && p.got[0].at.Before(a.restored.began) {
		a.wrong = append(a.wrong, violation{at: p.got[0].at, who: p.who, channel: p.channel, seq: p.got[0].seq, what: "the epoch is that of before the restore"})
	}
}

// theAbsent holds that whoever was away while messages were removed, and only he, heard so.
func (r *ledgerRun) theAbsent(t *testing.T) {
	for _, told := range r.truncations {
		if told.kept.First > 1 && told.channel == "plaza" && told.who == r.chaos.sleeper.name {
			return
		}
	}
	t.Errorf("nobody heard of the messages that were removed: %+v", r.truncations)
}

// killRestores restores the backup twice more, each time killing the control plane on the way: the next one does the rest. Everybody
// has left.
func killRestores(t *testing.T, ctx context.Context, r *ledgerRun, log map[string][]logRow) {
	r.theAbsent(t)
	kept := map[string][]string{}
	for channel, rows := range log {
		for _, row := range rows {
			if row.at.Before(r.restored.began) {
				kept[channel] = append(kept[channel], row.id)
			}
		}
	}
	for _, point := range []string{failpoint.RestoreWritten, failpoint.StoreReplaced} {
		must(t, r.killRestore(ctx, point))
		_, err := r.awaitHealthy(ctx)
		must(t, err)
		now, err := readLog(ctx, r.storeURL(), ledgerChannels)
		must(t, err)
		for channel, ids := range kept {
			var got []string
			for _, row := range now[channel] {
				got = append(got, row.id)
			}
			if !slices.Equal(got, ids) {
				t.Errorf("killed at %q: channel %s has %d messages, the backup has %d", point, channel, len(got), len(ids))
			} else if len(ids) > 0 && now[channel][0].epoch == log[channel][0].epoch {
				t.Errorf("killed at %q: channel %s has the epoch of before", point, channel)
			}
		}
		log = now
	}
}

// killRestore has the control plane die at a point of a restore, and starts another.
func (r *ledgerRun) killRestore(ctx context.Context, point string) error {
	if err := os.WriteFile(r.failpoint, []byte(point), 0o600); err != nil {
		return err
	}
	done, err := r.kmsctl(ctx, "restore", r.chaos.backupFile(), "--yes")
	if err != nil {
		return err
	}
	if done.code == 0 {
		return fmt.Errorf("the restore ended before it came to %q", point)
	}
	select {
	case <-r.up.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.halve(ctx); err != nil {
		return err
	}
	return errors.Join(os.Remove(r.failpoint), r.start(ctx, "up"))
}

// halve leaves MySQL as it is in the middle of a dump's replay: tables are there or not.
func (r *ledgerRun) halve(ctx context.Context) error {
	if r.chaos.mysql == nil {
		return nil
	}
	st, err := store.Open(ctx, r.storeURL(), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	_, err = st.DB().ExecContext(ctx, "DROP TABLE messages, channels, tenants")
	return err
}
