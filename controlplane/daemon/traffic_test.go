package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/hostdb"
	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// game is a tenant with one token that all its users log in with.
func (h *host) game(tenant string) (token string) {
	h.t.Helper()
	ctx, st := h.t.Context(), h.d.Store()
	token = "token-of-" + tenant + "-0123456789"
	if _, err := st.CreateTenant(ctx, store.Tenant{ID: tenant}); err != nil {
		h.t.Fatal(err)
	}
	if err := st.PutToken(ctx, store.Token{Tenant: tenant, User: "u-" + tenant, Hash: auth.Hash(token)}); err != nil {
		h.t.Fatal(err)
	}
	return token
}

// visitor is a logged-in 2.0 connection through nginx; said gets the operations that the server sends.
type visitor struct {
	ws      *websocket.Conn
	welcome string
	said    chan string // closed with the connection; the last one is its close code
}

func (h *host) visit(tenant, token, hint string) *visitor {
	h.t.Helper()
	v := h.tryVisit(tenant, token, hint)
	if !strings.Contains(v.welcome, `"welcome"`) {
		h.t.Fatalf("the login is answered %s", v.welcome)
	}
	return v
}

// tryVisit is visit with whatever answer.
func (h *host) tryVisit(tenant, token, hint string) *visitor {
	h.t.Helper()
	address := "ws://" + h.config.String("http") + "/ua/2.0/" + tenant
	if hint != "" {
		address += "?u=" + hint
	}
	ws, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.Close() })
	v := &visitor{ws: ws, said: make(chan string, 64)}
	if err := ws.WriteJSON([]any{map[string]string{"op": "hello", "token": token}}); err != nil {
		h.t.Fatal(err)
	}
	go v.listen()
	v.welcome = v.next(h.t)
	return v
}

// says sends a text to the channel lobby and waits until it is acknowledged.
func (v *visitor) says(t *testing.T, text string) {
	t.Helper()
	id := ulid.Make().String()
	if err := v.ws.WriteJSON([]any{map[string]string{"op": "sub", "ch": "lobby"}, map[string]string{"op": "send", "ch": "lobby", "id": id, "text": text}}); err != nil {
		t.Fatal(err)
	}
	for {
		switch said := v.next(t); {
		case strings.HasPrefix(said, "close"), strings.Contains(said, `"error"`):
			t.Fatalf("%q is answered %s", text, said)
		case strings.Contains(said, `"ack"`) && strings.Contains(said, id):
			return
		}
	}
}

func (v *visitor) listen() {
	defer close(v.said)
	for {
		_, text, err := v.ws.ReadMessage()
		if err != nil {
			code := 1006
			if e, ok := err.(*websocket.CloseError); ok {
				code = e.Code
			}
			v.said <- fmt.Sprint("close ", code)
			return
		}
		v.said <- string(text)
	}
}

func (v *visitor) next(t *testing.T) string {
	t.Helper()
	select {
	case text := <-v.said:
		return text
	case <-time.After(15 * time.Second):
		t.Fatal("the server says nothing")
		return ""
	}
}

// setOfNext tells on which set a new connection through nginx ends up.
func (h *host) setOfNext(tenant, token, hint string) string {
	h.t.Helper()
	before := map[string]bool{}
	for _, c := range h.connections(tenant) {
		before[c.ID] = true
	}
	v := h.visit(tenant, token, hint)
	defer v.ws.Close()
	for _, c := range h.connections(tenant) {
		if !before[c.ID] {
			return c.Set
		}
	}
	h.t.Fatal("the new connection is on no set")
	return ""
}

func (h *host) connections(tenant string) []controlplane.Connection {
	h.t.Helper()
	list, err := h.client.Connections(h.t.Context(), controlplane.Connection{Version: "2.0", Tenant: tenant})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// lastAccess returns the access log's last line for a tenant.
func (h *host) lastAccess(tenant string) (line struct{ Set, Status string }) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.config.Paths().Log("nginx-access")))
	if err != nil {
		h.t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		var entry struct {
			Tenant, Set string
			Status      int
		}
		if json.Unmarshal([]byte(l), &entry) == nil && entry.Tenant == tenant {
			line.Set, line.Status = entry.Set, fmt.Sprint(entry.Status)
		}
	}
	return line
}

func (h *host) deploy(build string) {
	h.t.Helper()
	r := h.release(controlplane.ReleaseRequest{Kind: controlplane.KindDeploy, Version: "2.0", Build: build})
	if r.State != controlplane.ReleaseDone {
		h.t.Fatalf("deploy: %+v", r.Error)
	}
}

func (h *host) setNamed(id string) controlplane.Set {
	h.t.Helper()
	for _, s := range h.version("2.0").Sets {
		if s.ID == id {
			return s
		}
	}
	return controlplane.Set{}
}

