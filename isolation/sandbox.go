// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// Sandbox is one sandbox of a [Host]. It is safe for concurrent use; changes to
// it happen one after the other.
type Sandbox struct {
	id     string
	host   *Host
	driver Driver
	busy   chan struct{} // holds a token while a change is under way
	c      *Container
	around []Isolator // what the host makes around the container
	gone   bool       // destroyed, or never made; guarded by busy
	dead   bool       // destroyed but for its record; guarded by busy

	watching watching

	pending    atomic.Pointer[context.CancelCauseFunc] // ends the start or the update under way
	finishing  atomic.Pointer[finishing]               // Destroy goes on without a caller
	destroying atomic.Int32                            // calls of Destroy
	reported   atomic.Pointer[reported]
	starting   starting
	telling    atomic.Bool // somebody watches, and tells the journal
}

func newSandbox(h *Host, d Driver, rec *record) *Sandbox {
	s := &Sandbox{
		id: rec.first.ID, host: h, driver: d, busy: make(chan struct{}, 1),
		c: &Container{Spec: rec.spec.Clone(), record: rec, groups: h.native.groups},
	}
	s.around = h.native.around(d)
	s.c.watched = s.watchDrift
	s.c.ended = s.noteExit
	s.c.settled = func(ctx context.Context) error {
		err := s.acquire(ctx)
		if err == nil {
			s.release()
		}
		return err
	}
	return s
}

// acquire waits for its turn to change the sandbox.
func (s *Sandbox) acquire(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another change of the sandbox: %w", context.Cause(ctx))
	}
}

func (s *Sandbox) release() { <-s.busy }

// make creates the sandbox: the record of intent, what the driver makes, and
// the word that it is whole; or nothing of it.
func (s *Sandbox) make(ctx context.Context) error {
	err := s.c.record.create(s.host.dir)
	if err != nil {
		return s.host.unrecorded(s.id, err)
	}
	if err = s.build(ctx); err == nil {
		if err = s.c.record.add(entry{Phase: phaseCreated}); err == nil {
			return nil
		}
		err = errors.Join(err, s.raze(context.WithoutCancel(ctx)))
	}
	return errors.Join(err, s.c.record.remove())
}

// change runs one change of the sandbox: alone in this process, and alone on
// the state directory.
func (s *Sandbox) change(ctx context.Context, op string, do func() error) error {
	err := func() error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// In this order, which is that of Create: two who wait for each other's
		// would wait for ever.
		unlock, err := s.host.lock.operation(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		return s.turn(ctx, op, do)
	}()
	return wrap(op, s.id, err)
}

// turn runs one change of the sandbox alone in this process, for who has the state
// directory for it.
func (s *Sandbox) turn(ctx context.Context, op string, do func() error) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	if s.gone || s.dead && op != "destroy" {
		return ErrNotFound
	}
	if err := s.refresh(); err != nil {
		return err
	}
	s.c.record.shorten()
	if s.host.cfg.Shared && op != "destroy" {
		// Who holds the turn now has found what another process left.
		if _, err := s.conclude(ctx); err != nil {
			return err
		}
	}
	return do()
}

// refresh takes over what other processes changed, where there may be some.
func (s *Sandbox) refresh() error {
	if !s.host.cfg.Shared {
		return nil
	}
	rec, err := loadRecord(s.host.dir, s.id)
	if errors.Is(err, fs.ErrNotExist) {
		s.gone = true
		s.host.leave(s)
		return ErrNotFound
	}
	if rec == nil {
		return err
	}
	rec.steady(s.host.clock)
	err = errors.Join(err, s.c.record.replace(rec))
	if err == nil {
		s.c.Spec.Resources, s.c.Spec.Network = rec.spec.Resources, rec.spec.Network
		s.host.leases.arm(s, rec.ends())
	}
	return err
}

// sameSpec reports whether the sandbox lives on once its present change is
// over, and fails with [ErrExists] if it does with another spec than asked.
func (s *Sandbox) sameSpec(ctx context.Context, asked Spec) (lives bool, err error) {
	if err := s.acquire(ctx); err != nil {
		return false, err
	}
	defer s.release()
	if s.gone {
		return false, nil
	}
	if s.dead {
		return true, &StateError{State: StateDestroying, Reason: "its record is still there: destroy it again"}
	}
	if fields := s.c.record.asked().differs(asked); len(fields) > 0 {
		return true, fmt.Errorf("%w: another %s", ErrExists, strings.Join(fields, ", "))
	}
	return true, nil
}

// ID is the sandbox's name on its host.
func (s *Sandbox) ID() string { return s.id }

// Labels are those of the spec.
func (s *Sandbox) Labels() map[string]string { return maps.Clone(s.c.Spec.Labels) }

// Spec is what the sandbox is to be, with the resources that hold.
func (s *Sandbox) Spec() Spec { return s.c.record.current() }

// Cgroup is the sandbox's group, for what this package does not offer; nil
// where the driver has none. It is the sandbox's: do not close or remove it. Limits
// that are changed there are [Drift] to the host, which undoes them if its
// [DriftPolicy] says so: [Sandbox.Update] is the way to change them.
func (s *Sandbox) Cgroup() *cgroups.Cgroup { return s.c.Cgroup() }

