package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

const (
	inForce    = time.Second      // DESIGN 5: a change is in force everywhere
	failClosed = 10 * time.Second // and nothing is let in without the database
)

// TestChanges_inForceWithoutIRC holds each kind of change against its second, in the UA processes of both versions or in both API
// processes, made by yet another process, while the IRC server hangs: no wake-up comes. Then the database hangs, too: what was let
// in stays, nothing is let in after ten seconds, and on return all is in force that was changed meanwhile.
func TestChanges_inForceWithoutIRC(t *testing.T) {
	ctx := testContext(t, 2*time.Minute)
	db := startMariaDB(t)
	wire := testkit.NewWire(t, db.addr)
	s := testStory(t, ctx, "up", options{store: strings.Replace(db.url, db.addr, wire.Addr, 1)})
	irc := (&chaos{rig: s.rig}).pid(ctx, "irc")
	must(t, syscall.Kill(irc, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(irc, syscall.SIGCONT) })

	r := &changes{story: s, t: t, ctx: ctx}
	r.takeForce()
	r.fail(wire, db.url)
}

type changes struct {
	*story
	t   *testing.T
	ctx context.Context
}

// change is one that is about to be made. Each watch returns when it has seen the change in force.
type change struct {
	kind    string
	make    func() error
	watches []func(context.Context) (time.Time, error)
}

// takeForce makes all kinds of changes at once and again those that took too long: a busy machine may have been the reason, once.
func (r *changes) takeForce() {
	late := map[string]time.Duration{}
	for round := range 4 {
		took := r.round(round, late)
		for kind, d := range took {
			if delete(late, kind); d > inForce {
				late[kind] = d
			}
		}
		r.t.Logf("round %d: in force after %v", round+1, took)
		if len(late) == 0 {
			return
		}
	}
	r.t.Errorf("not in force within %v, in none of four rounds: %v", inForce, late)
}

// round makes the changes that were late, or all of them in the first round, and returns how long each took in the slowest process.
func (r *changes) round(n int, late map[string]time.Duration) map[string]time.Duration {
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	var all []change
	for kind, prepare := range map[string]func(string) change{
		"token revoked by the game":    r.tokenRevokedByGame,
		"token revoked by an operator": r.tokenRevokedByOperator,
		"member removed":               r.memberRemoved,
		"channel deleted":              r.channelDeleted,
		"user renamed":                 r.userRenamed,
		"NG word":                      r.ngWord,
		"key revoked":                  r.keyRevoked,
		"tenant suspended":             r.tenantSuspended,
		"limit lowered":                r.limitLowered,
		"version too old":              r.versionTooOld,
		"version deprecated":           r.versionDeprecated,
	} {
		if _, again := late[kind]; n == 0 || again {
			c := prepare(fmt.Sprint("r", n, "-", len(all)))
			c.kind = kind
			all = append(all, c)
		}
	}
	var mu sync.Mutex
	var watching sync.WaitGroup
	took := map[string]time.Duration{}
	for _, c := range all {
		var made time.Time
		done := make(chan struct{}) // made is set
		for _, watch := range c.watches {
			watching.Go(func() {
				seen, err := watch(ctx)
				<-done
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					r.t.Errorf("%s: %v", c.kind, err)
				}
				took[c.kind] = max(took[c.kind], seen.Sub(made).Round(time.Millisecond))
			})
		}
		err := c.make()
		made = time.Now()
		close(done)
		if err != nil {
			r.t.Errorf("%s: %v", c.kind, err)
		}
	}
	watching.Wait()
	return took
}

// ctl changes something with kmsctl: the control plane's process makes the change.
func (r *changes) ctl(args ...string) func() error {
	return func() error {
		_, err := r.must(r.ctx, nil, args...)
		return err
	}
}

// api changes something with the API process of 2.0.
func (r *changes) api(method, path string, body any) func() error {
	return func() error { return r.game.call(r.ctx, method, path, body, nil) }
}

