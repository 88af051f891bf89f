package hub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
)

func TestResume_fromRing(t *testing.T) {
	log := newFakeLog(10)
	h := testHub(t, Options{Log: log})
	a := connect(t, h)
	a.join(h, "anna", nil)
	for range 20 {
		h.Deliver(log.add())
	}
	a.expectSeqs(11, 30)
	path, conns := testServer(t, h, UpgradeOptions{})
	b := connectTo(t, path, conns)
	if j := b.join(h, "bert", &Position{testEpoch, 15}); !j.Resumed || j.Truncated || j.Head != 30 || j.First != 1 {
		t.Errorf("joined %+v", j)
	}
	b.expectSeqs(16, 30)
	h.Deliver(log.add())
	b.expectSeqs(31, 31)
	if reads, heads := log.counts(); reads != 0 || heads != 1 {
		t.Errorf("%d reads, %d heads", reads, heads)
	}
}

func TestResume_fromLogInPages(t *testing.T) {
	log := newFakeLog(2000)
	h := testHub(t, Options{Log: log, RingBytes: 4 << 10})
	a := connect(t, h)
	if j := a.join(h, "anna", &Position{testEpoch, 700}); !j.Resumed {
		t.Fatalf("joined %+v", j)
	}
	for range 50 {
		h.Deliver(log.add())
	}
	a.expectSeqs(701, 2050)
	h.Deliver(log.add())
	a.expectSeqs(2051, 2051)
}

func TestResume_tellsTruncation(t *testing.T) {
	tests := map[string]struct {
		from  Position
		first int64
	}{
		"other epoch":          {Position{"e0", 15}, 11},
		"before what is kept":  {Position{testEpoch, 9}, 11},
		"after the head":       {Position{testEpoch, 21}, 11},
		"far below everything": {Position{testEpoch, -5}, 11},
	}
	log := newFakeLog(20)
	log.first = 11
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := connectTo(t, path, conns)
			if j := c.join(h, "u", &tt.from); !j.Truncated || j.Resumed || j.First != tt.first || j.Head != 20 {
				t.Errorf("joined %+v", j)
			}
			c.expectNothing()
		})
	}
	c := connectTo(t, path, conns)
	if j := c.join(h, "u", &Position{testEpoch, 10}); j.Truncated || !j.Resumed {
		t.Errorf("the oldest position that is whole: %+v", j)
	}
	c.expectSeqs(11, 20)
}

// What is purged after the room has learned where the log begins must be said as well, not left out silently.
func TestResume_tellsTruncationByALaterPurge(t *testing.T) {
	log := newFakeLog(20)
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	connectTo(t, path, conns).join(h, "a", nil)
	log.mu.Lock()
	log.first = 16
	log.mu.Unlock()
	c := connectTo(t, path, conns)
	if j := c.join(h, "b", &Position{testEpoch, 10}); !j.Truncated || j.First != 16 {
		t.Errorf("joined %+v", j)
	}
}

func TestResume_clientAheadOfThisProcess(t *testing.T) {
	log := newFakeLog(10)
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	a := connectTo(t, path, conns)
	a.join(h, "anna", nil)
	for range 5 {
		log.add() // committed, but no line has come here yet
	}
	b := connectTo(t, path, conns)
	if j := b.join(h, "bert", &Position{testEpoch, 13}); !j.Resumed || j.Truncated {
		t.Errorf("joined %+v", j)
	}
	b.expectSeqs(14, 15)
	a.expectSeqs(11, 15)
	h.Deliver(log.add())
	b.expectSeqs(16, 16)
}

func TestResume_thousandClientsShareOneRead(t *testing.T) {
	log := newFakeLog(400)
	log.gate = make(chan struct{})
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	const n = 200
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = connectTo(t, path, conns)
	}
	var joins sync.WaitGroup
	for i, c := range clients {
		joins.Go(func() { c.join(h, "u", &Position{testEpoch, int64(i)}) })
	}
	time.Sleep(20 * time.Millisecond) // for as many as possible to be waiting; the count holds in any case
	close(log.gate)
	joins.Wait()
	for i, c := range clients {
		c.expectSeqs(int64(i)+1, 400)
	}
	if reads, heads := log.counts(); reads != 1 || heads != 1 {
		t.Errorf("%d reads, %d heads", reads, heads)
	}
}

