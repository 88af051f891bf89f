package chat

import (
	"context"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

const (
	presenceTick  = 100 * time.Millisecond // joins and leaves of this long go out together
	leaveAfter    = time.Second            // a leave that is followed by a join within this never happened
	goneAfter     = 5 * time.Second        // a process whose nick is gone for this long is dead
	announceAfter = time.Second            // processes that meet come in groups
	meetFor       = 700 * time.Millisecond // how long a process that has just come into a channel waits to be greeted
	greeting      = "here"                 // text of a join that is no news: the user was there when the receiver came
	presenceMax   = 1000                   // users of a channel above which nobody is told who comes and goes
)

// presence tells who is in a channel: one event per user and channel, however many connections and processes the user is on. Each
// process publishes its own users' coming and going, and tells its clients what all of them add up to. Nothing of it is logged.
type presence struct {
	origin  string
	publish func(*envelope.Envelope)
	deliver func(*envelope.Envelope)

	mu       sync.Mutex
	rooms    map[channelKey]map[string]*presentUser
	dirty    map[memberKey]struct{} // whose state and what was told of it differ
	announce time.Time              // when to tell everyone who is here, zero for not at all
	dead     map[string]time.Time   // origins whose nick has gone, since when
	lost     map[string]struct{}    // nicks that have gone and not come back

	met   map[channelKey]time.Time // channels that this process has just come into, until when its own users are no news there
	greet map[channelKey]struct{}  // channels that another process has just come into, which is to be told who is there
}

type presentUser struct {
	name   string
	here   int                  // sessions of this process
	since  time.Time            // when here last became zero or stopped being it
	told   bool                 // the other processes believe the user to be here
	shown  bool                 // this process's clients believe the user to be in the channel
	others map[string]time.Time // other processes that the user is on, and when they last said so
}

func newPresence(origin string, publish, deliver func(*envelope.Envelope)) *presence {
	return &presence{
		origin: origin, publish: publish, deliver: deliver,
		rooms: map[channelKey]map[string]*presentUser{},
		dirty: map[memberKey]struct{}{},
		dead:  map[string]time.Time{},
		lost:  map[string]struct{}{},
		met:   map[channelKey]time.Time{},
		greet: map[channelKey]struct{}{},
	}
}

// entered notes that a session of the user joined the channel.
func (p *presence) entered(tenant, channel, user, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key := (channelKey{tenant, channel}); p.rooms[key] == nil {
		p.met[key] = time.Now().Add(meetFor)
	}
	u := p.userLocked(tenant, channel, user)
	u.name = name
	u.here++
	if u.here == 1 {
		u.since = time.Now()
		p.dirty[memberKey{tenant, channel, user}] = struct{}{}
	}
}

// left notes that a session of the user is no longer in the channel.
func (p *presence) left(tenant, channel, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.rooms[channelKey{tenant, channel}][user]
	if u == nil || u.here == 0 {
		return
	}
	u.here--
	if u.here == 0 {
		u.since = time.Now()
		p.dirty[memberKey{tenant, channel, user}] = struct{}{}
	}
}

// remote takes what another process says of its users.
func (p *presence) remote(e *envelope.Envelope) {
	if e.Origin == p.origin {
		return
	}
	p.mu.Lock()
	users := p.rooms[channelKey{e.Tenant, e.Channel}]
	if users == nil { // nobody here is in that channel
		p.mu.Unlock()
		return
	}
	key := channelKey{e.Tenant, e.Channel}
	silent := e.Text == greeting && time.Now().Before(p.met[key])
	var show bool
	if e.Kind == envelope.Join {
		if p.newcomerLocked(users, e.Origin) {
			p.greet[key] = struct{}{}
		}
		u := p.userLocked(e.Tenant, e.Channel, e.User)
		u.name = e.Name
		if u.others == nil {
			u.others = map[string]time.Time{}
		}
		u.others[e.Origin] = time.Now()
		show = p.showLocked(e.Tenant, e.Channel, e.User, u)
	} else if u := users[e.User]; u != nil {
		delete(u.others, e.Origin)
		show = p.showLocked(e.Tenant, e.Channel, e.User, u)
	}
	p.mu.Unlock()
	if show && !silent {
		news := e.Clone()
		news.Text = ""
		p.deliver(news)
	}
}

// newcomerLocked reports whether a process has only now come into a channel, as the first client that moves to a new build brings it
// there: told who is in it, it does not take those who move later for new. One that was held for dead is told when it is back.
func (p *presence) newcomerLocked(users map[string]*presentUser, origin string) bool {
	if _, lost := p.lost[Nick(origin)]; lost || len(users) > presenceMax {
		return false
	}
	for _, u := range users {
		if _, known := u.others[origin]; known {
			return false
		}
	}
	return true
}

// gone notes that another process's bus nick left the network. If it is back in time it says again who is there.
func (p *presence) gone(nick string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead[nick] = time.Now()
	p.lost[nick] = struct{}{}
}

// here notes that a process is on the network. One that is back after a split, where the others held us for dead as we did them,
// is told again who is here; one that is new has no clients yet who could want to know.
func (p *presence) here(nick string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, back := p.lost[nick]; back {
		delete(p.lost, nick)
		p.announceSoonLocked()
	}
}

// forget drops what others said about a channel that nobody here is subscribed to any more.
func (p *presence) forget(tenant, channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for user, u := range p.rooms[channelKey{tenant, channel}] {
		u.others, u.shown = nil, false
		p.pruneLocked(tenant, channel, user, u)
	}
}

// announceSoon tells everyone again who is here: once for all the processes that have just met.
func (p *presence) announceSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announceSoonLocked()
}