// own makes a tenant with a channel.
func (r *changes) own(id string) *gameServer {
	must(r.t, r.ctl("tenant", "add", id)())
	var key struct {
		Secret string `json:"secret"`
	}
	_, err := r.must(r.ctx, &key, "key", "add", id)
	must(r.t, err)
	g := &gameServer{front: r.front, version: "2.0", tenant: id, key: key.Secret}
	must(r.t, g.call(r.ctx, "PUT", "channels/"+lobby, map[string]any{"kind": "world"}, nil))
	return g
}

// onBoth has a user of a tenant sit at both versions, in channels.
func (r *changes) onBoth(g *gameServer, user string, channels ...string) (token string, both []*seat) {
	token, err := g.token(r.ctx, user, "Before")
	must(r.t, err)
	for _, version := range []string{"1.0", "2.0"} {
		both = append(both, r.sit(r.t, version, g.tenant, token).enter(r.ctx, channels...))
	}
	return token, both
}

// hear waits for the first frame with all parts at each of the seats.
func hear(seats []*seat, parts ...string) (watches []func(context.Context) (time.Time, error)) {
	for _, c := range seats {
		watches = append(watches, func(ctx context.Context) (time.Time, error) {
			h, err := c.await(ctx, parts...)
			return h.at, err
		})
	}
	return watches
}

// until asks again and again until it sees the change.
func until(ask func() (bool, error)) func(context.Context) (time.Time, error) {
	return func(ctx context.Context) (time.Time, error) {
		for {
			seen, err := ask()
			if seen || err != nil {
				return time.Now(), err
			}
			if !pause(ctx, 60*time.Millisecond) { // a user may say 20 things a second
				return time.Time{}, ctx.Err()
			}
		}
	}
}

// sayUntil has each seat say a text until a frame comes that tells of the change.
func sayUntil(seats []*seat, text string, parts ...string) (watches []func(context.Context) (time.Time, error)) {
	for _, c := range seats {
		watches = append(watches, func(ctx context.Context) (time.Time, error) {
			said, stop := context.WithCancel(ctx)
			var saying sync.WaitGroup
			saying.Go(func() {
				for pause(said, 60*time.Millisecond) {
					c.say(lobby, text)
				}
			})
			defer saying.Wait()
			defer stop()
			h, err := c.await(ctx, parts...)
			return h.at, err
		})
	}
	return watches
}

// refusedBy calls both API processes until they answer with a code.
func refusedBy(g *gameServer, code string) (watches []func(context.Context) (time.Time, error)) {
	for _, version := range []string{"1.0", "2.0"} {
		watches = append(watches, until(func() (bool, error) {
			_, text, err := g.front.do(context.Background(), http.MethodGet, "/api/"+version+"/"+g.tenant+"/", g.key, nil)
			return strings.Contains(string(text), code), err
		}))
	}
	return watches
}

func (r *changes) tokenRevokedByGame(id string) change {
	_, both := r.onBoth(r.game, id)
	return change{make: r.api("DELETE", "users/"+id+"/token", nil), watches: hear(both, "close 4401 bad_token")}
}

func (r *changes) tokenRevokedByOperator(id string) change {
	_, both := r.onBoth(r.game, id)
	return change{make: r.ctl("token", "revoke", tenant, id), watches: hear(both, "close 4401 bad_token")}
}

func (r *changes) memberRemoved(id string) change {
	must(r.t, r.api("PUT", "channels/"+id, map[string]any{"kind": "guild"})())
	must(r.t, r.api("PUT", "channels/"+id+"/members/"+id, nil)())
	_, both := r.onBoth(r.game, id, id)
	return change{make: r.api("DELETE", "channels/"+id+"/members/"+id, nil), watches: hear(both, `"removed"|"evicted"`, "not_member")}
}