func TestSubscribe_logAwayIsAnErrorWithoutAck(t *testing.T) {
	log := newFakeLog(10)
	log.setFail(errors.New("database is away"))
	h := testHub(t, Options{Log: log})
	c := connect(t, h)
	ack := func(Joined) []byte { t.Error("acknowledged"); return nil }
	if err := h.Subscribe(context.Background(), c.conn, "u", testChannel, nil, ack); err == nil {
		t.Error("no error")
	}
	log.setFail(nil)
	other := connect(t, h)
	other.join(h, "v", nil) // the room is known now
	log.setFail(errors.New("database is away"))
	if err := h.Subscribe(context.Background(), c.conn, "u", testChannel, &Position{testEpoch, 3}, ack); err == nil {
		t.Error("no error for a resume that needs the log")
	}
	c.join(h, "u", &Position{testEpoch, 10}) // reading from memory goes on
	h.Deliver(log.add())
	c.expectSeqs(11, 11)
}

// Who resumes gets what was edited or deleted as the log has it, from the ring and from pages, though both were read from before.
func TestResume_givesWhatWasChangedAsItIsNow(t *testing.T) {
	for name, ring := range map[string]int{"ring": 1 << 20, "pages": 1} {
		t.Run(name, func(t *testing.T) {
			log := newFakeLog(0)
			h := testHub(t, Options{Log: log, RingBytes: ring})
			path, conns := testServer(t, h, UpgradeOptions{})
			live := connectTo(t, path, conns)
			live.join(h, "carl", nil)
			h.Deliver(log.add())
			h.Deliver(log.add())
			live.expectSeqs(1, 2)
			for _, step := range []struct {
				kind, text string
				shadow     bool
				log        []string // texts of the messages so far, after it
				live       string
				want       []string
			}{
				{envelope.Edit, "two", false, []string{"two", "t2", "two"}, "3 edit anna two",
					[]string{"1 say anna two", "2 say anna t2", "3 edit anna two"}},
				{envelope.Edit, "three", false, []string{"three", "t2", "", "three"}, "4 edit anna three",
					[]string{"1 say anna three", "2 say anna t2", "3 edit anna ", "4 edit anna three"}},
				{envelope.Edit, "darn", true, []string{"three", "t2", "", "three", "darn"}, "",
					[]string{"1 say anna three", "2 say anna t2", "3 edit anna ", "4 edit anna three"}},
				{envelope.Delete, "", false, []string{"", "t2", "", "", "darn", ""}, "6 delete anna ",
					[]string{"1 say anna ", "2 say anna t2", "3 edit anna ", "4 edit anna ", "6 delete anna "}},
			} {
				e := log.add()
				e.Kind, e.Target, e.Text, e.Shadow = step.kind, "m1", step.text, step.shadow
				log.setTexts(step.log)
				h.Deliver(e)
				if step.live != "" {
					live.expect(step.live)
				}
				for range 2 { // the second from what the first has encoded
					late := connectTo(t, path, conns)
					late.join(h, "bert", &Position{testEpoch, 0})
					late.expect(step.want...)
				}
			}
		})
	}
}

// What chatlog cannot read, as of a newer format, has a place in the log and no kind. No bus line of it gets through either.
func TestDeliver_passesOverWhatThisBuildCannotRead(t *testing.T) {
	for _, ring := range []int{1, 1 << 20} { // those who resume read the log, or the ring
		log := newFakeLog(0)
		h := testHub(t, Options{Log: log, RingBytes: ring, GapWait: time.Millisecond})
		path, conns := testServer(t, h, UpgradeOptions{})
		a := connectTo(t, path, conns)
		a.join(h, "anna", nil)
		h.Deliver(log.add())
		newer := log.add()
		newer.Kind, newer.Text = "", ""
		h.Deliver(log.add())
		h.Deliver(log.add())
		a.expect("1 say anna t1", "3 say anna t3", "4 say anna t4")
		b := connectTo(t, path, conns)
		if j := b.join(h, "bert", &Position{testEpoch, 0}); !j.Resumed {
			t.Errorf("joined %+v", j)
		}
		b.expect("1 say anna t1", "3 say anna t3", "4 say anna t4")
		c := connectTo(t, path, conns)
		c.join(h, "carl", &Position{testEpoch, 1})
		c.expect("3 say anna t3", "4 say anna t4")
		c.expectNothing()
	}
}

