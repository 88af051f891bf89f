package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kmsctl/kms/runtime/envelope"
)

// recorder is a subscriber over a pipe that writes down the text frames it gets.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) follow(frames chan []byte) {
	var rest []byte
	for p := range frames {
		rest = append(rest, p...)
		r.mu.Lock()
		for len(rest) >= 2 && rest[1] < 126 && len(rest) >= 2+int(rest[1]) {
			if rest[0] == opText {
				r.lines = append(r.lines, string(rest[2:2+int(rest[1])]))
			}
			rest = rest[2+int(rest[1]):]
		}
		r.mu.Unlock()
	}
}

func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func record(t *testing.T, h *Hub, user string) *recorder {
	t.Helper()
	c, frames := pipe(t, h)
	rec := new(recorder)
	go rec.follow(frames)
	err := h.Subscribe(context.Background(), c, user, testChannel, nil, func(Joined) []byte { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func says(from, to int64) []string {
	var want []string
	for seq := from; seq <= to; seq++ {
		want = append(want, fmt.Sprintf("%d say anna t%d", seq, seq))
	}
	return want
}

// Whatever the order, the doubles and the losses in which messages come: each is delivered once and in order.
func TestDeliver_ordersWhateverComes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(rt, "messages")
		log := newFakeLog(n)
		var arrivals []*envelope.Envelope
		for _, e := range log.entries {
			copies := rapid.IntRange(0, 3).Draw(rt, "copies")
			for range copies {
				line := *e
				if line.Ref = rapid.IntRange(0, 9).Draw(rt, "ref") == 0; line.Ref {
					line.Text = ""
				}
				arrivals = append(arrivals, &line)
			}
		}
		arrivals = rapid.Permutation(arrivals).Draw(rt, "order")
		all := log.entries
		log.entries = nil // the room begins before the first

		synctest.Test(t, func(t *testing.T) {
			h := New(Options{Codec: lineCodec{}, Log: log})
			rec := record(t, h, "bert")
			log.mu.Lock()
			log.entries = all
			log.mu.Unlock()
			for _, e := range arrivals {
				h.Deliver(e)
			}
			h.Heads([]Head{{PK: 7, Tenant: "demo", Channel: "world", Epoch: testEpoch, First: 1, Seq: int64(n)}})
			time.Sleep(time.Second)
			synctest.Wait()
			got := rec.got()
			h.Close()
			if want := says(1, int64(n)); !slices.Equal(got, want) {
				rt.Fatalf("got %q, want %q", got, want)
			}
		})
	})
}

func TestDeliver_crossingLinesNeedNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(0)
		h := New(Options{Codec: lineCodec{}, Log: log})
		defer h.Close()
		rec := record(t, h, "bert")
		h.Deliver(say(2))
		time.Sleep(90 * time.Millisecond)
		if got := rec.got(); len(got) != 0 {
			t.Fatalf("got %q before its turn", got)
		}
		h.Deliver(say(1))
		h.Deliver(say(4)) // the next one crosses while the first wait is running
		time.Sleep(90 * time.Millisecond)
		h.Deliver(say(3))
		time.Sleep(time.Second)
		if got := rec.got(); !slices.Equal(got, says(1, 4)) {
			t.Errorf("got %q", got)
		}
		if reads, _ := log.counts(); reads != 0 {
			t.Errorf("%d log reads", reads)
		}
	})
}

func TestDeliver_lostLineIsReadOnceAfterTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(0)
		h := New(Options{Codec: lineCodec{}, Log: log})
		defer h.Close()
		recs := []*recorder{record(t, h, "bert"), record(t, h, "carl")}
		for range 5 {
			log.add()
		}
		h.Deliver(say(1))
		h.Deliver(say(5)) // 2 to 4 are lost
		time.Sleep(99 * time.Millisecond)
		if reads, _ := log.counts(); reads != 0 {
			t.Fatal("read before the wait was over")
		}
		time.Sleep(10 * time.Millisecond)
		for _, rec := range recs {
			if got := rec.got(); !slices.Equal(got, says(1, 5)) {
				t.Errorf("got %q", got)
			}
		}
		if reads, _ := log.counts(); reads != 1 {
			t.Errorf("%d log reads", reads)
		}
	})
}

func TestDeliver_lossBehindALateLineIsReadToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(0)
		h := New(Options{Codec: lineCodec{}, Log: log})
		defer h.Close()
		rec := record(t, h, "bert")
		for range 5 {
			log.add()
		}
		h.Deliver(say(1))
		h.Deliver(say(3))
		h.Deliver(say(5)) // 4 is lost
		time.Sleep(90 * time.Millisecond)
		h.Deliver(say(2)) // and this one late
		time.Sleep(120 * time.Millisecond)
		if got := rec.got(); !slices.Equal(got, says(1, 5)) {
			t.Errorf("got %q", got)
		}
	})
}

func TestHeads_lostLastLineIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(10)
		h := New(Options{Codec: lineCodec{}, Log: log})
		defer h.Close()
		rec := record(t, h, "bert")
		log.add()
		head, _ := log.Head(context.Background(), 7)
		h.Heads([]Head{head})
		time.Sleep(110 * time.Millisecond)
		if got := rec.got(); !slices.Equal(got, says(11, 11)) {
			t.Errorf("got %q", got)
		}
	})
}

func TestHeal_triesAgainWhileTheLogIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(0)
		h := New(Options{Codec: lineCodec{}, Log: log})
		defer h.Close()
		rec := record(t, h, "bert")
		log.setFail(errors.New("database is away"))
		log.add()
		log.add()
		h.Deliver(say(2))
		time.Sleep(20 * time.Second)
		reads, _ := log.counts()
		if reads < 5 || reads > 50 {
			t.Errorf("%d reads in 20 s, want a backoff", reads)
		}
		log.setFail(nil)
		time.Sleep(3 * time.Second)
		if got := rec.got(); !slices.Equal(got, says(1, 2)) {
			t.Errorf("got %q", got)
		}
	})
}

func TestDeliver_coalescesOnlyInBusyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		rec := record(t, h, "bert")
		seq := int64(0)
		for range 20 { // ten a second: each goes out at once
			seq++
			h.Deliver(say(seq))
			synctest.Wait()
			if got := rec.got(); len(got) != int(seq) {
				t.Fatalf("%d messages out after %d", len(got), seq)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for range 50 { // a hundred a second, in pairs: gathering would save little
			for range 2 {
				seq++
				h.Deliver(say(seq))
				time.Sleep(company)
				synctest.Wait()
				if got := rec.got(); len(got) != int(seq) {
					t.Fatalf("%d messages out after %d", len(got), seq)
				}
			}
			time.Sleep(20*time.Millisecond - 2*company)
		}
		quiet := h.Stats().Batches
		for range 1000 { // a thousand a second: gathered, none longer than the tick
			seq++
			h.Deliver(say(seq))
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if got := rec.got(); len(got) < int(seq)-55 {
				t.Fatalf("%d messages out after %d", len(got), seq)
			}
		}
		if busy := h.Stats().Batches - quiet; busy > 60 {
			t.Errorf("%d batches in a busy second", busy)
		}
		for range 4 * maxBatch { // a backlog does not wait from tick to tick
			seq++
			h.Deliver(say(seq))
		}
		time.Sleep(120 * time.Millisecond)
		if got := rec.got(); !slices.Equal(got, says(1, seq)) {
			t.Errorf("%d messages of %d, or out of order", len(got), seq)
		}
	})
}

func TestDeliver_shadowOnlyToItsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(0)})
		defer h.Close()
		anna, bert := record(t, h, "anna"), record(t, h, "bert")
		shadowed := say(2)
		shadowed.Shadow = true
		for _, e := range []*envelope.Envelope{say(3), shadowed, say(1)} { // one batch of three
			h.Deliver(e)
		}
		lone := say(4)
		lone.Shadow = true
		time.Sleep(time.Second)
		h.Deliver(lone)
		time.Sleep(time.Second)
		if got := anna.got(); !slices.Equal(got, says(1, 4)) {
			t.Errorf("the author got %q", got)
		}
		if got := bert.got(); !slices.Equal(got, append(says(1, 1), says(3, 3)...)) {
			t.Errorf("another got %q", got)
		}
	})
}