func (r *changes) channelDeleted(id string) change {
	must(r.t, r.api("PUT", "channels/"+id, map[string]any{"kind": "world"})())
	_, both := r.onBoth(r.game, id, id)
	return change{make: r.api("DELETE", "channels/"+id, nil), watches: hear(both, `"removed"|"evicted"`, "no_such_channel")}
}

func (r *changes) userRenamed(id string) change {
	token, both := r.onBoth(r.game, id, lobby)
	after := "After-" + id
	return change{
		make:    r.api("PUT", "users/"+id+"/token", map[string]any{"name": after, "token": token}),
		watches: sayUntil(both, "who am I", after),
	}
}

func (r *changes) ngWord(id string) change {
	word := "forbidden" + strings.ReplaceAll(id, "-", "x")
	_, both := r.onBoth(r.game, id, lobby)
	return change{make: r.ctl("ngword", "add", tenant, word, "--action", "reject"), watches: sayUntil(both, word, "ng_word")}
}

func (r *changes) keyRevoked(id string) change {
	var key struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
	_, err := r.must(r.ctx, &key, "key", "add", tenant)
	must(r.t, err)
	g := *r.game
	g.key = key.Secret
	must(r.t, g.call(r.ctx, "GET", "", nil, nil))
	return change{make: r.ctl("key", "revoke", tenant, key.ID, "--yes"), watches: refusedBy(&g, "bad_key")}
}

func (r *changes) tenantSuspended(id string) change {
	g := r.own(id)
	_, both := r.onBoth(g, "u", lobby)
	return change{
		make:    r.ctl("tenant", "suspend", id),
		watches: append(hear(both, "close 4403 tenant_suspended"), refusedBy(g, "tenant_suspended")...),
	}
}

func (r *changes) limitLowered(id string) change {
	_, both := r.onBoth(r.own(id), "u", lobby)
	return change{make: r.ctl("tenant", "limits", id, "--text-length", "3"), watches: sayUntil(both, "four", "too_large")}
}

func (r *changes) versionTooOld(id string) change {
	_, both := r.onBoth(r.own(id), "u", lobby)
	return change{make: r.ctl("tenant", "set", id, "--min-version", "2.0"), watches: hear(both[:1], "close 4403 version_too_old")}
}

func (r *changes) versionDeprecated(id string) change {
	_, both := r.onBoth(r.game, id)
	return change{make: r.ctl("deprecate", "1.0", "--message", "gone-"+id), watches: hear(both[:1], "gone-"+id)}
}