func (p *presence) announceSoonLocked() {
	if p.announce.IsZero() {
		p.announce = time.Now().Add(announceAfter)
	}
}

func (p *presence) announceLocked(now time.Time) (events []*envelope.Envelope) {
	if p.announce.IsZero() || now.Before(p.announce) {
		return nil
	}
	p.announce = time.Time{}
	for key, users := range p.rooms {
		if len(users) > presenceMax {
			continue
		}
		for user, u := range users {
			if u.told && u.here > 0 {
				events = append(events, p.event(envelope.Join, memberKey{key.tenant, key.channel, user}, u, now))
			}
		}
	}
	return events
}

// greetLocked tells those who have just come into a channel who is there.
func (p *presence) greetLocked(now time.Time) (events []*envelope.Envelope) {
	for key := range p.greet {
		for user, u := range p.rooms[key] {
			if u.told && u.here > 0 {
				e := p.event(envelope.Join, memberKey{key.tenant, key.channel, user}, u, now)
				e.Text = greeting
				events = append(events, e)
			}
		}
	}
	clear(p.greet)
	for key, until := range p.met {
		if !now.Before(until) {
			delete(p.met, key)
		}
	}
	return events
}

func (p *presence) loop(ctx context.Context) {
	tick := time.NewTicker(presenceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p.flush(now)
		}
	}
}

// flush sends out what has settled.
func (p *presence) flush(now time.Time) {
	var show []*envelope.Envelope
	p.mu.Lock()
	tell := append(p.announceLocked(now), p.greetLocked(now)...)
	for key := range p.dirty {
		room := p.rooms[channelKey{key.tenant, key.channel}]
		u := room[key.user]
		if u == nil {
			delete(p.dirty, key)
			continue
		}
		if u.here == 0 && u.told && now.Sub(u.since) < leaveAfter {
			continue
		}
		_, listening := p.met[channelKey{key.tenant, key.channel}]
		if !listening {
			delete(p.dirty, key)
		}
		quiet := len(room) > presenceMax
		if here := u.here > 0; here != u.told {
			u.told = here
			if !quiet {
				tell = append(tell, p.event(kindOf(here), key, u, now))
			}
		}
		if !listening && p.showLocked(key.tenant, key.channel, key.user, u) && !quiet {
			show = append(show, p.event(kindOf(u.shown), key, u, now))
		}
	}
	show = append(show, p.buryLocked(now)...)
	p.mu.Unlock()
	for _, e := range tell {
		p.publish(e)
	}
	for _, e := range show {
		p.deliver(e)
	}
}

// buryLocked takes the users of dead processes out. Every process does so for its own clients, so nothing is sent.
func (p *presence) buryLocked(now time.Time) (show []*envelope.Envelope) {
	for nick, at := range p.dead {
		if now.Sub(at) < goneAfter {
			continue
		}
		delete(p.dead, nick)
		for room, users := range p.rooms {
			for user, u := range users {
				if !u.lost(nick, at) {
					continue
				}
				key := memberKey{room.tenant, room.channel, user}
				if p.showLocked(room.tenant, room.channel, user, u) {
					show = append(show, p.event(envelope.Leave, key, u, now))
				}
			}
		}
	}
	return show
}

// lost forgets that a process had the user, unless it said so again after its nick had gone.
func (u *presentUser) lost(nick string, gone time.Time) bool {
	for origin, said := range u.others {
		if Nick(origin) == nick && !said.After(gone) {
			delete(u.others, origin)
			return true
		}
	}
	return false
}

// showLocked reports whether the channel's clients must be told that the user came or went.
func (p *presence) showLocked(tenant, channel, user string, u *presentUser) bool {
	in := u.told || len(u.others) > 0
	changed := in != u.shown
	u.shown = in
	p.pruneLocked(tenant, channel, user, u)
	return changed
}

func (p *presence) userLocked(tenant, channel, user string) *presentUser {
	key := channelKey{tenant, channel}
	users := p.rooms[key]
	if users == nil {
		users = map[string]*presentUser{}
		p.rooms[key] = users
	}
	u := users[user]
	if u == nil {
		u = &presentUser{}
		users[user] = u
	}
	return u
}

func (p *presence) pruneLocked(tenant, channel, user string, u *presentUser) {
	if u.here > 0 || u.told || len(u.others) > 0 {
		return
	}
	key := channelKey{tenant, channel}
	delete(p.rooms[key], user)
	if len(p.rooms[key]) == 0 {
		delete(p.rooms, key)
	}
}

func (p *presence) event(kind string, key memberKey, u *presentUser, now time.Time) *envelope.Envelope {
	return &envelope.Envelope{
		Kind: kind, Tenant: key.tenant, Channel: key.channel, User: key.user, Name: u.name, At: now.UnixMilli(), Origin: p.origin,
	}
}

func kindOf(in bool) string {
	if in {
		return envelope.Join
	}
	return envelope.Leave
}
