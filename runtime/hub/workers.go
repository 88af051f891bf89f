package hub

import (
	"sync"
	"time"
)

// task is a room to cut a batch from; with a batch, a chunk of its receivers; or a connection to uncork.
type task struct {
	room   *room
	batch  *batch
	lo, hi int
	corked *Conn
}

// workQueue feeds the workers, in bursts: what comes to a process comes in bursts too (of what the poller has read, the log has
// committed, the bus has brought), and a worker that is woken soon after a burst first waits for the rest of the next one. What comes
// meanwhile needs no wake-up, here or at a reader who is up already, and that is most of what a delivery costs in channels too small
// to coalesce. After a quiet moment the first task is taken at once.
//
// It has no bound of its own: a room stands in it once, a batch with its chunks, a connection once for each message it has sent.
type workQueue struct {
	mu      sync.Mutex
	ready   sync.Cond
	tasks   []task
	head    int
	closed  bool
	ended   time.Time // the last burst
	resting bool      // a worker waits for the rest of a burst
	working int       // workers that are doing a task
	asleep  int       // workers that wait for ready and have not been told
}

// backlog is how many tasks wait before one more worker is woken for them.
const backlog = 16

// A worker waits for company when the last burst ended less than busyFor ago.
const (
	company = 2 * time.Millisecond
	busyFor = 20 * time.Millisecond
)

func (q *workQueue) init() { q.ready.L = &q.mu }

// push adds a task that may wait for company.
func (q *workQueue) push(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = append(q.tasks, t)
	if q.working == 0 && !q.resting || len(q.tasks)-q.head > backlog {
		q.wakeLocked()
	}
}

// pushNow adds a task for whoever is free.
func (q *workQueue) pushNow(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = append(q.tasks, t)
	q.wakeLocked()
}

func (q *workQueue) wakeLocked() {
	if q.asleep > 0 {
		q.asleep--
		q.working++ // it will be in a moment
		q.ready.Signal()
	}
}

// pop returns the next task; first says that the worker has done none yet.
func (q *workQueue) pop(first bool) (task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if first {
		q.working++
	}
	for q.head == len(q.tasks) {
		q.tasks, q.head = q.tasks[:0], 0
		q.working--
		if q.closed {
			return task{}, false
		}
		if !first && q.working == 0 {
			q.ended = time.Now()
		}
		first = false
		q.asleep++
		q.ready.Wait()
		q.gatherLocked()
	}
	return q.takeLocked(), true
}

// gatherLocked lets the rest of a burst come.
func (q *workQueue) gatherLocked() {
	if q.closed || q.working > 1 || q.resting || time.Since(q.ended) > busyFor {
		return
	}
	q.resting = true
	q.working--
	q.mu.Unlock()
	time.Sleep(company)
	q.mu.Lock()
	q.resting = false
	q.working++
}

func (q *workQueue) takeLocked() task {
	t := q.tasks[q.head]
	q.tasks[q.head] = task{}
	q.head++
	if q.head >= 1024 && q.head*2 >= len(q.tasks) {
		n := copy(q.tasks, q.tasks[q.head:])
		clear(q.tasks[n:])
		q.tasks, q.head = q.tasks[:n], 0
	}
	return t
}

func (q *workQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.working += q.asleep
	q.asleep = 0
	q.mu.Unlock()
	q.ready.Broadcast()
}

func (h *Hub) runWorker() {
	for first := true; ; first = false {
		t, ok := h.work.pop(first)
		switch {
		case !ok:
			return
		case t.corked != nil:
			t.corked.Uncork()
		case t.batch != nil:
			t.batch.write(t.lo, t.hi)
		default:
			t.room.fanOut()
		}
	}
}
