package daemon

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

func (h *host) drainOf(set string) controlplane.Drain {
	h.t.Helper()
	list, err := h.client.Drains(h.t.Context(), set)
	if err != nil || len(list) != 1 {
		h.t.Fatalf("drains of %s: %+v, %v", set, list, err)
	}
	return list[0]
}

// asked counts the clients that were told to move.
func asked(t *testing.T, visitors []*visitor) (n int) {
	t.Helper()
	for _, v := range visitors {
		told := 0
		for more := true; more; {
			select {
			case said, ok := <-v.said:
				if strings.Contains(said, `"drain"`) {
					told++
				}
				more = ok
			default:
				more = false
			}
		}
		if told > 1 {
			t.Errorf("a client was told %d times", told)
		}
		n += told
	}
	return n
}

func TestDrain_waitsForTheNewBuildAndChangesItsPace(t *testing.T) {
	h := newHost(t, "drain.rate", "1")
	h.up()
	ctx := t.Context()
	token := h.game("dragon")
	old := h.version("2.0").Sets[0].ID
	visitors := make([]*visitor, 20)
	for i := range visitors {
		visitors[i] = h.visit("dragon", token, "")
	}
	h.deploy(h.otherBuild("w").Digest)
	testkit.Eventually(t, 5*time.Second, "the drain is seen", func() bool {
		d := h.drainOf(old)
		return d.Running && d.Left == len(visitors) && d.Tenants["dragon"] == int64(d.Left) && d.Rate == 1 && d.Pace == 1
	})
	ua := h.version("2.0").Sets[0].Instances[0]
	if err := unix.Kill(ua.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(ua.PID, unix.SIGCONT)
	testkit.Eventually(t, 5*time.Second, "the drain pauses while the new ua is frozen", func() bool {
		d := h.drainOf(old)
		return d.Pace == 0 && strings.Contains(d.Why, "unready")
	})
	if err := unix.Kill(ua.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "the drain goes on", func() bool { return h.drainOf(old).Pace == 1 })

	before := asked(t, visitors)
	if before > len(visitors)/2 {
		t.Fatalf("%d clients were told at 1/s", before)
	}
	if _, err := h.client.Drain(ctx, controlplane.DrainRequest{Target: "2.0", Rate: 500}); err != nil {
		t.Fatal(err)
	}
	after := 0
	testkit.Eventually(t, 5*time.Second, "all others are told at the new pace", func() bool {
		after += asked(t, visitors)
		return before+after == len(visitors)
	})
	ends := h.drainOf(old).Until
	if _, err := h.client.Drain(ctx, controlplane.DrainRequest{Target: "2.0", Deadline: 3600}); err != nil {
		t.Fatal(err)
	}
	if d := h.drainOf(old); d.Rate != 500 || d.Until.Sub(ends) < 30*time.Minute {
		t.Errorf("another deadline: %+v, the old one was %s", d, ends)
	}
	ends = h.drainOf(old).Until
	if _, err := h.client.Drain(ctx, controlplane.DrainRequest{Target: "2.0", Rate: 400}); err != nil {
		t.Fatal(err)
	}
	if d := h.drainOf(old); d.Rate != 400 || !d.Until.Equal(ends) {
		t.Errorf("another rate: %+v, the deadline was %s", d, ends)
	}
	for _, v := range visitors {
		v.ws.Close()
	}
	testkit.Eventually(t, 10*time.Second, "the set is drained", func() bool { return h.setNamed(old).State == controlplane.SetWarm })
	if _, err := h.client.Drain(ctx, controlplane.DrainRequest{Target: "2.0"}); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("draining a version without a set that is left: %v", err)
	}
}

func TestDrain_ofAServingSetHappensOnce(t *testing.T) {
	h := newHost(t)
	h.up()
	h.look()
	token := h.game("dragon")
	set := h.version("2.0").Sets[0].ID
	early := h.visit("dragon", token, "")
	if _, err := h.client.Drain(t.Context(), controlplane.DrainRequest{Target: set, Message: "spread out"}); err != nil {
		t.Fatal(err)
	}
	if said := early.next(t); !strings.Contains(said, `"drain"`) {
		t.Errorf("the client is told %s", said)
	}
	early.ws.Close()
	testkit.Eventually(t, 20*time.Second, "the drain is over", func() bool { return !h.drainOf(set).Running })
	late := h.visit("dragon", token, "")
	select {
	case said := <-late.said:
		t.Errorf("who came later is told %s", said)
	case <-time.After(3 * time.Second):
	}
	if s := h.setNamed(set); s.State != controlplane.SetServing {
		t.Errorf("the set is %q", s.State)
	}
	if _, err := h.client.Drain(t.Context(), controlplane.DrainRequest{Target: "s00000000"}); controlplane.AsError(err).Kind != controlplane.NotFound {
		t.Errorf("an unknown set: %v", err)
	}
}

// TestDrain_isToldAgain: a control plane that was killed between writing a drain down and telling the ua.
func TestDrain_isToldAgain(t *testing.T) {
	h := newHost(t, "drain.rate", "1")
	h.up()
	token := h.game("dragon")
	old := h.version("2.0").Sets[0].ID
	visitors := []*visitor{h.visit("dragon", token, ""), h.visit("dragon", token, ""), h.visit("dragon", token, "")}
	h.deploy(h.otherBuild("k").Digest)
	s := h.d.setByID(old)
	if err := h.d.cancelDrain(t.Context(), s); err != nil { // what the ua would know then
		t.Fatal(err)
	}
	cancelled := time.Now()
	testkit.Eventually(t, 5*time.Second, "the ua drains all the same", func() bool {
		polled, draining := s.ua.draining()
		return polled.After(cancelled) && draining
	})
	for _, v := range visitors {
		v.ws.Close()
	}
}

// TestDrain_slowsDownWhileTheNewBuildFails: a build may be up and turn everybody away.
func TestDrain_slowsDownWhileTheNewBuildFails(t *testing.T) {
	h := newHost(t, "drain.rate", "20")
	h.up()
	token := h.game("dragon")
	old := h.version("2.0").Sets[0].ID
	visitors := []*visitor{}
	for range 3 {
		visitors = append(visitors, h.visit("dragon", token, ""))
	}
	h.deploy(h.otherBuild("f").Digest)
	if d := h.drainOf(old); d.Pace != 20 || d.Why != "" {
		t.Errorf("a drain to a build that is well: %+v", d)
	}
	testkit.Eventually(t, 20*time.Second, "the drain slows down", func() bool {
		for range 5 { // more than a tenth of what it is asked
			h.tryVisit("dragon", "of nobody, 0123456789", "").ws.Close()
		}
		d := h.drainOf(old)
		return d.Rate == 20 && d.Pace == 2 && strings.Contains(d.Why, "fails more than a tenth")
	})
	testkit.Eventually(t, 20*time.Second, "and goes on as before once nobody is turned away any more", func() bool {
		return h.drainOf(old).Pace == 20
	})
	for _, v := range visitors {
		v.ws.Close()
	}
}
