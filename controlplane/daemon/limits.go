package daemon

import "context"

// Limited sums up what a tenant's limits refused in the processes of this host, by the limit's name.
func (d *Daemon) Limited(_ context.Context, tenant string) (map[string]int64, error) {
	refused := map[string]int64{}
	for _, s := range d.allSets() {
		for _, in := range s.instances() {
			for _, t := range in.tenants() {
				if t.GetTenant() != tenant {
					continue
				}
				for name, n := range t.GetLimitedTotal() {
					refused[name] += n
				}
			}
		}
	}
	return refused, nil
}