func TestResume_hidesShadowedMessages(t *testing.T) {
	log := newFakeLog(10)
	log.entries[4].Shadow = true // anna's, seq 5, only in the log
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	connectTo(t, path, conns).join(h, "x", nil)
	shadowed := log.add() // seq 11, in the ring
	shadowed.Shadow = true
	h.Deliver(shadowed)
	h.Deliver(log.add())
	anna, bert := connectTo(t, path, conns), connectTo(t, path, conns)
	anna.join(h, "anna", &Position{testEpoch, 3})
	bert.join(h, "bert", &Position{testEpoch, 3})
	anna.expectSeqs(4, 12)
	bert.expectSeqs(4, 4)
	bert.expectSeqs(6, 10)
	bert.expectSeqs(12, 12)
	anna.join(h, "anna", &Position{testEpoch, 10}) // again, from the ring
	bert.join(h, "bert", &Position{testEpoch, 10})
	anna.expectSeqs(11, 12)
	bert.expectSeqs(12, 12)
}

// A room that talks without pause, members that come and go on every connection: each sees its acknowledgement first and
// then every message after the head that it named, without a hole and once.
func TestSubscribe_churnUnderFanOut(t *testing.T) {
	log := newFakeLog(0)
	h := testHub(t, Options{Log: log, RingBytes: 64 << 10})
	path, conns := testServer(t, h, UpgradeOptions{})
	connectTo(t, path, conns).join(h, "stays", nil)
	stop := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.Deliver(log.add())
				time.Sleep(100 * time.Microsecond)
			}
		}
	})
	var members sync.WaitGroup
	for range 8 {
		c := connectTo(t, path, conns)
		members.Go(func() {
			var from *Position
			for range 30 {
				from = c.visit(h, from)
			}
		})
	}
	members.Wait()
	close(stop)
	talking.Wait()
}

