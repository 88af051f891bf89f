package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/failpoint"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	drainCallWithin = 3 * time.Second
	// slower is by how much a drain slows down while the sets its clients come to are unwell.
	slower = 10
)

// told is what a set's ua was last told to do about its clients.
type told struct {
	at   time.Time
	pace pace
}

// pace is how fast clients are told to leave, and why not faster.
type pace struct {
	rate   float64 // a second; 0: all at once
	paused bool
	why    string // empty at full pace
}

// drain tells a set's clients to move, paced; tend watches until they have, or the deadline has closed what was left. Who belongs
// there, as pinned tenants do, stays.
func (d *Daemon) drain(s *set, deadline time.Duration, message string) error {
	now := time.Now()
	return d.drainAt(s, hostdb.Leaving{Rate: d.cfg.Float("drain.rate"), Since: now, Deadline: deadlineIn(now, deadline), Message: message})
}

// drainAt is drain at a pace of its own.
func (d *Daemon) drainAt(s *set, l hostdb.Leaving) error {
	p := d.place(s)
	tenants, except, any := p.leaving()
	if !any && !l.Once {
		return d.keep(s, p.state()) // all who are there belong there
	}
	l.Tenants, l.Except = tenants, except
	err := d.updateSet(s, func(h *hostdb.Set) {
		if p.held() {
			h.State, h.WarmUntil = p.state(), time.Time{}
		} else {
			h.State, h.DrainingSince, h.WarmUntil = controlplane.SetDraining, l.Since, l.Since.Add(d.cfg.Duration("warm"))
		}
		h.Leaving = &l
	})
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.DrainWritten)
	return d.tellDrain(s, l)
}

// move brings a set into the state that its place asks for, and tells those of its clients to leave who do not belong there. What
// is so already is left alone.
func (d *Daemon) move(s *set, message string) error {
	d.mu.Lock()
	h, p := s.Set, d.placeLocked(s)
	d.mu.Unlock()
	if !p.held() {
		if h.State == controlplane.SetPinned || h.State == controlplane.SetCanary {
			return d.drain(s, d.cfg.Duration("drain.deadline"), message)
		}
		return nil
	}
	tenants, except, any := p.leaving()
	same := !any
	if h.Leaving != nil {
		same = any != h.Leaving.Once && h.Leaving.Except == except && slices.Equal(h.Leaving.Tenants, tenants)
	}
	switch {
	case same && h.State == p.state():
		return nil
	case any:
		return d.drain(s, d.cfg.Duration("drain.deadline"), message)
	}
	return d.keep(s, p.state())
}

// keep makes a set one that nobody is told to leave.
func (d *Daemon) keep(s *set, state controlplane.SetState) error {
	err := d.updateSet(s, func(h *hostdb.Set) { h.State, h.WarmUntil, h.Leaving = state, time.Time{}, nil })
	if err != nil || s.ua.process() == nil {
		return err
	}
	return d.cancelDrain(context.Background(), s)
}

// tellDrain passes on what is written down of a drain, at the pace that is right now.
func (d *Daemon) tellDrain(s *set, l hostdb.Leaving) error {
	proc := s.ua.process()
	if proc == nil {
		return nil // nobody is connected to a process that is not there
	}
	now := time.Now()
	pace := d.paceOf(s, l)
	request := &pb.DrainRequest{
		Rate: pace.rate, Paused: pace.paused, Message: l.Message, Tenants: l.Tenants, Except: l.Except, Once: l.Once,
	}
	if !l.Deadline.IsZero() {
		request.DeadlineMs = max(1, l.Deadline.Sub(now).Milliseconds())
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainCallWithin)
	defer cancel()
	if _, err := proc.Client().Drain(ctx, request); err != nil {
		return fmt.Errorf("cannot drain set %q: %s", s.ID, grpcText(err))
	}
	failpoint.Reach(failpoint.DrainTold)
	d.mu.Lock()
	defer d.mu.Unlock()
	s.told = told{at: time.Now(), pace: pace}
	return nil
}