func TestPin_holdsATenantThroughDeploysAndKills(t *testing.T) {
	h := newHost(t)
	h.up()
	ctx := t.Context()
	dragon, tiger := h.game("dragon"), h.game("tiger")
	first := h.version("2.0")
	generation := h.config.Paths().Nginx() + "/nginx.conf"
	before, _ := os.ReadFile(generation)

	h.deploy(h.otherBuild("p1").Digest)
	moving := h.visit("dragon", dragon, "")
	staying := h.visit("tiger", tiger, "")
	pin, err := h.client.Pin(ctx, controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: first.Build, Message: "not ready"})
	if err != nil || pin.Set != first.Sets[0].ID {
		t.Fatalf("pin: %+v, %v", pin, err)
	}
	if said := moving.next(t); !strings.Contains(said, `"drain"`) {
		t.Errorf("the pinned tenant's client is told %s", said)
	}
	if set := h.setOfNext("dragon", dragon, "x"); set != pin.Set {
		t.Errorf("dragon is led to %s, want %s", set, pin.Set)
	}
	if set := h.setOfNext("tiger", tiger, ""); set == pin.Set {
		t.Error("tiger is led to the pinned set")
	}

	// The next deploy leaves the tenant alone, and so does its drain.
	held := h.visit("dragon", dragon, "")
	h.deploy(h.otherBuild("p2").Digest)
	if said := staying.next(t); !strings.Contains(said, `"drain"`) {
		t.Errorf("the other tenant's client is told %s", said)
	}
	if s := h.setNamed(pin.Set); s.State != controlplane.SetPinned {
		t.Errorf("the pinned set is %q", s.State)
	}
	// A new control plane, as after a reboot: all processes are gone.
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.up()
	if said := held.next(t); said != "close 1012" {
		t.Errorf("the stop says %s", said)
	}
	if s := h.setNamed(pin.Set); s.State != controlplane.SetPinned || s.Build != first.Build {
		t.Errorf("after the restart the pinned set is %+v", s)
	}
	if set := h.setOfNext("dragon", dragon, ""); set != pin.Set {
		t.Errorf("after the restart dragon is led to %s, want %s", set, pin.Set)
	}

	back := h.visit("dragon", dragon, "")
	if err := h.client.Unpin(ctx, "2.0", "dragon"); err != nil {
		t.Fatal(err)
	}
	if said := back.next(t); !strings.Contains(said, `"drain"`) {
		t.Errorf("the unpinned tenant's client is told %s", said)
	}
	if set := h.setOfNext("dragon", dragon, ""); set != h.version("2.0").Sets[0].ID {
		t.Errorf("unpinned, dragon is led to %s", set)
	}
	if line := h.lastAccess("dragon"); !strings.HasSuffix(line.Set, "/t/dragon") {
		t.Errorf("the link is gone at once: nginx chose %q", line.Set)
	}
	testkit.Eventually(t, 30*time.Second, "the set nobody is led to gets warm", func() bool {
		return h.setNamed(pin.Set).State == controlplane.SetWarm
	})
	if after, _ := os.ReadFile(generation); string(after) != string(before) {
		t.Error("nginx's configuration changed")
	}
}

func TestPin_endsByItself(t *testing.T) {
	h := newHost(t)
	h.up()
	token := h.game("dragon")
	b := h.otherBuild("u")
	pin, err := h.client.Pin(t.Context(), controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: b.Digest, Until: time.Now().Add(3 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if set := h.setOfNext("dragon", token, ""); set != pin.Set || h.setNamed(set).Build != b.Digest {
		t.Errorf("dragon is led to %s, want %s", set, pin.Set)
	}
	if err := h.stop(); err != nil { // its time may be over while nobody is there to end it
		t.Fatal(err)
	}
	h.up()
	testkit.Eventually(t, 10*time.Second, "the pin is over", func() bool { return len(h.version("2.0").Pins) == 0 })
	if set := h.setOfNext("dragon", token, ""); set == pin.Set {
		t.Error("dragon is still led to the pinned set")
	}
	testkit.Eventually(t, 10*time.Second, "the audit trail tells", func() bool {
		trail, _ := h.client.Audit(t.Context(), "2.0/dragon", 5)
		return len(trail) == 2 && trail[0].Action == "pin end"
	})

	// Its version was retired and deployed anew within the second: the pin is there, its set is not.
	h.d.mu.Lock()
	orphan := *pin
	orphan.Set, orphan.Until = newSetID(), time.Time{}
	h.d.setPinLocked(orphan)
	err = h.d.host.PutPin(orphan, hostdb.Audit{})
	h.d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	stays := h.visit("dragon", token, "")
	testkit.Eventually(t, 10*time.Second, "the pin without a set is over", func() bool { return len(h.version("2.0").Pins) == 0 })
	select {
	case said := <-stays.said:
		t.Errorf("the client is told %s", said)
	case <-time.After(1500 * time.Millisecond):
	}
}

func TestPin_refusals(t *testing.T) {
	h := newHost(t)
	h.up()
	h.game("dragon")
	build := h.version("2.0").Build
	for name, c := range map[string]struct {
		r    controlplane.PinRequest
		kind controlplane.Kind
	}{
		"unknown version": {controlplane.PinRequest{Version: "7.0", Tenant: "dragon", Build: build}, controlplane.NotFound},
		"unknown tenant":  {controlplane.PinRequest{Version: "2.0", Tenant: "lion", Build: build}, controlplane.NotFound},
		"unknown build":   {controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: strings.Repeat("0", 64)}, controlplane.NotFound},
		"in the past":     {controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: build, Until: time.Now().Add(-time.Second)}, controlplane.Usage},
		"for ever":        {controlplane.PinRequest{Version: "2.0", Tenant: "dragon", Build: build, Until: time.Now().Add(9999 * time.Hour)}, controlplane.Usage},
		"our own tenant":  {controlplane.PinRequest{Version: "2.0", Tenant: "_probe", Build: build}, controlplane.Usage},
	} {
		if _, err := h.client.Pin(t.Context(), c.r); err == nil || controlplane.AsError(err).Kind != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
	if err := h.client.Unpin(t.Context(), "2.0", "dragon"); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("unpin without a pin: %v", err)
	}
	if sets := h.version("2.0").Sets; len(sets) != 1 {
		t.Errorf("a refused pin left %d sets", len(sets))
	}
}
