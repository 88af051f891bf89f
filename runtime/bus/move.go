package bus

import (
	"context"
	"time"
)

// mover takes the bus from one network to the next. Its goroutine alone starts and stops networks after Open.
type mover struct {
	b      *Bus
	next   *network  // joined, not yet spoken on
	since  time.Time // next has been up without a break; zero: it is not
	old    []*network
	oldEnd []time.Time
}

// run owns the networks until ctx ends.
func (b *Bus) run(ctx context.Context) {
	defer close(b.done)
	m := mover{b: b}
	ticker := time.NewTicker(b.t.tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			b.stop(m.next)
			b.stop(b.out.Load())
			for _, n := range m.old {
				b.stop(n)
			}
			b.tellState()
			return
		case link := <-b.reloads:
			m.aim(ctx, link)
		case now := <-ticker.C:
			m.step(now)
		}
	}
}

// aim makes link the network to go to.
func (m *mover) aim(ctx context.Context, link Link) {
	b := m.b
	if m.next != nil {
		if m.next.accept(link) {
			return
		}
		b.stop(m.next)
		m.next = nil
	}
	out := b.out.Load()
	if out != nil && out.accept(link) {
		return
	}
	n := b.start(ctx, link)
	switch {
	case n != nil && out == nil:
		b.out.Store(n)
	case n != nil:
		m.next, m.since = n, time.Time{}
	case out != nil && len(link.Servers) == 0 && link.Name == "": // no link is active any more
		b.out.Store(nil)
		b.stop(out)
		b.tellState()
	}
}

// step goes over to the next network once everybody had time to join it, and stops old ones once nobody speaks there. When the
// old one is down there is nothing to wait for.
func (m *mover) step(now time.Time) {
	b := m.b
	if m.next != nil && !m.next.isUp() {
		m.since = time.Time{}
	} else if m.next != nil {
		if m.since.IsZero() {
			m.since = now
		}
		out := b.out.Load()
		if !out.isUp() || now.Sub(m.since) >= b.t.settle {
			b.out.Store(m.next)
			m.old, m.oldEnd = append(m.old, out), append(m.oldEnd, now.Add(b.t.linger))
			b.log.Info("the bus speaks on another link", "link", m.next.link.Name, "before", out.link.Name)
			m.next.adopted()
			m.next = nil
			b.tellState()
		}
	}
	for len(m.old) > 0 && !now.Before(m.oldEnd[0]) {
		b.stop(m.old[0])
		m.old, m.oldEnd = m.old[1:], m.oldEnd[1:]
	}
}
