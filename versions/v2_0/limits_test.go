package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/testkit"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

// refusal is a nack.
type refusal struct {
	Op, Code, Message string
	Retry             bool
	After             int64 `json:"after_ms"`
}

// TestLimits_eachIsToldWithATime changes one limit after the other under a session.
func TestLimits_eachIsToldWithATime(t *testing.T) {
	w := uatest.Start(t, protocol{now: time.Now}, ua.Options{})
	c := w.Dial(t)
	c.Send(`[{"op":"hello","token":"` + uatest.Token("aki") + `"},{"op":"sub","ch":"lobby"}]`)
	c.Until(`"subbed"`)
	for _, limit := range []struct{ name, says string }{
		{"user_messages_per_second", "a user may send 1"},
		{"channel_messages_per_second", "a channel takes 1"},
		{"messages_per_second", "all users together may send 1"},
	} {
		must(t, w.Store.SetTenantLimits(t.Context(), uatest.Tenant, map[string]int{limit.name: 1}))
		testkit.Eventually(t, uatest.Patience, limit.name+" to be in force", func() bool {
			nack := sayFive(t, c)
			if nack == nil {
				return false
			}
			if nack.Code != chat.CodeRateLimited || !nack.Retry || nack.After <= 0 || nack.After > 3000 || !strings.Contains(nack.Message, limit.says) {
				t.Fatalf("%s: refused with %+v", limit.name, nack)
			}
			return true
		})
		must(t, w.Store.SetTenantLimits(t.Context(), uatest.Tenant, map[string]int{limit.name: 0}))
		testkit.Eventually(t, uatest.Patience, limit.name+" to be gone", func() bool { return sayFive(t, c) == nil })
	}
}

// sayFive sends five messages in one frame and returns the first refusal, nil if there was none.
func sayFive(t *testing.T, c *uatest.Client) (first *refusal) {
	t.Helper()
	var ops []string
	for range 5 {
		ops = append(ops, fmt.Sprintf(`{"op":"send","ch":"lobby","id":%q,"text":"schnell"}`, envelope.NewID(time.Now())))
	}
	c.Send("[" + strings.Join(ops, ",") + "]")
	for answers := 0; answers < len(ops); {
		var got []refusal
		must(t, json.Unmarshal([]byte(c.Next()), &got))
		for _, op := range got {
			if op.Op == "ack" || op.Op == "nack" {
				answers++
			}
			if op.Op == "nack" && first == nil {
				first = &op
			}
		}
	}
	return first
}

func TestLimits_connectionsBeyondAreToldWhenToComeAgain(t *testing.T) {
	w := uatest.Start(t, protocol{now: time.Now}, ua.Options{})
	must(t, w.Store.SetTenantLimits(t.Context(), uatest.Tenant, map[string]int{"connections": 1}))
	hello := `[{"op":"hello","token":"` + uatest.Token("aki") + `"}]`
	c := w.Dial(t)
	c.Send(hello)
	c.Until(`"welcome"`)
	expectBusy(t, w, hello, chat.CodeTooManyConnections)
}

// TestParking_whoFindsNoPlaceIsToldWhenToComeAgain: one login runs, one waits, and one is too many; the one that waits is sent away at its
// deadline.
func TestParking_whoFindsNoPlaceIsToldWhenToComeAgain(t *testing.T) {
	w := uatest.Start(t, protocol{now: time.Now}, ua.Options{LoginDeadline: time.Second})
	w.Service.SetLimits(chat.Limits{LoginsParallel: 1, LoginsWaiting: 1})
	leave, err := w.Service.Park(t.Context(), uatest.Tenant)
	must(t, err)
	hello := `[{"op":"hello","token":"` + uatest.Token("aki") + `"}]`
	waiting := w.Dial(t)
	waiting.Send(hello)
	testkit.Eventually(t, uatest.Patience, "it to wait", func() bool { _, n := w.Service.Parked(); return n == 1 })
	expectBusy(t, w, hello, chat.CodeBusy)
	if got := waiting.Until(`"nack"`, `"busy"`, `"after_ms"`); !strings.Contains(got, `"retry":true`) {
		t.Errorf("past the deadline: %s", got)
	}
	if got := waiting.Next(); got != "close 1013" {
		t.Errorf("past the deadline: %s", got)
	}
	leave()
	c := w.Dial(t)
	c.Send(hello)
	c.Until(`"welcome"`)
}

func expectBusy(t *testing.T, w *uatest.World, hello, code string) {
	t.Helper()
	c := w.Dial(t)
	c.Send(hello)
	var got []refusal
	must(t, json.Unmarshal([]byte(c.Next()), &got))
	if len(got) != 1 || got[0].Op != "nack" || got[0].Code != code || !got[0].Retry || got[0].After <= 0 {
		t.Errorf("one too many got %+v", got)
	}
	if end := c.Next(); end != "close 1013" {
		t.Errorf("one too many: %s", end)
	}
}