// fail takes the database away without a word, as a frozen one does, for a little longer than anything may be let in without it.
func (r *changes) fail(wire *testkit.Wire, direct string) {
	for _, guild := range []string{"left", "stays"} {
		must(r.t, r.api("PUT", "channels/"+guild, map[string]any{"kind": "guild"})())
		must(r.t, r.api("PUT", "channels/"+guild+"/members/held", nil)())
	}
	token, held := r.onBoth(r.game, "held", lobby, "left", "stays")
	_, revoked := r.onBoth(r.game, "revoked", lobby)
	held[1].say(lobby, "before")
	for _, c := range held {
		_, err := c.await(r.ctx, `"before"`)
		must(r.t, err)
	}
	st, err := store.Open(r.ctx, direct, store.Options{})
	must(r.t, err)
	defer st.Close()

	began := time.Now()
	wire.Hold(true)
	defer wire.Hold(false)
	_, err = st.RevokeTokens(r.ctx, tenant, "revoked")
	must(r.t, err)
	must(r.t, st.RemoveMember(r.ctx, tenant, "left", "held"))

	// From memory: who is known logs in and reads what the process has. What would have to be written is refused, and may be tried again.
	again := r.sit(r.t, "2.0", tenant, token)
	again.send(`[{"op":"sub","ch":%q,"resume":{"epoch":%q,"seq":0}}]`, lobby, r.epoch(held[1]))
	_, err = again.await(r.ctx, `"before"`)
	must(r.t, err)
	r.t.Logf("read from memory %v after the database was gone", time.Since(began).Round(time.Millisecond))
	if held[0].say(lobby, "in vain"); time.Since(began) > failClosed {
		r.t.Fatal("the machine is too slow to tell what is let in within ten seconds")
	}
	_, err = held[0].await(r.ctx, `"unavailable"|"busy"`, `"retry":true`)
	must(r.t, err)

	closed := r.awaitRefusedLogins(token)
	if d := closed.Sub(began); d < failClosed-time.Second || d > failClosed+5*time.Second {
		r.t.Errorf("logins were refused %v after the database was gone, want about %v", d, failClosed)
	}
	for _, c := range append(append([]*seat{again}, held...), revoked...) {
		c.say(lobby, "in vain")
		_, err := c.await(r.ctx, `"unavailable"`, `"retry":true`)
		must(r.t, err)
	}
	for _, version := range []string{"1.0", "2.0"} { // each process has read the changes at a moment of its own
		testkit.Eventually(r.t, 2*time.Second, "the API of "+version+" to refuse", func() bool {
			status, text, err := r.front.do(r.ctx, http.MethodGet, "/api/"+version+"/"+tenant+"/", r.game.key, nil)
			return err == nil && status == http.StatusServiceUnavailable && strings.Contains(string(text), `"unavailable"`)
		})
	}

	wire.Hold(false)
	back := time.Now()
	for _, watch := range append(hear(revoked, "close 4401 bad_token"), hear(held, `"removed"|"evicted"`, `"left"`, "not_member")...) {
		seen, err := watch(r.ctx)
		must(r.t, err)
		r.t.Logf("what was changed meanwhile is in force %v after the return", seen.Sub(back).Round(time.Millisecond))
	}
	for _, c := range append(held, again) {
		if !c.open() {
			r.t.Errorf("a connection of %s was closed", c.version)
		}
	}
	for _, watch := range sayUntil([]*seat{held[0], held[1]}, "after", `"said"|"ack"`) {
		_, err := watch(r.ctx)
		must(r.t, err)
	}
	_, err = r.sit(r.t, "1.0", tenant, token).await(r.ctx, `"logged_in"`)
	must(r.t, err)
	_, err = r.game.post(r.ctx, lobby, "the API is back")
	must(r.t, err)
	r.busesDown()
}

// epoch is that of the lobby, as the client was told.
func (r *changes) epoch(c *seat) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.got {
		if _, rest, ok := strings.Cut(h.frame, `"subbed","ch":"`+lobby+`","epoch":"`); ok {
			epoch, _, _ := strings.Cut(rest, `"`)
			return epoch
		}
	}
	r.t.Fatal("no epoch")
	return ""
}

// awaitRefusedLogins logs in until both versions refuse it, as retryable, and returns when that was.
func (r *changes) awaitRefusedLogins(token string) time.Time {
	for _, version := range []string{"1.0", "2.0"} {
		for {
			h, err := r.sit(r.t, version, tenant, token).await(r.ctx, `"logged_in"|"welcome"|"unavailable"`)
			must(r.t, err)
			if strings.Contains(h.frame, "unavailable") {
				if !strings.Contains(h.frame, `"retry":true`) {
					r.t.Errorf("a login is refused with %s", h.frame)
				}
				break
			}
			pause(r.ctx, 200*time.Millisecond)
		}
	}
	return time.Now()
}

// busesDown holds that no wake-up can have come: nobody was on the bus.
func (r *changes) busesDown() {
	var list []controlplane.BusStatus
	_, err := r.must(r.ctx, &list, "irc", "status")
	must(r.t, err)
	for _, b := range list {
		if b.Up {
			r.t.Errorf("%s %s is on the bus", b.Version, b.Role)
		}
	}
	if len(list) != 4 {
		r.t.Errorf("status tells of %d processes", len(list))
	}
}
