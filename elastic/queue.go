// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"sync"
)

// queue holds events for a reader that may be slow, and never makes the writer
// wait: when it is full the oldest is dropped and counted, so that the present
// state is always in it.
type queue struct {
	mu    sync.Mutex
	ring  []Event // grows up to most
	first int     // index of the oldest
	n     int
	most  int
	lost  Lost          // what was dropped since a reader was told
	end   error         // what next returns once the queue is empty; nil while open
	now   bool          // it is over at once; what was queued is gone
	ready chan struct{} // holds a token if there is something for next
}

func newQueue(most int) *queue {
	return &queue{most: most, ready: make(chan struct{}, 1)}
}

// put appends e, unless the queue has ended.
func (q *queue) put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end != nil || q.merge(e) {
		return
	}
	if q.n == q.most {
		q.pop()
		q.lost = Lost{Time: e.When(), N: q.lost.N + 1}
	}
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.first+q.n)%len(q.ring)] = e
	q.n++
	q.signal()
}

// merge adds e to one that waits, if it is of a kind that adds up.
func (q *queue) merge(e Event) bool {
	hit, ok := e.(LimitHit)
	if !ok {
		return false
	}
	for i := range q.n {
		at := &q.ring[(q.first+i)%len(q.ring)]
		if old, ok := (*at).(LimitHit); ok && old.Resource == hit.Resource {
			old.Count += hit.Count
			*at = old
			return true
		}
	}
	return false
}

func (q *queue) grow() {
	bigger := make([]Event, min(max(4, 2*len(q.ring)), q.most))
	for i := range q.n {
		bigger[i] = q.ring[(q.first+i)%len(q.ring)]
	}
	q.ring, q.first = bigger, 0
}

func (q *queue) pop() Event {
	e := q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) % len(q.ring)
	q.n--
	return e
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// finish makes next return err after the events that are queued, or at once.
func (q *queue) finish(err error, now bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.end = err
	}
	if now {
		q.end, q.now = err, true
		q.ring, q.n, q.lost = nil, 0, Lost{}
	}
	q.signal()
}

// next waits for the oldest event and takes it out.
func (q *queue) next(ctx context.Context) (Event, error) {
	for {
		if err := ctx.Err(); err != nil && !q.over() {
			return nil, err
		}
		if e, ok, err := q.take(); ok {
			return e, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
		}
	}
}

func (q *queue) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.now
}

// take is next without waiting; ok is false if there is nothing.
func (q *queue) take() (e Event, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.lost.N > 0:
		e, q.lost = q.lost, Lost{}
	case q.n > 0:
		e = q.pop()
	case q.end != nil:
		err = q.end
	default:
		return nil, false, nil
	}
	if q.n > 0 || q.end != nil {
		q.signal() // for the next reader
	}
	return e, true, err
}
