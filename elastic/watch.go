// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/poll"
)

// WatchConfig says what to watch. Either Cgroup or Root must be given.
type WatchConfig struct {
	// Cgroup is the group to watch. It must stay open until the watch is
	// closed.
	Cgroup *cgroups.Cgroup

	// Root instead of Cgroup watches the pressure on the whole machine.
	Root *cgroups.Root

	Pressure  []Threshold // in any order; [Pressure] events
	Memory    bool        // [OOM] and [LimitHit] events of memory
	PIDs      bool        // [LimitHit] events of pids.max
	Populated bool        // [Populated] and [Frozen] events

	// Capacity is how many events wait for a slow reader before the oldest
	// are dropped and counted in a [Lost]. 0 means 64.
	Capacity int
}

const defaultCapacity = 64

func (c WatchConfig) validate() error {
	invalid := func(field, value, reason string) error {
		return &cgroups.InvalidError{Field: field, Value: value, Reason: reason}
	}
	var errs []error
	if (c.Cgroup == nil) == (c.Root == nil) {
		errs = append(errs, invalid("watch", "", "needs either a cgroup or a root"))
	}
	if c.Root != nil && (c.Memory || c.PIDs || c.Populated) {
		errs = append(errs, invalid("watch", "root", "the machine has no events but pressure"))
	}
	if c.Capacity < 0 {
		errs = append(errs, invalid("watch capacity", strconv.Itoa(c.Capacity), "negative"))
	}
	for _, t := range c.Pressure {
		errs = append(errs, t.Validate())
		if c.Root != nil && t.Full && t.Resource == cgroups.PressureCPU {
			errs = append(errs, invalid("threshold", "full cpu", "the kernel does not define it for the machine: something always runs"))
		}
	}
	return errors.Join(errs...)
}

// Watch is a reader of the events of one group, or of the machine. Its methods
// may be called from any goroutine.
type Watch struct {
	engine *Engine
	source source
	queue  *queue

	mu       sync.Mutex // held by whatever the engine does with the watch
	stopped  bool
	gauges   []*gauge
	counters counters
	removal  *poll.Removal
}

// Watch begins to watch. Only what happens from now on becomes an event; what
// is already so (populated, frozen) does not.
//
// Everything that cfg asks for is watched, or nothing is and the error says
// why: one that matches [cgroups.ErrInvalid] for a cfg that makes no sense,
// [cgroups.ErrNotSupported] for what this kernel or layout lacks,
// [cgroups.ErrGone] if the group was removed, [os.ErrClosed] after Close.
func (e *Engine) Watch(cfg WatchConfig) (*Watch, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	var s source
	if cfg.Cgroup != nil {
		s = &group{Cgroup: cfg.Cgroup}
	} else {
		s = machine{cfg.Root}
	}
	return e.watch(s, cfg)
}

func (e *Engine) watch(s source, cfg WatchConfig) (*Watch, error) {
	if cfg.Capacity == 0 {
		cfg.Capacity = defaultCapacity
	}
	w := &Watch{engine: e, source: s, queue: newQueue(cfg.Capacity)}
	w.mu.Lock() // what becomes ready waits until all is there
	defer w.mu.Unlock()
	err := e.enter(w)
	if err == nil {
		err = w.open(cfg)
	}
	if err != nil {
		w.release()
		return nil, err
	}
	return w, nil
}

// open begins everything. The caller holds mu, and releases all if it fails.
func (w *Watch) open(cfg WatchConfig) error {
	if fd, name, ok := w.source.directory(); ok {
		removed, err := w.engine.removals()
		if err != nil {
			return err
		}
		if w.removal, err = removed.Add(fd, name, w.look); err != nil {
			return err
		}
		// From here on a removal is told, but it may have been before.
		if err := w.source.alive(); err != nil {
			return err
		}
	}
	if err := w.openCounters(cfg); err != nil {
		return err
	}
	for _, t := range cfg.Pressure {
		if err := w.openThreshold(t); err != nil {
			return err
		}
	}
	for _, g := range w.gauges {
		w.engine.schedule(&g.beat, g.period(w.engine.now()))
	}
	return nil
}

// Next waits for the next event. Events come in the order in which they were
// noticed.
//
// Returns ctx's error when it ends, [os.ErrClosed] once the watch or its engine
// is closed, and [io.EOF] after [Gone].
func (w *Watch) Next(ctx context.Context) (Event, error) { return w.queue.next(ctx) }

// Pending yields what has happened so far and was not read, without waiting. It
// looks at the counters once more, so that what a process did before it ended
// is there after its end was noticed.
func (w *Watch) Pending() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		w.look()
		for {
			e, ok, err := w.queue.take()
			if !ok || err != nil || !yield(e) {
				return
			}
		}
	}
}

// Post adds an event of the caller's own to those that Next gives. After the end
// of the watch it does nothing.
func (w *Watch) Post(e Event) { w.queue.put(e) }

// Close ends the watch; whoever waits in Next gets [os.ErrClosed], and what was
// not read is gone. Closing twice is nil.
func (w *Watch) Close() error {
	w.stop(os.ErrClosed)
	return nil
}

func (w *Watch) stop(err error) {
	// First, since whatever holds mu may be about to put events.
	w.queue.finish(err, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release()
}

// release ends everything that was begun. The caller holds mu.
func (w *Watch) release() {
	if w.stopped {
		return
	}
	w.stopped = true
	for _, g := range w.gauges {
		w.closeGauge(g)
	}
	w.gauges = nil
	w.closeCounters()
	if w.removal != nil {
		if removed, err := w.engine.removals(); err == nil { // else it went with the engine
			removed.Remove(w.removal)
		}
	}
	w.engine.leave(w)
}

// put queues an event. The caller holds mu.
func (w *Watch) put(e Event) { w.queue.put(e) }

// look finds out what has happened, without knowing that anything has.
func (w *Watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if err := w.source.alive(); errors.Is(err, cgroups.ErrGone) {
		w.gone()
		return
	}
	w.count()
}

// gone ends the watch of a group that was removed. The caller holds mu. Who reads
// the end finds everything let go.
func (w *Watch) gone() {
	w.put(Gone{Time: time.Now()})
	w.release()
	w.queue.finish(io.EOF, false)
}

// listen makes fn run, with mu held and n acknowledged, whenever n is ready; err
// is what Ack said. The caller holds mu.
func (w *Watch) listen(n notifier, fn func(err error)) (poll.Token, error) {
	return w.engine.add(n.FD(), poll.Events(n.PollEvents()), func(poll.Events) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.stopped {
			return
		}
		err := n.Ack()
		if errors.Is(err, os.ErrClosed) {
			return // it was closed on its own
		}
		fn(err)
	})
}

// silence undoes listen and closes n.
func (w *Watch) silence(n notifier, t poll.Token) {
	if t != 0 {
		_ = w.engine.poller.Remove(t)
	}
	_ = n.Close()
}

// failed ends the watch if err says that the group is gone; otherwise it reports
// what cannot be watched any more, and the caller lets go of it. The caller
// holds mu.
func (w *Watch) failed(what string, err error) {
	if errors.Is(err, cgroups.ErrGone) {
		w.gone()
		return
	}
	w.put(Failed{Time: time.Now(), What: what, Err: err})
}
