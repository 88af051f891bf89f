package chatlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

func queued(tenant string, body int) *entry {
	return &entry{env: &envelope.Envelope{Tenant: tenant}, body: make([]byte, body), deadline: time.Now()}
}

func TestQueue_tenantsTakeTurnsAndEachKeepsItsOrder(t *testing.T) {
	var q queue
	for i := range 8 {
		it := queued("big", 1)
		it.id = fmt.Sprint("big", i)
		q.add(it)
	}
	for i := range 2 {
		it := queued("small", 1)
		it.id = fmt.Sprint("small", i)
		q.add(it)
	}
	first := q.deadline()
	var got []string
	for range 4 {
		batch := q.take(3)
		for i, it := range batch {
			if i > 0 && it.deadline.Before(batch[i-1].deadline) {
				t.Error("deadlines do not rise along a batch")
			}
			got = append(got, it.id)
		}
		got = append(got, "|")
	}
	if got, want := fmt.Sprint(got), "[big0 big1 small0 | big2 big3 small1 | big4 big5 big6 | big7 |]"; got != want {
		t.Errorf("took %s, want %s", got, want)
	}
	if q.len != 0 || q.bytes != 0 || len(q.lines) != 0 || len(q.turns) != 0 {
		t.Errorf("left: %+v", q)
	}
	q.add(queued("big", 1))
	late := queued("late", 1)
	late.deadline = first.Add(time.Hour)
	q.add(late)
	if n := len(q.expired(first.Add(time.Minute))); n != 1 || q.len != 1 || !q.deadline().Equal(late.deadline) {
		t.Errorf("%d expired, %d left", n, q.len)
	}
}

func TestQueue_hasRoomForOneMoreTenant(t *testing.T) {
	for what, size := range map[string]int{"messages": 0, "bytes": envelope.MaxText} {
		var q queue
		fill := func(tenant string) (n int) {
			for q.add(queued(tenant, size)) {
				n++
			}
			return n
		}
		a, b, c := fill("a"), fill("b"), fill("c")
		if a < 1000 || b < a/3 || c < b/3 {
			t.Errorf("%s: %d of the first tenant, then %d and %d of others", what, a, b, c)
		}
		if q.len > maxQueue || q.bytes > maxBytes {
			t.Errorf("%s: %d with %d bytes in the queue", what, q.len, q.bytes)
		}
	}
}

// TestAppend_aFloodWaitsBehindItself has one tenant queue many commits' worth while one runs, and another a single message after it: that
// is in the next commit.
func TestAppend_aFloodWaitsBehindItself(t *testing.T) {
	l, f, pk := faultyLog(t, sqliteURL(t), Options{Timeout: time.Minute, MaxBatch: 10})
	release, hanging := make(chan struct{}), make(chan struct{})
	f.once(func(ctx context.Context, fn func(*store.Tx) error) error {
		close(hanging)
		<-release
		return f.st.Write(ctx, fn)
	})
	var wg sync.WaitGroup
	flood := 0 // answered; the log answers one after the other
	wg.Add(102)
	for i := range 101 {
		l.Append(pk, say("u1", "flood"), func(_ Receipt, err error) {
			flood++
			wg.Done()
		})
		if i == 0 {
			<-hanging
		}
	}
	other := say("u2", "hello")
	other.Tenant = "other"
	before := 0
	l.Append(testChannel(t, f.st, "theirs"), other, func(_ Receipt, err error) {
		if before = flood; err != nil {
			t.Error(errors.Join(errors.New("the other tenant's message"), err))
		}
		wg.Done()
	})
	close(release)
	wg.Wait()
	if before > 11 {
		t.Errorf("%d messages of the flood were answered before the other tenant's", before)
	}
}