func TestDeliver_presenceAndUnloggedPassStraight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Codec: lineCodec{}, Log: newFakeLog(3)})
		defer h.Close()
		rec := record(t, h, "bert")
		h.Deliver(&envelope.Envelope{Kind: envelope.Join, Tenant: "demo", Channel: "world", User: "anna"})
		h.Deliver(&envelope.Envelope{Kind: "newer", Tenant: "demo", Channel: "world", User: "anna"})
		time.Sleep(time.Second)
		if got := rec.got(); !slices.Equal(got, []string{"0 join anna "}) {
			t.Errorf("got %q", got)
		}
		if n := h.Stats().Dropped; n != 1 {
			t.Errorf("%d dropped, want the one of an unknown kind", n)
		}

		c, frames := pipe(t, h)
		none := new(recorder)
		go none.follow(frames)
		unlogged := Channel{PK: 8, Tenant: "demo", ID: "fast", History: "none"}
		err := h.Subscribe(context.Background(), c, "bert", unlogged, &Position{"x", 5}, func(j Joined) []byte {
			if j.Resumed || j.Truncated || j.Head != 0 {
				t.Errorf("joined %+v", j)
			}
			return AppendText(nil, []byte("joined"))
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Deliver(&envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: "fast", User: "anna", Text: "hi"})
		time.Sleep(time.Second)
		if got := none.got(); !slices.Equal(got, []string{"joined", "0 say anna hi"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A log of another epoch is not gone on with on the same connection: who is there is closed, comes back and is told. It is seen by the
// first message of it or by the look at the heads; a late line from before changes nothing.
func TestDeliver_newEpochTurnsEverybodyOut(t *testing.T) {
	for name, tell := range map[string]func(*Hub, *fakeLog){
		"message": func(h *Hub, log *fakeLog) { h.Deliver(log.add()) },
		"heads": func(h *Hub, log *fakeLog) {
			head, _ := log.Head(context.Background(), 7)
			h.Heads([]Head{head})
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := newFakeLog(5)
			h := testHub(t, Options{Log: log})
			path, conns := testServer(t, h, UpgradeOptions{})
			live := connectTo(t, path, conns)
			live.join(h, "bert", nil)
			stale := say(6)
			stale.Epoch = "e0"
			h.Deliver(stale)
			h.Deliver(log.add())
			live.expectSeqs(6, 6)

			log.mu.Lock()
			log.epoch, log.entries = "e2", log.entries[:2] // restored from a backup
			log.mu.Unlock()
			log.add()
			tell(h, log)
			live.expectClose(CloseRestart)
			back := connectTo(t, path, conns)
			j := back.join(h, "bert", &Position{testEpoch, 6})
			if !j.Truncated || j.Epoch != "e2" || j.Head != int64(len(log.entries)) {
				t.Errorf("joined %+v", j)
			}
			h.Deliver(log.add())
			back.expectSeqs(j.Head+1, j.Head+1)
		})
	}
}

// The epoch may change between a subscription's acknowledgement and its first message.
func TestSubscribe_newEpochMeanwhileIsAnError(t *testing.T) {
	log := newFakeLog(5)
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	connectTo(t, path, conns).join(h, "holds the room", nil)
	c := connectTo(t, path, conns)
	err := h.Subscribe(context.Background(), c.conn, "bert", testChannel, &Position{testEpoch, 3}, func(Joined) []byte {
		log.mu.Lock()
		log.epoch = "e2"
		log.mu.Unlock()
		h.Heads([]Head{{PK: 7, Tenant: "demo", Channel: "world", Epoch: "e2", First: 1, Seq: 5}})
		eventually(t, "the room in the new epoch", func() bool { return h.Rooms()[0].Channel.Epoch == "e2" })
		return nil
	})
	if err == nil {
		t.Error("subscribed with a position of the old epoch")
	}
	c.expectNothing()
}

func TestOnRoom_firstAndLast(t *testing.T) {
	var calls []string
	h := testHub(t, Options{OnRoom: func(ch Channel, active bool) { calls = append(calls, fmt.Sprint(ch.ID, active)) }})
	a := connect(t, h)
	path, conns := testServer(t, h, UpgradeOptions{})
	b := connectTo(t, path, conns)
	a.join(h, "anna", nil)
	b.join(h, "bert", nil)
	if rooms := h.Rooms(); len(rooms) != 1 || rooms[0].Subscribers != 2 {
		t.Errorf("rooms %+v", rooms)
	}
	if !h.Unsubscribe(a.conn, "demo", "world") || h.Unsubscribe(a.conn, "demo", "world") {
		t.Error("Unsubscribe tells wrongly who was in")
	}
	h.Deliver(say(1))
	b.expectSeqs(1, 1)
	a.expectNothing()
	h.Drop(b.conn)
	if want := []string{"worldtrue", "worldfalse"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q", calls)
	}
	if len(h.Rooms()) != 0 {
		t.Error("room left behind")
	}
}

func TestSubscribe_channelMadeAnewEvictsItsNamesake(t *testing.T) {
	h := testHub(t, Options{})
	path, conns := testServer(t, h, UpgradeOptions{})
	a, member := connectTo(t, path, conns), connectTo(t, path, conns)
	a.join(h, "anna", nil)
	member.join(h, "bert", nil) // of the old channel only
	newer := testChannel
	newer.PK = 9
	err := h.Subscribe(context.Background(), a.conn, "anna", newer, nil, func(Joined) []byte { return AppendText(nil, []byte("joined")) })
	if err != nil {
		t.Fatal(err)
	}
	a.expect("joined")
	if n := a.conn.Stats().Channels; n != 1 {
		t.Errorf("in %d channels", n)
	}
	h.Deliver(say(1))
	a.expectSeqs(1, 1)
	a.expectNothing()
	if n := member.conn.Stats().Channels; n != 0 {
		t.Errorf("a member of the old channel is in %d channels", n)
	}
	member.expectNothing()
}

func TestSubscribe_connectionThatEndsMeanwhileLeavesNothing(t *testing.T) {
	h := testHub(t, Options{})
	path, conns := testServer(t, h, UpgradeOptions{})
	stays, c := connectTo(t, path, conns), connectTo(t, path, conns)
	stays.join(h, "stays", nil)
	err := h.Subscribe(context.Background(), c.conn, "anna", testChannel, nil, func(Joined) []byte {
		c.conn.kill()
		return nil
	})
	if err == nil {
		t.Error("no error for a connection that ended while it joined")
	}
	if err := h.Subscribe(context.Background(), c.conn, "anna", testChannel, nil, func(Joined) []byte { return nil }); err == nil {
		t.Error("no error for an ended connection")
	}
	if room := h.Rooms()[0]; room.Subscribers != 1 {
		t.Errorf("%d subscribers", room.Subscribers)
	}
	h.Drop(stays.conn)
	if len(h.Rooms()) != 0 {
		t.Errorf("rooms %+v", h.Rooms())
	}
}

// The array of subscribers is shared with the batch that is being written.
func TestRemove_duringABatchMovesNobody(t *testing.T) {
	h := testHub(t, Options{Workers: 1})
	path, conns := testServer(t, h, UpgradeOptions{})
	var clients []*client
	for range 5 {
		c := connectTo(t, path, conns)
		c.join(h, "u", nil)
		clients = append(clients, c)
	}
	r := h.find(roomKey{"demo", "world"})
	r.mu.Lock()
	r.phase = due // keeps the worker out
	r.mu.Unlock()
	h.Deliver(say(1))
	b := r.cutBatch()
	b.encode(lineCodec{})
	b.left.Store(2)
	b.write(0, 2)
	h.Unsubscribe(clients[0].conn, "demo", "world")
	h.Unsubscribe(clients[3].conn, "demo", "world")
	b.write(2, 5)
	for i, c := range clients {
		if i != 3 {
			c.expectSeqs(1, 1)
		}
		c.expectNothing()
	}
	if room := h.Rooms()[0]; room.Subscribers != 3 || len(r.subs) != 3 {
		t.Errorf("%d subscribers, %d places", room.Subscribers, len(r.subs))
	}
	h.Deliver(say(2))
	for _, i := range []int{1, 2, 4} {
		clients[i].expectSeqs(2, 2)
	}
}

func TestSendMissed_nothingToOneWhoHasLeft(t *testing.T) {
	h := testHub(t, Options{})
	c := connect(t, h)
	c.join(h, "u", nil)
	s := c.conn.subs[0]
	h.Unsubscribe(c.conn, "demo", "world")
	c.conn.sendMissed(s, AppendText(nil, []byte("too late")), 5)
	c.expectNothing()
}

// gatedCodec holds up encoding, and with it the workers.
type gatedCodec struct{ gate chan struct{} }

func (g gatedCodec) AppendBatch(dst []byte, batch []*envelope.Envelope) []byte {
	<-g.gate
	return lineCodec{}.AppendBatch(dst, batch)
}

func TestDeliver_boundsWhatWaitsForWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(0)
		codec := gatedCodec{make(chan struct{})}
		h := New(Options{Codec: codec, Log: log})
		defer h.Close()
		rec := record(t, h, "bert")
		const n = 3 * maxQueue
		for range n {
			h.Deliver(log.add())
		}
		time.Sleep(time.Second)
		r := h.find(roomKey{"demo", "world"})
		r.mu.Lock()
		if len(r.queue) > maxQueue || len(r.held) > maxHeld {
			t.Errorf("%d messages queued, %d held", len(r.queue), len(r.held))
		}
		r.mu.Unlock()
		close(codec.gate)
		time.Sleep(10 * time.Second)
		if got := rec.got(); !slices.Equal(got, says(1, n)) {
			t.Errorf("%d messages, want %d in order", len(got), n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.held) != 0 || len(r.queue) != 0 {
			t.Errorf("%d messages still held, %d queued", len(r.held), len(r.queue))
		}
	})
}