// Start starts the process. files become its descriptors 0, 1, 2 and so on;
// missing or nil ones among the first three are /dev/null, and the caller
// keeps its own. As os/exec does, the first three are made blocking, for the caller
// as well ([os.File.Fd]): most programs know no others. Of those that are pipes the
// mode is widened, so that the process can open them again as /dev/stdout or
// /dev/stderr, whoever it runs as. If it fails, the sandbox is as before and may be
// started again; an error of a launch step is a [StepError] that names the step.
//
// A ctx that ends before Start returns ends the process too, even if it has
// begun its work: who does not want that gives context.WithoutCancel(ctx). Destroy
// does not wait for a start either, but ends it. A sandbox that is frozen is a
// [StateError].
//
// A sandbox is started once. To have it run again it is destroyed and created anew, and
// its log goes with it: what is to outlive it is read before.
func (s *Sandbox) Start(ctx context.Context, files ...*os.File) error {
	return s.change(ctx, "start", func() error {
		d, ok := s.driver.(Starter)
		if !ok {
			return s.lacks("start")
		}
		return s.yielding(ctx, "start", func(ctx context.Context) error {
			s.starting.begin()
			err := s.run(ctx, d, files)
			s.noteStart(err)
			return err
		})
	})
}

// Wait waits for the end of the first process and returns how it ended. It may
// be called by many and again. When ctx ends first, its cause is returned.
func (s *Sandbox) Wait(ctx context.Context) (ExitStatus, error) {
	d, ok := s.driver.(Waiter)
	if !ok {
		return ExitStatus{}, wrap("wait", s.id, s.lacks("wait"))
	}
	st, err := d.Wait(ctx, s.c)
	return st, wrap("wait", s.id, err)
}

// Signal sends sig to the first process, which is the first of its pid namespace, too,
// unless the spec has the machine's: without [Process.Reaper] a SIGTERM that it has no
// handler for does not reach it.
func (s *Sandbox) Signal(ctx context.Context, sig syscall.Signal) error {
	d, ok := s.driver.(Signaler)
	if !ok {
		return wrap("signal", s.id, s.lacks("signal"))
	}
	return wrap("signal", s.id, d.Signal(ctx, s.c, sig))
}

// Freeze stops every process of the sandbox, and returns once all are stopped. As
// every change it waits for its turn: a memory limit that comes down in steps may
// take seconds, and ends with that update's context. Who cannot wait freezes the
// group itself, by [Sandbox.Cgroup], which no update holds up.
func (s *Sandbox) Freeze(ctx context.Context) error {
	return s.change(ctx, "freeze", func() error {
		d, ok := s.driver.(Freezer)
		if !ok {
			return s.lacks("freeze")
		}
		if st, err := s.driver.Check(ctx, s.c); err == nil && st.Frozen {
			return s.noted("freeze", d.Freeze(ctx, s.c)) // there is nothing to take back
		}
		err := s.during(entry{Act: actFreeze}, func() error { return d.Freeze(ctx, s.c) })
		return s.noted("freeze", err)
	})
}

// Thaw lets a frozen sandbox go on.
func (s *Sandbox) Thaw(ctx context.Context) error {
	return s.change(ctx, "thaw", func() error {
		d, ok := s.driver.(Freezer)
		if !ok {
			return s.lacks("thaw")
		}
		return s.noted("thaw", s.during(entry{Act: actThaw}, func() error { return d.Thaw(ctx, s.c) }))
	})
}

// Plan is what Update would do with r now: every write, in order, and why
// there. Nothing is written.
func (s *Sandbox) Plan(r cgroups.Resources) (cgroups.Plan, error) {
	d, ok := s.driver.(Updater)
	if !ok {
		return cgroups.Plan{}, wrap("plan", s.id, s.lacks("plan"))
	}
	if err := s.c.record.claims().conflict(knobs(r), math.MinInt); err != nil {
		return cgroups.Plan{}, wrap("plan", s.id, err)
	}
	plan, err := d.Plan(s.c, r)
	return plan, wrap("plan", s.id, err)
}

// noted writes an entry if err is nil, which it returns.
func (s *Sandbox) noted(event string, err error) error {
	if err == nil {
		s.note(JournalEntry{Event: event})
	}
	return err
}

// Stat measures the sandbox into st, without allocating once st is warm.
func (s *Sandbox) Stat(st *cgroups.Stats) error {
	d, ok := s.driver.(Statter)
	if !ok {
		return wrap("stat", s.id, s.lacks("stat"))
	}
	if err := d.Stat(s.c, st); err != nil {
		return wrap("stat", s.id, err)
	}
	return nil
}

