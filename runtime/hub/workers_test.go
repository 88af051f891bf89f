package hub

import (
	"testing"
	"testing/synctest"
	"time"
)

// Soon after a burst the next one waits for company; the first after a quiet moment waits for nothing.
func TestWorkQueue_waitsForCompanyOnlyWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		rec := record(t, h, "bert")
		time.Sleep(time.Second)
		h.Deliver(say(1))
		synctest.Wait()
		if got := len(rec.got()); got != 1 {
			t.Fatalf("after a quiet moment %d messages are out, want 1", got)
		}
		time.Sleep(busyFor / 2)
		h.Deliver(say(2))
		synctest.Wait()
		if got := len(rec.got()); got != 1 {
			t.Fatalf("before any company %d messages are out, want 1", got)
		}
		time.Sleep(company)
		synctest.Wait()
		if got := len(rec.got()); got != 2 {
			t.Fatalf("%d messages are out after the wait for company, want 2", got)
		}
	})
}

// A backlog is company enough: another worker begins.
func TestWorkQueue_wakesAnotherForABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q workQueue
		q.init()
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
		q.push(task{lo: 1})
		synctest.Wait()
		for i := range backlog {
			q.push(task{lo: 2 + i})
			synctest.Wait()
		}
		if len(got) != 1 {
			t.Fatalf("%d tasks were done before the wait for company was over, want 1", len(got))
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
