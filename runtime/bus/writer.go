package bus

import (
	"bytes"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// writer turns what is queued into lines. Its own goroutine alone uses it, except lastPing.
type writer struct {
	s        *session
	seal     *sealer
	lastPing atomic.Int64
	last     time.Time // when the last round began
	buf      []byte    // lines not yet written
	since    int       // bytes since the last barrier
	barriers int
	long     bool // the server takes longer lines than IRC's own
	asked    bool // whether our channels are joined is asked
	batch    queue
	lines    []openLine
	lineOf   map[int]int // channel -> its index in lines
}

// openLine is a line that still takes items.
type openLine struct {
	channel int
	room    int
	body    []byte
}

// work is what one round takes from the network.
type work struct {
	control    []string
	join, part []int
	registered bool
	quit       bool
	overhead   int
	lineLen    int
}

// run writes until the connection breaks, or returns nil after QUIT.
func (w *writer) run() error {
	for {
		select {
		case <-w.s.dead:
			return nil
		case <-w.s.n.wake:
		}
		w.gather()
		todo := w.take()
		if err := w.round(&todo); err != nil {
			return err
		}
		if todo.quit {
			return nil
		}
	}
}

// A round that follows another within busyFor first waits for company; the first after a quiet moment begins at once. Without it each
// message of a busy process would be a write here and a wake-up of the IRC server and of everybody who listens.
const (
	company = 2 * time.Millisecond
	busyFor = 20 * time.Millisecond
)

// gather lets come what comes together.
func (w *writer) gather() {
	if time.Since(w.last) < busyFor {
		time.Sleep(company)
	}
	w.last = time.Now()
}

// take empties the network's queues. The batch's memory goes back and forth between the two.
func (w *writer) take() work {
	n := w.s.n
	n.mu.Lock()
	defer n.mu.Unlock()
	todo := work{control: n.control, registered: w.s.registered, quit: n.quit, lineLen: n.lineLen, overhead: n.overhead}
	n.control = nil
	if cap(w.batch.data) > keepBytes {
		w.batch = queue{}
	}
	w.batch, n.queue = n.queue, queue{data: w.batch.data[:0], items: w.batch.items[:0]}
	if !todo.registered {
		return todo
	}
	if n.joinFirst {
		for _, it := range w.batch.items {
			if !n.on[it.channel] {
				n.on[it.channel] = true
				todo.join = append(todo.join, it.channel)
			}
		}
	}
	for index := range n.dirty {
		wanted := index == 0 || n.interest[index] > 0
		switch {
		case wanted && !n.on[index]:
			n.on[index] = true
			todo.join = append(todo.join, index)
		case !wanted && n.on[index]:
			delete(n.on, index)
			todo.part = append(todo.part, index)
		}
	}
	clear(n.dirty)
	return todo
}

func (w *writer) round(todo *work) error {
	w.long = todo.lineLen > minLine
	slices.Sort(todo.join) // the control channel first
	if err := w.channels("JOIN ", todo.join, todo.lineLen); err != nil {
		return err
	}
	if err := w.channels("PART ", todo.part, todo.lineLen); err != nil {
		return err
	}
	for _, text := range todo.control {
		if err := w.emit(text, nil, nil); err != nil {
			return err
		}
	}
	if todo.registered && !w.asked {
		w.asked = true
		if err := w.emit("PING :"+tokenJoined, nil, nil); err != nil {
			return err
		}
	}
	if err := w.pack(todo); err != nil {
		return err
	}
	if todo.quit {
		if err := w.emit("QUIT :", nil, nil); err != nil {
			return err
		}
	}
	return w.flush()
}

// channels joins or parts many channels with few lines.
func (w *writer) channels(command string, list []int, lineLen int) error {
	limit := lineLen - len(command) - len("\r\n")
	if lineLen == minLine {
		limit = 400 // ngIRCd wants them short
	}
	var line []byte
	for _, index := range list {
		name := channelName(index)
		if len(line) > 0 && len(line)+1+len(name) > limit {
			if err := w.emit(command+string(line), nil, nil); err != nil {
				return err
			}
			line = line[:0]
		}
		if len(line) > 0 {
			line = append(line, ',')
		}
		line = append(line, name...)
	}
	if len(line) == 0 {
		return nil
	}
	return w.emit(command+string(line), nil, nil)
}

// pack sends the batch with as many items in a line as fit, and keeps the order of each channel.
func (w *writer) pack(todo *work) error {
	if w.lineOf == nil {
		w.lineOf = map[int]int{}
	}
	start := 0
	for _, q := range w.batch.items {
		it := item{kind: 'E', part: q.part, parts: q.parts, data: w.batch.data[start:q.end]}
		start = q.end
		if q.parts > 0 {
			it.kind = 'F'
		}
		line := w.open(q.channel, todo)
		size := it.headLen() + len(it.data)
		if size > line.room { // our prefix grew after Publish
			w.s.n.b.count.dropped.Add(1)
			continue
		}
		if len(line.body)-1+size > line.room {
			if err := w.send(line); err != nil {
				return err
			}
		}
		line.body = appendItem(line.body, &it)
		if q.parts == 0 || q.part == q.parts {
			w.s.n.b.count.envelopesOut.Add(1)
		}
	}
	for i := range w.lines {
		if err := w.send(&w.lines[i]); err != nil {
			return err
		}
	}
	clear(w.lineOf)
	w.lines = w.lines[:0]
	if cap(w.lines) > keepLines {
		w.lines = nil
	}
	return nil
}

// open returns the channel's line of this batch.
func (w *writer) open(channel int, todo *work) *openLine {
	if i, ok := w.lineOf[channel]; ok {
		return &w.lines[i]
	}
	i := len(w.lines)
	w.lineOf[channel] = i
	if i < cap(w.lines) {
		w.lines = w.lines[:i+1] // with the memory of an earlier batch
	} else {
		w.lines = append(w.lines, openLine{})
	}
	line := &w.lines[i]
	line.channel = channel
	line.room = todo.lineLen - todo.overhead - len(channelName(channel)) - lineHead
	line.body = append(line.body[:0], lineFormat)
	return line
}

// send seals a line and empties it.
func (w *writer) send(line *openLine) error {
	if len(line.body) <= 1 {
		return nil
	}
	name := channelName(line.channel)
	err := w.emit("PRIVMSG "+name+" :", w.seal.seal([]byte(name), line.body), line.body)
	line.body = append(line.body[:0], lineFormat)
	return err
}

// emit appends one line, the three parts joined. All that is sent passes here: nothing with a NUL, CR or LF goes out, and the
// server never has more than a barrier's bytes of ours that it may not have read.
func (w *writer) emit(head string, seal, body []byte) error {
	size := len(head) + len(seal) + len(body) + 2
	if w.since+size > w.barrierBytes() {
		if err := w.barrier(); err != nil {
			return err
		}
	}
	start := len(w.buf)
	w.buf = append(append(append(w.buf, head...), seal...), body...)
	if line := w.buf[start:]; bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, '\n') >= 0 {
		w.buf = w.buf[:start]
		w.s.n.b.count.dropped.Add(1)
		return nil
	}
	w.buf = append(w.buf, "\r\n"...)
	w.since += size
	w.s.n.b.count.linesOut.Add(1)
	return nil
}

const (
	barrierLarge = 32 << 10
	barrierSmall = 8 << 10
	keepLines    = 256 // whose memory stays for the next batch
	keepBytes    = 1 << 20
)

// barrierBytes is what the server can read without filling its buffer, which makes InspIRCd sleep for up to a second. Longer
// lines than IRC's own show a server configured as ours, with a buffer of 64 KB; else InspIRCd's default of 10 KB is assumed.
func (w *writer) barrierBytes() int {
	if w.s.n.link.Kind == NgIRCd || w.long {
		return barrierLarge
	}
	return barrierSmall
}

// barrier writes what there is and waits until the server has read all of it.
func (w *writer) barrier() error {
	w.barriers++
	w.buf = append(w.buf, "PING :"+tokenBarrier...)
	w.buf = append(strconv.AppendInt(w.buf, int64(w.barriers), 10), "\r\n"...)
	if err := w.flush(); err != nil {
		return err
	}
	select {
	case <-w.s.passed:
	case <-w.s.dead:
	}
	w.since = 0
	return nil
}

func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	written, err := w.s.conn.Write(w.buf)
	w.s.n.b.count.bytesOut.Add(uint64(written))
	w.buf = w.buf[:0]
	return err
}