// Watch tells what happens to the sandbox, in order, until it is destroyed,
// its process has ended, the host is closed or ctx ends: pressure above each of
// the given thresholds (none given: [DefaultThresholds]), lack of memory, limits
// hit, limits that somebody else has changed, and the exit as the last event.
// Events that the consumer was too slow for
// are counted in a [Lost]; none is lost silently. An error ends the sequence.
func (s *Sandbox) Watch(ctx context.Context, pressure ...elastic.Threshold) iter.Seq2[Event, error] {
	d, ok := s.driver.(Watcher)
	if !ok {
		return failed(wrap("watch", s.id, s.lacks("watch")))
	}
	if len(pressure) == 0 {
		pressure = DefaultThresholds()
	}
	return func(yield func(Event, error) bool) {
		// Of several who watch, one tells the journal.
		if s.telling.CompareAndSwap(false, true) {
			defer s.telling.Store(false)
			yield = s.tell(yield)
		}
		for ev, err := range d.Watch(ctx, s.c, pressure) {
			if !yield(ev, wrap("watch", s.id, err)) {
				return
			}
		}
	}
}

// tell is yield that tells the journal first.
func (s *Sandbox) tell(yield func(Event, error) bool) func(Event, error) bool {
	return func(ev Event, err error) bool {
		if err == nil {
			s.noteEvent(ev)
		}
		return yield(ev, err)
	}
}

// Check tells the truth about the sandbox, as it is now.
func (s *Sandbox) Check(ctx context.Context) (Status, error) {
	st, err := s.driver.Check(ctx, s.c)
	if errors.Is(err, fs.ErrClosed) {
		err = s.host.released(err) // beside a Destroy, or a Close
	}
	if err != nil {
		return Status{}, wrap("check", s.id, err)
	}
	rec := s.c.record.current()
	st.ID, st.Labels, st.Driver = s.id, rec.Labels, cmp.Or(rec.Driver, nativeName)
	st.CreatedAt = s.c.record.created
	if s.c.record.at() == phaseDestroying {
		st.State = StateDestroying
	}
	st.Drift, st.Claims, st.Narrowed = s.driftNow(), s.claims(), s.narrowedNow()
	return st, nil
}

// Destroy ends every process of the sandbox and leaves nothing of it. It may
// be repeated. See [Host.Destroy].
func (s *Sandbox) Destroy(ctx context.Context) error {
	if f := s.finishing.Load(); f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return f.err
		}
	}
	begun, err := s.destroy(ctx)
	if err != nil && begun && ctx.Err() != nil {
		s.finishLater(err)
	}
	return err
}

// destroy reports whether it has begun to end the sandbox.
func (s *Sandbox) destroy(ctx context.Context) (begun bool, err error) {
	s.destroying.Add(1)
	defer s.destroying.Add(-1)
	if cancel := s.pending.Load(); cancel != nil {
		(*cancel)(errDestroyed)
	}
	err = s.change(ctx, "destroy", func() error {
		begun = true
		if err := s.end(ctx); err != nil {
			return err
		}
		if err := s.c.record.remove(); err != nil {
			return err
		}
		s.gone = true
		s.host.leave(s)
		s.note(JournalEntry{Event: "destroy"})
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return begun, nil
	}
	return begun, err
}

// end leaves nothing of the sandbox but its record.
func (s *Sandbox) end(ctx context.Context) error {
	if s.dead {
		return nil
	}
	// A full disk must not keep a sandbox alive: without the line, a crash now is
	// one while it was whole, which Open finds out too.
	_ = s.c.record.add(entry{Phase: phaseDestroying})
	if s.driver == Driver(s.host.adopted) { // it lives on
		if err := s.unclaimed(ctx); err != nil {
			return err
		}
	}
	if err := s.raze(ctx); err != nil {
		return err
	}
	s.dead = true
	return nil
}

var errDestroyed error = &StateError{State: StateDestroying, Reason: "it is being destroyed meanwhile"}

// yielding has do done with a ctx that Destroy ends, so that this does not wait for it.
func (s *Sandbox) yielding(ctx context.Context, op string, do func(ctx context.Context) error) error {
	ending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.pending.Store(&cancel)
	defer s.pending.Store(nil)
	if s.destroying.Load() > 0 {
		return errDestroyed
	}
	err := do(ending)
	if err != nil && ending.Err() != nil && ctx.Err() == nil {
		err = &Error{Op: op, ID: s.id, Err: fmt.Errorf("%w: %w", errDestroyed, err)}
	}
	return err
}

// close frees what this process holds for the sandbox.
func (s *Sandbox) close() error {
	s.busy <- struct{}{}
	defer s.release()
	if s.gone {
		return nil
	}
	var err error
	if d, ok := s.driver.(Releaser); ok {
		err = d.Release(s.c)
	}
	err = errors.Join(err, s.leaveAround())
	// How its process ended may have been told, and not written down yet.
	return errors.Join(err, s.c.record.flush(), s.c.record.close())
}

func (s *Sandbox) lacks(what string) error {
	if s.driver == Driver(s.host.adopted) {
		return &UnsupportedError{Feature: what, Reason: "the container was adopted: its life is its owner's"}
	}
	if _, ungrouped := s.driver.(ungroupedDriver); ungrouped {
		return s.host.groupless(what)
	}
	return &UnsupportedError{Feature: what, Reason: fmt.Sprintf("the driver of sandbox %q does not offer it", s.id)}
}