// What is in no log is dropped, and counted, when the workers do not follow.
func TestDeliver_boundsUnloggedThatWaitForWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		codec := gatedCodec{make(chan struct{})}
		h := New(Options{Codec: codec, Log: newFakeLog(0)})
		defer h.Close()
		c, frames := pipe(t, h)
		rec := new(recorder)
		go rec.follow(frames)
		err := h.Subscribe(context.Background(), c, "bert", Channel{PK: 8, Tenant: "demo", ID: "fast", History: "none"}, nil, func(Joined) []byte { return nil })
		if err != nil {
			t.Fatal(err)
		}
		const n = 3 * maxQueue
		for range n {
			h.Deliver(&envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: "fast", User: "anna", Text: "hi"})
		}
		close(codec.gate)
		time.Sleep(10 * time.Second)
		got, dropped := len(rec.got()), int(h.Stats().Dropped)
		if got < maxQueue || got > 2*maxQueue || got+dropped != n {
			t.Errorf("%d delivered and %d dropped of %d, with room for %d", got, dropped, n, maxQueue)
		}
	})
}

// What was removed before it came here is not skipped silently: who would get the hole is closed, comes back and is told. The room
// goes on for others.
func TestHeal_whatWasRemovedMeanwhileIsNoSilentHole(t *testing.T) {
	log := newFakeLog(0)
	h := testHub(t, Options{Log: log, GapWait: time.Millisecond})
	path, conns := testServer(t, h, UpgradeOptions{})
	live := connectTo(t, path, conns)
	live.join(h, "bert", nil)
	for range 6 {
		log.add()
	}
	log.setFirst(5)
	h.Deliver(say(4))
	live.expectClose(CloseRestart)
	back := connectTo(t, path, conns)
	j := back.join(h, "bert", &Position{testEpoch, 0})
	if !j.Truncated || j.First != 5 {
		t.Errorf("joined %+v", j)
	}
	h.Deliver(log.add())
	back.expectSeqs(j.Head+1, 7)
}

// The ring gives nothing away that is no longer in the log.
func TestHeads_whatWasRemovedLeavesTheRing(t *testing.T) {
	log := newFakeLog(0)
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	live := connectTo(t, path, conns)
	live.join(h, "bert", nil)
	for range 10 {
		h.Deliver(log.add())
	}
	live.expectSeqs(1, 10)
	log.setFirst(8)
	h.Heads([]Head{{PK: testChannel.PK, Tenant: "demo", Channel: "world", Epoch: testEpoch, First: 8, Seq: 10}})
	late, whole := connectTo(t, path, conns), connectTo(t, path, conns)
	if j := late.join(h, "late", &Position{testEpoch, 3}); !j.Truncated || j.First != 8 || j.Head != 10 {
		t.Errorf("joined %+v", j)
	}
	late.expectNothing()
	if j := whole.join(h, "whole", &Position{testEpoch, 7}); !j.Resumed {
		t.Errorf("joined %+v", j)
	}
	whole.expectSeqs(8, 10)
	h.Deliver(log.add())
	live.expectSeqs(11, 11)
}
