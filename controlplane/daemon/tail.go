package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/irclink"
	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/store"
)

// TailBus joins a link with a connection of its own and tells what travels there until ctx ends. Refused lines belong to nobody and
// are told when nothing is filtered.
func (d *Daemon) TailBus(ctx context.Context, q controlplane.BusQuery, line func(controlplane.BusLine) error) error {
	if q.Link == "" {
		link, err := d.activeLink()
		if err != nil {
			return err
		}
		q.Link = link
	}
	link, err := d.Store().Link(ctx, q.Link)
	if errors.Is(err, store.ErrNotFound) {
		return controlplane.Errorf(controlplane.NotFound, "there is no link %q", q.Link).WithHint("kmsctl irc link list")
	}
	if err != nil {
		return err
	}
	return irclink.Tail(ctx, irclink.BusLink(link), func(s bus.Seen) error {
		l := d.busLine(q, s, time.Now())
		if !wanted(q, l) {
			return nil
		}
		return line(l)
	})
}

// activeLink is the name of the link that is the bus.
func (d *Daemon) activeLink() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		if l.State == store.LinkActive {
			return l.Name, nil
		}
	}
	return "", controlplane.Errorf(controlplane.NotFound, "there is no active link").WithHint("kmsctl irc link add NAME --server HOST:PORT --active")
}

func wanted(q controlplane.BusQuery, l controlplane.BusLine) bool {
	return (q.Tenant == "" || q.Tenant == l.Tenant) && (q.Channel == "" || q.Channel == l.Channel) && (q.Version == "" || q.Version == l.Version)
}

// busLine shows what was seen. The version is known of sets on this host.
func (d *Daemon) busLine(q controlplane.BusQuery, s bus.Seen, now time.Time) controlplane.BusLine {
	l := controlplane.BusLine{At: now, Link: q.Link, Nick: s.Nick, Size: s.Size}
	if s.Refused != nil {
		l.Refused = s.Refused.Error()
		return l
	}
	e := s.Envelope
	l.Origin, l.Kind, l.Tenant, l.Channel, l.Seq, l.User = e.Origin, e.Kind, e.Tenant, e.Channel, e.Seq, e.User
	if e.At > 0 {
		l.Lag = max(0, now.Sub(time.UnixMilli(e.At)))
	}
	if parts := strings.Split(e.Origin, "/"); len(parts) == 3 {
		if set := d.setByID(parts[1]); set != nil {
			l.Version = set.Version
		}
	}
	if q.Text {
		l.Name, l.Text = e.Name, e.Text
	}
	return l
}
