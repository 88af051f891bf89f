package hub

import "sync"

// task is a room to cut a batch from or, with one, a chunk of its receivers.
type task struct {
	room   *room
	batch  *batch
	lo, hi int
}

// workQueue feeds the workers. It has no bound of its own: a room stands in it once, a batch with its chunks.
type workQueue struct {
	mu     sync.Mutex
	ready  sync.Cond
	tasks  []task
	head   int
	closed bool
}

func (q *workQueue) init() { q.ready.L = &q.mu }

func (q *workQueue) push(t task) {
	q.mu.Lock()
	q.tasks = append(q.tasks, t)
	q.mu.Unlock()
	q.ready.Signal()
}

func (q *workQueue) pop() (task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head == len(q.tasks) {
		q.tasks, q.head = q.tasks[:0], 0
		if q.closed {
			return task{}, false
		}
		q.ready.Wait()
	}
	t := q.tasks[q.head]
	q.tasks[q.head] = task{}
	q.head++
	if q.head >= 1024 && q.head*2 >= len(q.tasks) {
		n := copy(q.tasks, q.tasks[q.head:])
		clear(q.tasks[n:])
		q.tasks, q.head = q.tasks[:n], 0
	}
	return t, true
}

func (q *workQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Broadcast()
}

func (h *Hub) runWorker() {
	for {
		t, ok := h.work.pop()
		switch {
		case !ok:
			return
		case t.batch != nil:
			t.batch.write(t.lo, t.hi)
		default:
			t.room.fanOut()
		}
	}
}