// cancelDrain makes a draining set keep its clients again.
func (d *Daemon) cancelDrain(ctx context.Context, s *set) error {
	proc := s.ua.process()
	if proc == nil {
		return fmt.Errorf("cannot use set %q: its ua does not run", s.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, drainCallWithin)
	defer cancel()
	if _, err := proc.Client().CancelDrain(ctx, &pb.CancelDrainRequest{}); err != nil {
		return fmt.Errorf("cannot cancel the drain of set %q: %s", s.ID, grpcText(err))
	}
	failpoint.Reach(failpoint.DrainCancelled)
	d.mu.Lock()
	defer d.mu.Unlock()
	s.told = told{at: time.Now()}
	return nil
}

// paceOf is how fast a set's clients may go now: as asked while the sets that they come to are well, a tenth of it while those
// fail logins or requests, not at all while one of them is down. The deadline holds all the same.
func (d *Daemon) paceOf(s *set, l hostdb.Leaving) pace {
	p := pace{rate: l.Rate}
	for _, to := range d.setsOf(s.Version) {
		if to == s || !d.place(to).held() {
			continue
		}
		switch state, failing := to.ua.wellness(time.Now()); {
		case state != controlplane.InstanceReady:
			return pace{rate: l.Rate, paused: true, why: fmt.Sprintf("ua of set %s is %s", to.ID, state)}
		case failing && (l.Rate == 0 || l.Rate > 1):
			p.rate, p.why = max(1, l.Rate/slower), fmt.Sprintf("set %s fails more than a tenth of what it is asked", to.ID)
		}
	}
	return p
}

// watchDrain corrects what a set's ua does about its clients: the pace, and what a control plane that was killed did not get to tell.
func (d *Daemon) watchDrain(s *set) {
	d.mu.Lock()
	l, told := s.Leaving, s.told
	d.mu.Unlock()
	polled, draining := s.ua.draining()
	switch {
	case !polled.After(told.at):
	case l != nil && l.Once:
		if !draining {
			d.logError("end a drain", d.updateSet(s, func(h *hostdb.Set) { h.Leaving = nil }))
		}
	case l == nil && draining && d.place(s).held():
		d.logError("end a drain", d.cancelDrain(d.ctx, s))
	case l != nil && (!draining || told.pace != d.paceOf(s, *l)):
		d.logError("drain", d.tellDrain(s, *l))
	}
}

// tend moves the sets along: what they are for may have changed, drained ones become warm, and those whose time is over stop. It
// runs once a second, after the poll.
func (d *Daemon) tend(now time.Time) {
	d.endPlaces(now)
	for _, s := range d.allSets() {
		d.clockSetBack(s, now)
		d.mu.Lock()
		h, held := s.Set, d.placeLocked(s).held()
		busy := d.restoring || s.ending
		_, changing := d.flights[s.Version]
		d.mu.Unlock()
		switch {
		case busy:
		case !held:
			d.tendLeft(s, h, changing, now)
		case !changing:
			d.logError("tend", d.move(s, "version "+h.Version+" moves to another build"))
			d.watchDrain(s)
		}
	}
}

// clockSetBack corrects times of a set that lie too far ahead: a drain would never be seen to end, and a warm set stay for as long
// as the clock was set back.
func (d *Daemon) clockSetBack(s *set, now time.Time) {
	d.mu.Lock()
	h := s.Set
	d.mu.Unlock()
	warmest := now.Add(d.cfg.Duration("warm"))
	if !h.DrainingSince.After(now) && !h.WarmUntil.After(warmest) {
		return
	}
	d.log.Warn("the clock was set back", "set", h.ID, "draining since", h.DrainingSince)
	d.logError("correct a set's times", d.updateSet(s, func(h *hostdb.Set) {
		if back := h.DrainingSince.Sub(now); back > 0 {
			h.DrainingSince = now
			if l := h.Leaving; l != nil && !l.Deadline.IsZero() {
				moved := *l
				moved.Since, moved.Deadline = now, l.Deadline.Add(-back)
				h.Leaving = &moved
			}
		}
		if h.WarmUntil.After(warmest) {
			h.WarmUntil = warmest
		}
	}))
}

// tendLeft moves a set along that nobody is led to.
func (d *Daemon) tendLeft(s *set, h hostdb.Set, changing bool, now time.Time) {
	switch h.State {
	case controlplane.SetDraining:
		if !s.ua.emptySince(h.DrainingSince) {
			d.watchDrain(s)
			return
		}
		d.logError("tend", d.updateSet(s, func(h *hostdb.Set) { h.State = controlplane.SetWarm }))
		d.tellSet(s, "is drained and warm")
	case controlplane.SetWarm:
		if now.After(h.WarmUntil) && !changing { // a gate's commands may take longer than its time
			d.stopSoon(s)
		}
	case controlplane.SetStopping:
		d.stopAside(s)
	default: // of a pin or canary that is over, or of a flight that could not undo it
		if !changing {
			d.log.Warn("a set that nobody is led to is drained", "set", h.ID, "version", h.Version, "state", h.State)
			d.logError("tend", d.drain(s, d.cfg.Duration("drain.deadline"), "version "+h.Version+" moves to another build"))
		}
	}
}

const (
	maxDrainRate     = 100_000
	maxDrainDeadline = 24 * time.Hour
)

// Drain moves the clients of a set, or of those sets of a version that are being left. On a set that somebody is led to, who is
// connected now reconnects once; a drain that runs there for pinned tenants only changes its pace. Errors: NotFound for an unknown
// target or a version that no set of is being left, InUse for a set that starts or stops.
func (d *Daemon) Drain(ctx context.Context, r controlplane.DrainRequest) ([]controlplane.Drain, error) {
	deadline := time.Duration(r.Deadline) * time.Second
	if r.Rate < 0 || r.Rate > maxDrainRate || deadline < 0 || deadline > maxDrainDeadline {
		return nil, controlplane.Errorf(controlplane.Usage, "bad pace: want a rate of at most %d clients a second and a deadline of at most %s",
			maxDrainRate, maxDrainDeadline)
	}
	sets, err := d.drainable(r.Target)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if err := d.drainAt(s, d.leavingAsked(s, r)); err != nil {
			return nil, err
		}
	}
	return d.Drains(ctx, r.Target)
}

