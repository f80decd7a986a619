// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/caisson-run/caisson/internal/poll"
)

// Engine turns what the kernel says about groups and processes into events. One
// goroutine, on one thread, serves all of them; it starts with the first watch,
// and sleeps while nothing happens. What is sampled is so on a goroutine of its own, in
// turns with that one, which exists while it works.
//
// It is safe for concurrent use.
type Engine struct {
	poller *poll.Poller
	above  above     // of functions that the poller calls
	epoch  time.Time // what moments are relative to
	start  sync.Once

	mu      sync.Mutex
	closed  bool
	watches map[*Watch]struct{}
	beats   map[*beat]struct{} // those that are running
	armed   time.Duration      // what the timer is set to; 0 if it is not
	due     []*beat            // scratch of tick
	removed *poll.Removals     // nil until a group is watched
	writes  *poll.Writes       // nil until the first OnWrite
}

// NewEngine makes an engine. It holds two descriptors until it is closed, and
// a thread from the first watch on.
//
// Returns [cgroups.ErrNotSupported] on other systems than Linux.
func NewEngine() (*Engine, error) {
	e := &Engine{
		epoch:   time.Now(),
		watches: make(map[*Watch]struct{}),
		beats:   make(map[*beat]struct{}),
	}
	var err error
	if e.poller, err = poll.New(e.tick); err != nil {
		return nil, err
	}
	return e, nil
}

// now is a moment: the monotonic time since the engine was made.
func (e *Engine) now() time.Duration { return time.Since(e.epoch) }

// add makes fn run on the engine's goroutine when fd is ready.
func (e *Engine) add(fd int, events poll.Events, fn func(poll.Events)) (poll.Token, error) {
	e.begin()
	return e.poller.Add(fd, events, fn)
}

// begin starts the goroutine, once there is something to wait for.
func (e *Engine) begin() { e.start.Do(func() { go e.run() }) }

func (e *Engine) run() {
	for {
		if err := e.poller.Wait(); err != nil {
			_ = e.stop(err)
			return
		}
	}
}

// OnExit calls fn once, when the process of a pidfd has ended (and is not
// necessarily reaped yet): at once if it has already. cancel prevents a call
// that has not begun, and does not wait for one that has; it may be called at
// any time, and again.
//
// The pidfd stays the caller's and must stay open until fn is called or cancel
// has returned. fn runs on the engine's goroutine, where it must not block: all
// events of all watches wait for it.
//
// Returns [os.ErrClosed] after Close; fn is not called then, nor if the engine
// is closed before the process ends. Linux 5.3.
func (e *Engine) OnExit(pidfd int, fn func()) (cancel func(), err error) {
	t, err := e.add(pidfd, poll.In|poll.Once, func(poll.Events) { fn() })
	if err != nil {
		return nil, err
	}
	return func() { _ = e.poller.Remove(t) }, nil
}

// Close ends the engine and all its watches; whoever waits in [Watch.Next] gets
// [os.ErrClosed]. No function of OnExit begins after it; it does not wait for
// one that runs, and may be called from one. Closing twice is nil.
func (e *Engine) Close() error { return e.stop(os.ErrClosed) }

// stop closes the engine; its watches end with err.
func (e *Engine) stop(err error) error {
	e.mu.Lock()
	e.closed = true
	watches, removed, writes := e.watches, e.removed, e.writes
	e.watches, e.removed, e.writes = nil, nil, nil
	e.mu.Unlock()
	for w := range watches {
		w.stop(err)
	}
	closing := e.poller.Close()
	if removed != nil {
		closing = errors.Join(closing, removed.Close())
	}
	if writes != nil {
		closing = errors.Join(closing, writes.Close())
	}
	return closing
}

// enter takes w among the watches.
func (e *Engine) enter(w *Watch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return os.ErrClosed
	}
	e.watches[w] = struct{}{}
	return nil
}

// leave is for a watch that has ended.
func (e *Engine) leave(w *Watch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watches, w)
}

// removals returns what tells of removed groups, opening it for the first.
func (e *Engine) removals() (*poll.Removals, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, os.ErrClosed
	}
	if e.removed == nil {
		r, err := poll.NewRemovals()
		if err != nil {
			return nil, err
		}
		if _, err := e.add(r.FD(), poll.In, func(poll.Events) { r.Read() }); err != nil {
			return nil, errors.Join(err, r.Close())
		}
		e.removed = r
	}
	return e.removed, nil
}

// A beat is a function that the engine calls periodically.
type beat struct {
	fn     func()
	period time.Duration // 0: it does not run
	next   time.Duration
}

// schedule makes b run each period from now on, or stops it if period is 0.
// Beats fall on multiples of their period, so that those of equal or divisible
// periods share their wake-ups.
func (e *Engine) schedule(b *beat, period time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.period == period || e.closed && period != 0 {
		return
	}
	b.period = period
	if period == 0 {
		delete(e.beats, b)
		return // the timer runs out once more, at most
	}
	e.begin()
	b.next = after(e.now(), period)
	e.beats[b] = struct{}{}
	e.arm(b.next)
}

// after is the next multiple of period.
func after(now, period time.Duration) time.Duration { return (now/period + 1) * period }

// arm makes the timer run out at next, if it would not sooner. The caller holds
// mu.
func (e *Engine) arm(next time.Duration) {
	if e.armed == 0 || next < e.armed {
		e.armed = next
		_ = e.poller.Arm(max(next-e.now(), 1)) // it fails only once closed
	}
}

// tick runs the beats that are due, while the engine's goroutine does nothing.
func (e *Engine) tick() {
	e.mu.Lock()
	now := e.now()
	due := e.due[:0]
	for b := range e.beats {
		if b.next <= now {
			b.next = after(now, b.period)
			due = append(due, b)
		}
	}
	e.mu.Unlock()
	e.above.tick++
	for _, b := range due {
		b.fn()
	}
	clear(due)

	e.mu.Lock()
	defer e.mu.Unlock()
	e.due = due
	e.armed = 0
	soonest := time.Duration(0)
	for b := range e.beats {
		if soonest == 0 || b.next < soonest {
			soonest = b.next
		}
	}
	if soonest != 0 {
		e.arm(soonest)
	}
}
