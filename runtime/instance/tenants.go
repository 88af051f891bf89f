package instance

import (
	"context"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/names"
)

const (
	tenantsLook  = 10 * time.Second // how often the tenants are looked through
	tenantsAgain = time.Hour        // how often the same tenant is written down
)

// noteTenants writes down which tenants use this version: a version is not retired under them.
func (r *running) noteTenants(ctx context.Context) {
	noted := map[string]time.Time{}
	tick := time.NewTicker(tenantsLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, tenant := range due(r.chat.Stats().Tenants, noted, time.Now()) {
			if r.noteTenant(ctx, tenant) {
				noted[tenant] = time.Now()
			}
		}
	}
}

func (r *running) noteTenant(ctx context.Context, tenant string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := r.store.TenantSeen(ctx, r.version, tenant); err != nil {
		r.log.Warn("cannot note that a tenant uses the version", "tenant", tenant, "error", err)
		return false
	}
	return true
}

// due are the tenants seen since they were last noted, unless that is less than an hour ago. Our own probes do not hold a version.
func due(tenants []chat.TenantStats, noted map[string]time.Time, now time.Time) (list []string) {
	for _, t := range tenants {
		last := noted[t.Tenant]
		if t.Tenant != names.ProbeTenant && t.LastSeen.After(last) && now.Sub(last) >= tenantsAgain {
			list = append(list, t.Tenant)
		}
	}
	return list
}
