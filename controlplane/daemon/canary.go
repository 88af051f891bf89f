package daemon

// dropCanary ends a canary: its users are led to the stable set, and its clients move there.
func (d *Daemon) dropCanary(version, message string) error {
	if err := d.host.DeleteCanary(version); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.canaries, version)
	d.mu.Unlock()
	return d.rearrange(version, message)
}
