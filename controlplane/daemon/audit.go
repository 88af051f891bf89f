package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/store"
)

// newAudit is an entry of the audit trail for a change that is about to be made.
func newAudit(who, action, subject, message string) hostdb.Audit {
	return hostdb.Audit{ID: ulid.Make().String(), At: time.Now(), Who: who, Action: action, Subject: subject, Message: message, Result: resultOf(nil)}
}

// auditRelease is the entry of a release that has ended.
func auditRelease(f hostdb.Flight) hostdb.Audit {
	r := f.Release
	result := fmt.Sprintf("%s: release %d", r.State, r.ID)
	if r.ID == 0 {
		result = fmt.Sprintf("%s, %s", r.State, queuedText)
	}
	if r.Error != nil {
		result += ": " + firstLine(r.Error.Message)
	}
	return hostdb.Audit{ID: f.ID, At: r.FinishedAt, Who: r.Who, Action: "release", Subject: string(r.Kind) + " " + r.Version, Message: r.Message, Result: result}
}

// itself is who did what nobody asked for.
func (d *Daemon) itself() string { return "control plane of " + d.node }

// auditEnd tells the audit trail of a change that has ended.
func (d *Daemon) auditEnd(entry hostdb.Audit, err error) {
	entry.Result = resultOf(err)
	d.putAudit(entry, err)
	d.enterNow(entry)
}

// putAudit makes durable what the audit trail is owed for a change that failed. For one that went well it is since it was made.
func (d *Daemon) putAudit(entry hostdb.Audit, err error) {
	if err != nil {
		d.logError("write the audit trail", d.host.PutAudit(entry))
	}
}

// enterNow enters what host.db owes the audit trail, this entry among it, and waits a moment for that. What the shared database does not
// take now is tried again until it does.
func (d *Daemon) enterNow(entry hostdb.Audit) {
	entered := make(chan struct{})
	d.work.Go(func() {
		err := d.enterAudits(d.ctx)
		close(entered)
		if err != nil {
			d.settleLedger()
		}
	})
	d.tellAudit(entry.Who, entry.Action, entry.Subject, entry.Result, entered)
}

// enterAudits writes what host.db owes the audit trail, oldest first.
func (d *Daemon) enterAudits(ctx context.Context) error {
	d.auditMu.Lock()
	defer d.auditMu.Unlock()
	owed, err := d.host.Audits()
	if err != nil {
		return err
	}
	for _, a := range owed {
		if err := d.enterAudit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) enterAudit(ctx context.Context, a hostdb.Audit) error {
	ctx, cancel := asking(ctx)
	defer cancel()
	err := d.Store().AppendAudit(ctx, store.Audit{At: a.At, Who: a.Who, Action: a.Action, Subject: a.Subject, Message: a.Message, Result: a.Result, Node: d.node})
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.AuditEntered)
	return d.host.DeleteAudit(a.ID)
}
