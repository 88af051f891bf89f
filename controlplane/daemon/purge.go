package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/store"
)

const purgeLease = "purge"

// purge removes what tenants no longer keep and what no process needs any more, every so often until the control plane ends. A lease
// has one host do it for all.
func (d *Daemon) purge() {
	ticker := time.NewTicker(max(d.cfg.Duration("purge.every"), 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-ticker.C:
			d.purgeOnce()
		}
	}
}

func (d *Daemon) purgeOnce() {
	claim := store.LeaseClaim{Name: purgeLease, Holder: d.holder(purgeLease), Purpose: "removing old messages", TTL: leaseTTL}
	st := d.Store()
	asking, cancel := asking(d.ctx)
	err := st.AcquireLease(asking, claim)
	cancel()
	if errors.As(err, new(*store.LeaseHeldError)) {
		return
	}
	var done chatlog.Purged
	if err == nil {
		done, err = d.purgeUnder(st, claim)
	}
	switch {
	case d.ctx.Err() != nil:
	case err != nil:
		d.log.Warn("what is old is not all removed; it will be tried again", "messages", done.Messages, "error", err)
	case done != chatlog.Purged{}:
		d.log.Info("what was old is removed", "messages", done.Messages, "deleted channels", done.Channels, "changes", done.Changes)
	}
}

// purgeUnder keeps the lease meanwhile, and ends with it.
func (d *Daemon) purgeUnder(st *store.Store, claim store.LeaseClaim) (chatlog.Purged, error) {
	ctx, lost := context.WithCancelCause(d.ctx)
	defer lost(nil)
	d.work.Go(func() { d.keepLease(ctx, claim.Name, claim.Holder, lost) })
	done, err := chatlog.Purge(ctx, st)
	if cause := context.Cause(ctx); cause != nil {
		return done, cause
	}
	releasing, cancel := asking(d.ctx)
	defer cancel()
	d.logError("release the lease", st.ReleaseLease(releasing, claim.Name, claim.Holder))
	return done, err
}
