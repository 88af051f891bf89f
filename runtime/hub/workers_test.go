package hub

import (
	"testing"
	"testing/synctest"
	"time"
)

// With a pace of its own a burst gathers what comes; the first after a quiet moment waits for nothing.
func TestWorkQueue_keepsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0), Pace: 10 * time.Millisecond})
		defer h.Close()
		rec := record(t, h, "bert")
		time.Sleep(time.Second)
		h.Deliver(say(1))
		synctest.Wait()
		if got := len(rec.got()); got != 1 {
			t.Fatalf("after a quiet moment %d messages are out, want 1", got)
		}
		time.Sleep(3 * time.Millisecond)
		h.Deliver(say(2))
		synctest.Wait()
		if got := len(rec.got()); got != 1 {
			t.Fatalf("within the pace %d messages are out, want 1", got)
		}
		time.Sleep(7 * time.Millisecond)
		synctest.Wait()
		if got := len(rec.got()); got != 2 {
			t.Fatalf("after the pace %d messages are out, want 2", got)
		}
	})
}

// A backlog is no reason to lie down: whoever sleeps wakes another.
func TestWorkQueue_wakesAnotherForABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q workQueue
		q.init(time.Hour)
		got := make(chan task, 100)
		for range 2 {
			go func() {
				for first := true; ; first = false {
					task, ok := q.pop(first)
					if !ok {
						return
					}
					got <- task
				}
			}()
		}
		synctest.Wait()
		q.push(task{lo: 1}) // one worker lies down after this
		synctest.Wait()
		for i := range backlog {
			q.push(task{lo: 2 + i})
			synctest.Wait()
		}
		if len(got) != 1 {
			t.Fatalf("%d tasks were done within the pace, want 1", len(got))
		}
		q.push(task{lo: 99})
		synctest.Wait()
		if len(got) != backlog+2 {
			t.Fatalf("%d tasks were done, want %d", len(got), backlog+2)
		}
		q.pushNow(task{lo: 100})
		synctest.Wait()
		if len(got) != backlog+3 {
			t.Fatal("a task that is for now waits")
		}
		q.close()
		time.Sleep(2 * time.Hour)
	})
}
