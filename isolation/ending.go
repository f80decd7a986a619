// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
)

// young is how long after its start the end of a process is looked for by who waits
// for it, on the thread that he has. Later he is told by the engine: a thread for
// each who waits would be too many. But to be told is to have the engine's thread
// woken, and often a third one.
const young = 20 * time.Millisecond

// ending tells once, by calling fn, that the process of a pidfd has ended.
type ending struct {
	engine  *elastic.Engine
	lookout *lookout
	pidfd   *sys.FD   // not ours; it stays open until drop has returned
	until   time.Time // it is young
	fn      func()    // as [elastic.Engine.OnExit] has it

	mu      sync.Mutex
	cancel  func()        // the engine's
	looking chan struct{} // closed when the look that is under way is over; nil if none is
	over    bool          // fn was called, or must not be any more
}

// onExit arranges for fn to be called when the process, started at began, has ended.
func (d *nativeDriver) onExit(pidfd *sys.FD, began time.Time, fn func()) (*ending, error) {
	age := max(time.Since(began), 0) // somebody may have set the clock
	e := &ending{engine: d.engine, lookout: d.lookout, pidfd: pidfd, until: time.Now().Add(young - age), fn: fn}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e, e.listen()
}

// listen is called with mu held.
func (e *ending) listen() (err error) {
	e.cancel, err = e.engine.OnExit(e.pidfd.Int(), e.tell)
	return err
}

func (e *ending) tell() {
	e.mu.Lock()
	over := e.over
	e.over = true
	e.mu.Unlock()
	if !over {
		e.fn()
	}
}

// drop has fn not be called if it was not yet. It is safe to repeat, and on nil.
func (e *ending) drop() {
	if e == nil {
		return
	}
	e.mu.Lock()
	e.over = true
	looking := e.looking
	if e.cancel != nil {
		e.cancel()
	}
	e.mu.Unlock()
	if looking != nil {
		e.lookout.ring()
		<-looking
	}
}

// look waits for the end itself while the process is young, if nobody else of the
// host does so, and calls fn. It returns once ctx ends. Whether the process has ended
// is not its answer: fn tells.
func (e *ending) look(ctx context.Context) {
	if e == nil {
		return
	}
	left := time.Until(e.until)
	if left <= 0 || ctx.Err() != nil || !e.lookout.enter() {
		return
	}
	e.mu.Lock()
	if e.over || e.looking != nil {
		e.mu.Unlock()
		e.lookout.leave()
		return
	}
	e.cancel() // or the engine's thread would wake too
	e.looking = make(chan struct{})
	e.mu.Unlock()

	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, e.lookout.ring)()
	}
	ended := launch.AwaitExit(e.pidfd.Int(), e.lookout.bell.Int(), left)
	e.lookout.leave()

	e.mu.Lock()
	close(e.looking)
	e.looking = nil
	if !e.over && !ended {
		if err := e.listen(); err != nil && !errors.Is(err, os.ErrClosed) {
			e.alone()
		}
	}
	e.mu.Unlock()
	if ended {
		e.tell()
	}
}

// alone waits on a thread of its own, where the kernel has no room for one more
// entry of the engine's. It is called with mu held.
func (e *ending) alone() {
	pidfd, err := e.pidfd.Dup()
	if err != nil {
		return
	}
	go func() {
		for !launch.AwaitExit(pidfd.Int(), -1, time.Hour) {
			continue
		}
		_ = pidfd.Close()
		e.tell()
	}()
}

// lookout is for one at a time who waits for the end of a process by himself: so a
// host has one thread more at the most, however many wait.
type lookout struct {
	bell *sys.FD // an eventfd that ends the look

	mu     sync.Mutex
	busy   bool
	rung   bool
	closed bool
}

func newLookout() (*lookout, error) {
	bell, err := sys.NewEventFD()
	if err != nil {
		return nil, err
	}
	return &lookout{bell: bell}, nil
}

// enter reports whether it is free, and then takes it.
func (l *lookout) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.closed {
		return false
	}
	l.busy = true
	return true
}

func (l *lookout) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	if l.rung {
		l.rung = false
		_, _ = sys.DrainEventFD(l.bell) // or the next one ends at once, which is no harm
	}
	if l.closed {
		_ = l.bell.Close()
	}
}

// ring ends the look that is under way, whoever's: he is told by the engine then.
func (l *lookout) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy && !l.rung {
		l.rung = sys.RingEventFD(l.bell) == nil
	}
}

// close frees the descriptor, or leaves that to who is about to look.
func (l *lookout) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.busy {
		return nil
	}
	return l.bell.Close()
}