// visit joins, reads a few messages, leaves and returns the position. What arrives is checked.
func (c *client) visit(h *Hub, from *Position) *Position {
	var joined Joined
	err := h.Subscribe(context.Background(), c.conn, "u", testChannel, from, func(j Joined) []byte {
		joined = j
		return AppendText(nil, []byte("joined"))
	})
	if err != nil {
		c.t.Error(err)
		return nil
	}
	seq := joined.Head
	if joined.Resumed {
		seq = from.Seq
	} else if from != nil {
		c.t.Errorf("position %+v gave %+v", *from, joined)
	}
	c.expect("joined")
	for range 20 {
		seq++
		c.expectSeqs(seq, seq)
	}
	h.Unsubscribe(c.conn, "demo", "world")
	c.conn.Send(AppendText(nil, []byte("left")))
	for {
		got := c.next()
		if got == "left" {
			return &Position{testEpoch, seq}
		}
		seq++
		if want := says(seq, seq)[0]; got != want {
			c.t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A reader that stops costs a bounded amount of memory, misses nothing when it reads on in time, and delays nobody.
func TestDeliver_slowReaderIsBoundedThenCaughtUp(t *testing.T) {
	log := newFakeLog(0)
	const limit = 64 << 10
	h := testHub(t, Options{Log: log, MaxPending: limit, RingBytes: 32 << 10, Tick: time.Millisecond})
	path, conns := testServer(t, h, UpgradeOptions{})
	slow, quick := connectTo(t, path, conns), connectTo(t, path, conns)
	slow.join(h, "slow", nil)
	quick.join(h, "quick", nil)
	const n = 3000
	text := strings.Repeat("x", 1000)
	for seq := int64(1); seq <= n; seq++ {
		e := log.add()
		e.Text = text
		h.Deliver(e)
		quick.expectSeqs(seq, seq)
		if p := slow.conn.Pending(); p > limit+maxBatchBytes {
			t.Fatalf("%d bytes pending", p)
		}
	}
	if s := h.Stats(); s.Resyncs != 1 || s.Cut != 0 {
		t.Fatalf("stats %+v", s)
	}
	slow.expectSeqs(1, n)
	h.Deliver(log.add())
	slow.expectSeqs(n+1, n+1)
	quick.expectSeqs(n+1, n+1)
}

func TestResume_slowReaderIsBounded(t *testing.T) {
	const n, limit = 4000, 64 << 10
	log := newFakeLog(n)
	for _, e := range log.entries {
		e.Text = strings.Repeat("x", 1000)
	}
	h := testHub(t, Options{Log: log, MaxPending: limit})
	c := connect(t, h)
	c.join(h, "u", &Position{testEpoch, 0})
	eventually(t, "the socket full", func() bool { return c.conn.Pending() > limit/2 })
	for range 20 {
		time.Sleep(time.Millisecond)
		if p := c.conn.Pending(); p > limit/2+2*stepBytes {
			t.Fatalf("%d bytes pending", p)
		}
	}
	c.expectSeqs(1, n)
}

func TestDeliver_slowReaderIsCutTheSecondTime(t *testing.T) {
	log := newFakeLog(0)
	h := testHub(t, Options{Log: log, MaxPending: 32 << 10, Tick: time.Millisecond})
	path, conns := testServer(t, h, UpgradeOptions{})
	slow := connectTo(t, path, conns)
	slow.join(h, "slow", nil)
	text := strings.Repeat("x", 1000)
	seq := int64(0)
	overflow := func(done func(Stats) bool) {
		for deadline := time.Now().Add(20 * time.Second); !done(h.Stats()) && time.Now().Before(deadline); {
			e := log.add()
			e.Text = text
			h.Deliver(e)
			time.Sleep(20 * time.Microsecond)
		}
		if !done(h.Stats()) {
			t.Fatalf("stats %+v", h.Stats())
		}
	}
	overflow(func(s Stats) bool { return s.Resyncs == 1 })
	for head := int64(len(log.entries)); seq < head; seq++ {
		slow.expectSeqs(seq+1, seq+1)
	}
	overflow(func(s Stats) bool { return s.Cut == 1 })
	slow.expectClose(CloseSlow)
}

// Without a log there is nothing to catch up from, and a hole must not go unsaid.
func TestDeliver_slowReaderOfAnUnloggedChannelIsCut(t *testing.T) {
	h := testHub(t, Options{MaxPending: 32 << 10, Tick: time.Millisecond})
	c := connect(t, h)
	ch := Channel{PK: 8, Tenant: "demo", ID: "fast", History: "none"}
	if err := h.Subscribe(context.Background(), c.conn, "u", ch, nil, func(Joined) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 1000)
	eventually(t, "the cut", func() bool {
		for range 100 {
			h.Deliver(&envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: "fast", User: "anna", Text: text})
		}
		return h.Stats().Cut == 1
	})
	c.expectClose(CloseSlow)
}

func TestDeliver_largeRoomReachesEverybodyInOrder(t *testing.T) {
	log := newFakeLog(0)
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	clients := make([]*client, 3*chunkSubs+7)
	for i := range clients {
		clients[i] = connectTo(t, path, conns)
		clients[i].join(h, "u", nil)
	}
	const n = 40
	for range n {
		h.Deliver(log.add())
		time.Sleep(time.Millisecond)
	}
	for _, c := range clients {
		c.expectSeqs(1, n)
	}
}

func TestRing_keepsWithinItsBytes(t *testing.T) {
	var g ring
	const limit = 10_000
	for seq := int64(1); seq <= 1000; seq++ {
		g.add(say(seq), limit)
		if g.bytes > limit {
			t.Fatalf("%d bytes", g.bytes)
		}
	}
	if !g.covers(g.after) || g.covers(g.after-1) || g.entries[0].e.Seq != g.after+1 {
		t.Errorf("complete after %d, oldest %d", g.after, g.entries[0].e.Seq)
	}
	var pos int64 = g.after
	var all []byte
	for pos < 1000 { // in steps, as to a client
		var frames []byte
		frames, pos = g.collect(lineCodec{}, "bert", pos, 1000, 100)
		all = append(all, frames...)
	}
	if got := strings.Count(string(all), " say "); got != int(1000-g.after) {
		t.Errorf("%d messages", got)
	}
}

func TestRing_manyRoomsShareTheTotal(t *testing.T) {
	const share, total = 8 << 10, 64 << 10
	h := testHub(t, Options{RingBytes: share, RingTotal: total})
	c := connect(t, h)
	const rooms = 32
	for i := range rooms {
		ch := testChannel
		ch.ID = fmt.Sprint("c", i)
		if err := h.Subscribe(context.Background(), c.conn, "u", ch, nil, func(Joined) []byte { return nil }); err != nil {
			t.Fatal(err)
		}
		for seq := int64(1); seq <= 100; seq++ {
			e := say(seq)
			e.Channel = ch.ID
			h.Deliver(e)
		}
	}
	if got := h.rings.Load(); got < total/2 || got > total+share+rooms*share/16 {
		t.Errorf("%d bytes in all rings", got)
	}
	h.Drop(c.conn)
	if got := h.rings.Load(); got != 0 {
		t.Errorf("%d bytes left in the rings of rooms that are gone", got)
	}
}

// A message may be blanked while its batch is being written: the frames of that batch must not come back into the ring.
func TestRing_framesOfABlankedMessageAreNotKept(t *testing.T) {
	var g ring
	e := say(1)
	g.add(e, 1000)
	g.change(&envelope.Envelope{Kind: envelope.Delete, Target: "m1"})
	g.keepFrames(e, AppendText(nil, []byte("1 say anna t1")))
	if frames, _ := g.collect(lineCodec{}, "bert", 0, 1, 100); strings.Contains(string(frames), "t1") {
		t.Errorf("frames %q", frames)
	}
}

func TestPage_collectInSteps(t *testing.T) {
	log := newFakeLog(100)
	log.entries[49].Shadow = true
	p := &page{upTo: 100, envs: log.entries}
	p.encode(lineCodec{})
	for _, user := range []string{"anna", "bert"} {
		var want []string
		for _, line := range says(31, 100) {
			if user == "anna" || !strings.HasPrefix(line, "50 ") {
				want = append(want, line)
			}
		}
		var rec recorder
		frames := make(chan []byte, 100)
		for pos := int64(30); pos < 100; {
			var part []byte
			part, pos = p.collect(user, pos, 200)
			frames <- part
		}
		close(frames)
		rec.follow(frames)
		if got := rec.got(); !slices.Equal(got, want) {
			t.Errorf("%s got %q", user, got)
		}
	}
}

// Whatever a client asks to go on from, and wherever log and room stand: it gets everything after its position, in order and once, or
// is told that it cannot. Of total messages the room has learned those up to loaded by its first look at the log, heard live ones
// more, and not yet heard of the rest; what is before first was removed before that look, what is before purged since.
func FuzzResume(f *testing.F) {
	f.Add(true, "", int64(0), uint16(0), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	f.Add(true, "", int64(2), uint16(5), uint8(5), uint8(0), uint16(0), uint16(0), uint16(64<<10-1)) // from the log, then the ring
	f.Add(true, "", int64(7), uint16(5), uint8(5), uint8(5), uint16(0), uint16(0), uint16(64<<10-1)) // from the ring, then what it has not heard of
	f.Add(true, "", int64(13), uint16(5), uint8(5), uint8(5), uint16(0), uint16(0), uint16(700))     // ahead of the room
	f.Add(true, "", int64(90), uint16(1100), uint8(90), uint8(9), uint16(60), uint16(80), uint16(900))
	f.Add(true, "", int64(511), uint16(1024), uint8(0), uint8(0), uint16(0), uint16(512), uint16(0))
	f.Add(true, "", int64(510), uint16(1024), uint8(0), uint8(0), uint16(0), uint16(512), uint16(0))
	f.Add(true, "", int64(8), uint16(8), uint8(0), uint8(0), uint16(8), uint16(0), uint16(0))         // all is removed
	f.Add(true, "", int64(6), uint16(5), uint8(9), uint8(0), uint16(0), uint16(12), uint16(64<<10-1)) // the ring has what the log has not
	f.Add(true, "", int64(math.MinInt64), uint16(9), uint8(0), uint8(0), uint16(3), uint16(0), uint16(0))
	f.Add(true, "", int64(math.MaxInt64), uint16(9), uint8(1), uint8(1), uint16(3), uint16(0), uint16(0))
	f.Add(false, "", int64(3), uint16(9), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	f.Add(false, "e0", int64(3), uint16(9), uint8(2), uint8(0), uint16(0), uint16(0), uint16(500))
	f.Fuzz(func(t *testing.T, same bool, epoch string, seq int64, loaded uint16, live, unheard uint8, first, purged, ring uint16) {
		loaded %= 3 * pageSeqs
		log := newFakeLog(int(loaded))
		log.first = 1 + int64(first%(loaded+1))
		h := testHub(t, Options{Log: log, RingBytes: max(1, int(ring)), GapWait: time.Millisecond})
		path, conns := testServer(t, h, UpgradeOptions{})
		connectTo(t, path, conns).join(h, "first", nil)
		for range live {
			h.Deliver(log.add())
		}
		known := log.first
		heard := int64(loaded) + int64(live)
		log.setFirst(max(known, int64(purged)%(heard+2)))
		for range unheard {
			log.add()
		}
		total := heard + int64(unheard)

		from := Position{epoch, seq}
		if same {
			from.Epoch = testEpoch
		}
		c := connectTo(t, path, conns)
		j := c.join(h, "u", &from)
		exists := from.Epoch == testEpoch && seq >= known-1 && seq <= total
		if j.Resumed == j.Truncated || j.Resumed && !exists || j.Truncated && exists && seq >= log.first-1 {
			t.Fatalf("of %d to %d: position %+v gave %+v", log.first, total, from, j)
		}
		if j.Epoch != testEpoch || j.First < known || j.First > log.first || j.Head > total {
			t.Fatalf("of %d to %d: the range is %+v", log.first, total, j)
		}
		h.Deliver(log.add())
		if j.Resumed {
			c.expectSeqs(seq+1, total+1)
		} else {
			c.expectSeqs(j.Head+1, total+1)
		}
		c.expectNothing()
	})
}

// blockedLog is a log whose reads wait for a gate, and that notes whose they were in the order in which they began.
type blockedLog struct {
	*fakeLog
	gate  chan struct{}
	began chan int64 // channels' keys
}

func (l *blockedLog) Head(_ context.Context, pk int64) (Head, error) {
	l.began <- pk
	<-l.gate
	return Head{PK: pk, Epoch: testEpoch}, nil
}

// TestSubscribe_tenantsTakeTurnsAtTheLog has one tenant's clients ask for many channels at once, and then another's for one.
func TestSubscribe_tenantsTakeTurnsAtTheLog(t *testing.T) {
	log := &blockedLog{newFakeLog(0), make(chan struct{}), make(chan int64, 100)}
	h := testHub(t, Options{Log: log})
	path, conns := testServer(t, h, UpgradeOptions{})
	subscribe := func(tenant string, pk int64) {
		c := connectTo(t, path, conns)
		ch := Channel{PK: pk, Tenant: tenant, ID: fmt.Sprint("c", pk), Epoch: testEpoch}
		go h.Subscribe(context.Background(), c.conn, "anna", ch, nil, func(Joined) []byte { return nil })
		eventually(t, "it to ask", func() bool {
			running, waiting := h.reads.Waiting()
			return int64(running+waiting) == pk
		})
	}
	const flood = 20
	for pk := range int64(flood) {
		subscribe("noisy", pk+1)
	}
	subscribe("quiet", flood+1)
	place := 0
	for n := 1; place == 0; n++ {
		if n > maxReads {
			log.gate <- struct{}{} // one ends, so that one begins
		}
		if <-log.began == flood+1 {
			place = n
		}
	}
	close(log.gate)
	if place > maxReads+2 {
		t.Errorf("the quiet tenant's read was number %d", place)
	}
}
