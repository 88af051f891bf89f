package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ua"
	"github.com/kmsctl/kms/runtime/ua/uatest"
)

// TestDrain_clientMovesWithoutLoss follows the page's steps under a chatting channel: a new connection with resume while the old one
// works, then goodbye to the old. Nothing is missing, and the others see nobody go.
func TestDrain_clientMovesWithoutLoss(t *testing.T) {
	old := uatest.Start(t, testProtocol(), ua.Options{})
	next := old.Another(t, testProtocol(), ua.Options{})
	watcher := hello(t, next, "bob")
	first := hello(t, old, "aki")
	watcher.Until(`"event":"join"`, `"user":"aki"`)

	stop := make(chan struct{})
	chatted := make(chan int)
	go func() { // bob talks all the while
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				chatted <- n
				return
			case <-time.After(time.Millisecond):
				watcher.Send(fmt.Sprintf(`[{"op":"send","ch":"lobby","id":"%s","text":"%d"}]`, envelope.NewID(time.Now()), n))
			}
		}
	}()

	var got history
	time.Sleep(50 * time.Millisecond)
	old.Server.Drain(ua.DrainOptions{Message: "bye"})
	got.until(t, first, `"op":"drain"`)
	second := next.Dial(t)
	second.Send(fmt.Sprintf(`[{"op":"hello","token":"%s"},{"op":"sub","ch":"lobby","resume":{"epoch":"%s","seq":%d}}]`,
		uatest.Token("aki"), got.epoch, got.seq))
	got.until(t, second, `"op":"subbed"`)
	first.Close()
	got.until(t, first, "close 1000") // may still tell what second tells too
	time.Sleep(50 * time.Millisecond)
	close(stop)
	want := <-chatted
	for len(got.texts) < want {
		got.frame(t, second.Next())
	}
	for i, text := range got.texts {
		if text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	if !got.resumed {
		t.Error("the new connection was not resumed")
	}

	watcher.Send(`[{"op":"send","ch":"lobby","id":"` + ulid("Z") + `","text":"end"}]`)
	for {
		frame := watcher.Next()
		if strings.Contains(frame, `"event":"leave"`) {
			t.Errorf("the others saw %s", frame)
		}
		if strings.Contains(frame, `"text":"end"`) {
			break
		}
	}
}

func hello(t *testing.T, w *uatest.World, user string) *uatest.Client {
	t.Helper()
	c := w.Dial(t)
	c.Send(`[{"op":"hello","token":"` + uatest.Token(user) + `"},{"op":"sub","ch":"lobby"}]`)
	c.Until(`"op":"welcome"`)
	return c
}

// history is what a client keeps of a channel.
type history struct {
	epoch   string
	seq     int64
	texts   []string
	resumed bool
}

func (h *history) until(t *testing.T, c *uatest.Client, part string) {
	t.Helper()
	for {
		frame := c.Next()
		h.frame(t, frame)
		if strings.Contains(frame, part) {
			return
		}
	}
}

func (h *history) frame(t *testing.T, frame string) {
	t.Helper()
	if strings.HasPrefix(frame, "close ") {
		return
	}
	var ops []struct {
		Op, Epoch, Text string
		Seq             int64
		Resumed         bool
	}
	if err := json.Unmarshal([]byte(frame), &ops); err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	for _, o := range ops {
		switch {
		case o.Op == "subbed":
			h.resumed = o.Resumed
			if !o.Resumed {
				h.epoch, h.seq = o.Epoch, o.Seq
			}
		case o.Op == "msg" && o.Seq > h.seq:
			h.seq = o.Seq
			h.texts = append(h.texts, o.Text)
		}
	}
}
