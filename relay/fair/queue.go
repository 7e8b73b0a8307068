package fair

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// queue is those who wait for one token bucket.
type queue struct {
	// rate is the bucket's, or 0 if everything passes: here as well so that it
	// can be read without the lock.
	rate atomic.Int64

	mu      sync.Mutex // guards the fields below
	bucket  bucket
	waiters waiters
	// now is the virtual time in bytes: what each backlogged flow has had, or
	// would have had. It never goes back.
	now int64
	// quantum is how far ahead of now a flow may get and still be sparse.
	quantum int64
	arrived uint64      // orders those who are equal
	timer   *time.Timer // runs when the first waiter's tokens are there; nil until somebody waits
	due     time.Time   // when it runs, or zero if it does not
}

// waiter is one flow's place in one queue, used again for each piece. While
// waits is set, and for that field always, it is guarded by the queue's mu;
// otherwise it belongs to the flow's caller.
type waiter struct {
	ready chan struct{} // has one element when the wait is over

	n       int64
	tag     int64 // the virtual time at which the flow has had its bytes
	start   int64 // the piece's start tag: the later of tag and now
	sparse  bool
	passed  bool
	waits   bool
	arrived uint64
	index   int // in waiters
}

func (q *queue) setRate(rate, burst int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rate = max(rate, 0)
	q.bucket.set(rate, burst, time.Now())
	q.quantum = int64(piece(rate))
	q.rate.Store(rate)
	q.dispatchLocked()
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiters)
}

// acquire returns nil when n bytes have been taken for w.
func (q *queue) acquire(w *waiter, n int64, closed *atomic.Bool, done <-chan struct{}) error {
	if q.rate.Load() == 0 {
		w.passed = false // nothing to give back
		return nil
	}
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	if err := q.enter(w, n, closed); err != nil {
		return err
	}
	select {
	case <-w.ready:
	case <-done:
		q.leave(w)
		<-w.ready // by leave, or by whoever was faster
	}
	if !w.passed {
		return ErrStopped
	}
	return nil
}

func (q *queue) enter(w *waiter, n int64, closed *atomic.Bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case w.waits:
		return errBusy
	case closed.Load():
		return ErrStopped
	}
	q.arrived++
	w.n, w.arrived, w.passed, w.waits = n, q.arrived, false, true
	w.start = max(w.tag, q.now)
	w.sparse = w.start+n-q.now <= q.quantum
	heap.Push(&q.waiters, w)
	if w.index == 0 { // else those before it wait as well
		q.dispatchLocked()
	}
	return nil
}

// leave ends the wait of w, if it waits.
func (q *queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.waits {
		return
	}
	heap.Remove(&q.waiters, w.index)
	w.end(false)
	q.dispatchLocked() // the next may want less
}

// giveBack undoes an acquire whose bytes did not pass in the end.
func (q *queue) giveBack(w *waiter, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.passed {
		return // there was no rate to count it against
	}
	w.passed = false
	w.tag -= n
	q.bucket.add(float64(n))
	q.dispatchLocked()
}

// dispatchLocked lets pass whoever may, and sets the timer for the next.
func (q *queue) dispatchLocked() {
	if len(q.waiters) == 0 {
		return // a timer that is set finds nothing to do
	}
	at := time.Now()
	for len(q.waiters) > 0 {
		w := q.waiters[0]
		if wait := q.bucket.take(w.n, at); wait > 0 {
			q.wakeLocked(at, wait)
			return
		}
		heap.Pop(&q.waiters)
		w.tag = w.start + w.n
		if !w.sparse {
			// Only by these: a sparse flow may be ahead of others that wait.
			q.now = max(q.now, w.start)
		}
		w.end(true)
	}
}

func (q *queue) wakeLocked(now time.Time, wait time.Duration) {
	due := now.Add(wait)
	if !q.due.IsZero() && !q.due.After(due) && q.due.After(now) {
		return // it comes early, and is then set again
	}
	q.due = due
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.tick)
		return
	}
	q.timer.Reset(wait)
}

func (q *queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.due = time.Time{}
	q.dispatchLocked()
}

// end is called with the queue's mu held.
func (w *waiter) end(passed bool) {
	w.passed, w.waits = passed, false
	w.ready <- struct{}{} // has room: it is emptied after each wait
}

// waiters is a heap: sparse flows first, then by start tag.
type waiters []*waiter

func (h waiters) Len() int { return len(h) }

func (h waiters) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.sparse != b.sparse:
		return a.sparse
	case a.start != b.start:
		return a.start < b.start
	}
	return a.arrived < b.arrived
}

func (h waiters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *waiters) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

func (h *waiters) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return w
}