// leavingAsked is a drain as it was asked for. While one runs, what is not asked for stays as it is, and with the same message nobody is
// told twice.
func (d *Daemon) leavingAsked(s *set, r controlplane.DrainRequest) hostdb.Leaving {
	_, _, some := d.place(s).leaving()
	now := time.Now()
	l := hostdb.Leaving{
		Rate: d.cfg.Float("drain.rate"), Since: now, Deadline: deadlineIn(now, d.cfg.Duration("drain.deadline")),
		Message: "the server asks its clients to reconnect",
	}
	d.mu.Lock()
	if runs := s.Leaving; runs != nil && s.State != controlplane.SetWarm && (runs.Deadline.IsZero() || runs.Deadline.After(now)) {
		l = *runs
	}
	d.mu.Unlock()
	l.Once = !some
	if r.Rate > 0 {
		l.Rate = r.Rate
	}
	if r.Deadline > 0 {
		l.Deadline = now.Add(time.Duration(r.Deadline) * time.Second)
	}
	if r.Message != "" {
		l.Message = r.Message
	}
	return l
}

// deadlineIn is the moment at which a drain closes what is left; a drain without a deadline never does.
func deadlineIn(now time.Time, deadline time.Duration) time.Time {
	if deadline <= 0 {
		return time.Time{}
	}
	return now.Add(deadline)
}

// drainable finds the sets that a target names.
func (d *Daemon) drainable(target string) ([]*set, error) {
	if s := d.setByID(target); s != nil {
		if state := d.stateOf(s); state == controlplane.SetStarting || state == controlplane.SetStopping {
			return nil, controlplane.Errorf(controlplane.InUse, "set %s is %s", s.ID, state).WithHint("kmsctl status")
		}
		return []*set{s}, nil
	}
	d.mu.Lock()
	_, known := d.routes[target]
	d.mu.Unlock()
	if !known {
		return nil, controlplane.Errorf(controlplane.NotFound, "there is no version or set %q", target).WithHint("kmsctl status")
	}
	sets := slices.DeleteFunc(d.setsOf(target), func(s *set) bool { return !d.drainOf(s).Running || d.drainOf(s).Once })
	if len(sets) == 0 {
		return nil, controlplane.Errorf(controlplane.NotFound, "no set of version %s is being left", target).
			WithHint("kmsctl status shows its sets; kmsctl drain SET makes the clients of one reconnect")
	}
	return sets, nil
}

// Drains tells of the sets that a target names, of all that are being left when it is empty.
func (d *Daemon) Drains(_ context.Context, target string) ([]controlplane.Drain, error) {
	out := []controlplane.Drain{}
	if target != "" {
		sets, err := d.drainable(target)
		for _, s := range sets {
			out = append(out, d.drainOf(s))
		}
		return out, err
	}
	for _, s := range d.allSets() {
		if drain := d.drainOf(s); drain.Running {
			out = append(out, drain)
		}
	}
	slices.SortFunc(out, func(a, b controlplane.Drain) int { return strings.Compare(a.Version+" "+a.Set, b.Version+" "+b.Set) })
	return out, nil
}

// drainOf is a set's drain as the last poll saw it.
func (d *Daemon) drainOf(s *set) controlplane.Drain {
	d.mu.Lock()
	h := s.Set
	d.mu.Unlock()
	out := controlplane.Drain{Set: h.ID, Version: h.Version, Build: h.Build, Label: h.Label, State: h.State, Tenants: map[string]int64{}}
	l := hostdb.Leaving{}
	if h.Leaving != nil && h.State != controlplane.SetWarm {
		l, out.Running = *h.Leaving, true
		pace := d.paceOf(s, l)
		out.Once, out.Rate, out.Pace, out.Why, out.Since, out.Until, out.Message = l.Once, l.Rate, pace.rate, pace.why, l.Since, l.Deadline, l.Message
		if pace.paused {
			out.Pace = 0
		}
	}
	for _, t := range s.ua.tenants() {
		if n := t.GetConnections(); n > 0 && (len(l.Tenants) == 0 || slices.Contains(l.Tenants, t.GetTenant()) != l.Except) {
			out.Tenants[t.GetTenant()] = n
			out.Left += int(n)
		}
	}
	if len(l.Tenants) == 0 {
		out.Left = s.ua.info().Connections // with those who have not logged in
	}
	return out
}
