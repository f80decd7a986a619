// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/sys"
)

// grace is how long a cancelled Start waits for its killed child to die. Only a
// child that the kernel does not let die, frozen by a v1 freezer or in
// uninterruptible sleep, takes longer.
const grace = time.Second

// Child is a started program.
type Child struct {
	PID   int
	PIDFD *sys.FD // the caller's to close; Wait does not close it

	// Degraded lists the optional steps that the kernel refused, each a
	// *[StepError].
	Degraded []error
}

// Start runs the program, once where it has a stub, in a new child and returns once the child has called
// execve with success. It may be called from any goroutine, also one locked to
// its thread: the child is always born from an ordinary thread of the process
// and inherits that one's namespaces and credentials.
//
// When ctx ends first the child is killed and reaped, and the error wraps
// ctx.Err(). On every error the child is gone, but for StepError.Stuck.
//
// Errors are a *[StepError]. A kernel, or a seccomp filter over the caller,
// without clone3 or its flags gives one that wraps [ErrNotSupported]. A child
// killed while in execve itself may count as started; [Child.Wait] tells.
//
// Linux 5.9.
func (p *Program) Start(ctx context.Context) (*Child, error) { return p.StartOn(ctx, nil) }

// StartOn is Start with a say in the thread that the child is born from: on calls
// birth once, on a thread with the namespaces that the child is to inherit, and
// returns when that has. It is for those that a child in a new user namespace has
// no right to join. An error of on counts only if it did not call birth.
func (p *Program) StartOn(ctx context.Context, on func(birth func()) error) (*Child, error) {
	defer p.Close()
	f := newFlight(p)
	if err := ctx.Err(); err != nil {
		f.arena.free()
		return nil, &StepError{Step: p.text(0), Err: err}
	}
	go f.runOn(on)
	select {
	case <-f.done:
		c, err := f.land()
		if err == nil && p.report != nil {
			return p.report.wait(ctx, p, c)
		}
		return c, err
	case <-ctx.Done():
		return nil, f.cancel(ctx.Err())
	}
}

// flight is one start under way.
type flight struct {
	program *Program
	arena   *arena
	errno   uintptr       // of clone3
	attErr  error         // of attend
	lost    error         // there was no thread to be born from
	done    chan struct{} // the child has left our memory, all the above is final
	quit    chan struct{} // closed if the start is cancelled
}

func newFlight(p *Program) *flight {
	return &flight{program: p, arena: p.load(), done: make(chan struct{}), quit: make(chan struct{})}
}

func (f *flight) run() { f.runOn(nil) }

// runOn has the child born from a thread of on's choice.
func (f *flight) runOn(on func(birth func()) error) {
	defer close(f.done)
	if on == nil {
		f.birth()
		return
	}
	f.lost = errors.New("no thread to be born from")
	if err := on(func() { f.lost = nil; f.birth() }); f.lost != nil && err != nil {
		f.lost = err
	}
}

func (f *flight) birth() {
	p := f.program
	mapsFirst := p.crosses && p.maps != nil && os.Geteuid() != 0 // see dumpable_linux.go
	if p.crosses && !mapsFirst {
		holdDumpable()
		defer releaseDumpable()
	}
	if p.pidns >= 0 {
		f.errno, f.lost = vforkInto(p.pidns, f.arena.header())
		runtime.KeepAlive(f.arena)
		return
	}
	if p.maps == nil && p.word == nil {
		f.errno = vfork(f.arena.header())
		runtime.KeepAlive(f.arena)
		return
	}
	attended := make(chan bool, 1)
	go func() { attended <- f.attend(mapsFirst) }()
	h := f.arena.header()
	f.errno = vfork(h)
	// The child may have died, or never lived, without waking who attends to it.
	atomic.CompareAndSwapUint32(&h.index, 0, notBegun)
	futex(&h.index, futexWake, 1)
	if held := <-attended; held {
		releaseDumpable()
	}
}

// notBegun is an index that no step has: the child took none.
const notBegun = 1<<31 - 1

// land turns what the arena says into a Child or an error.
func (f *flight) land() (*Child, error) {
	defer f.arena.free()
	h, p := f.arena.header(), f.program
	if f.lost != nil {
		return nil, &StepError{Step: p.text(0), Err: f.lost}
	}
	if f.errno != 0 {
		return nil, &StepError{Step: p.text(0), Err: p.explain(cloneError(syscall.Errno(f.errno)))}
	}
	c := &Child{PID: int(h.pid), PIDFD: sys.NewFD(int(h.pidfd))}
	if f.attErr == nil && h.failed == 0 && int(h.index) == len(p.steps)-1 {
		c.Degraded = f.degraded()
		return c, nil
	}
	status, ended := c.Wait()
	err := f.failure(status, ended)
	if cerr := c.PIDFD.Close(); cerr != nil {
		return nil, errors.Join(err, cerr)
	}
	return nil, err
}

// failure says where and why the child ended.
func (f *flight) failure(status Status, waitErr error) *StepError {
	h, p := f.arena.header(), f.program
	index := int(h.index)
	if index == notBegun || index == 0 {
		index = 1
	}
	var cause error
	switch {
	case h.failed&unwanted != 0:
		cause = p.unwantedError(index, int(h.failed&^unwanted))
	case h.failed != 0:
		cause = refusedCall(p.steps[index-1].nr, p.explain(syscall.Errno(h.failed)))
		if index == p.overlaid {
			cause = p.refusedOverlay(cause)
		}
		if p.steps[index-1].nr == unix.SYS_EXECVEAT {
			cause = refusedStub(cause)
		}
	case f.attErr != nil && status.Signal == 0: // or it was killed, and therefore could not be attended to
		cause, index = f.attErr, p.waits+1
	case waitErr != nil:
		cause = waitErr
	default:
		cause = &Killed{status.Signal}
	}
	return &StepError{Index: index, Step: p.text(index), PID: int(h.pid), Err: cause}
}

// unwantedError explains a call whose success is a failure.
func (p *Program) unwantedError(index, result int) error {
	if st := p.steps[index-1]; st.nr == unix.SYS_RT_SIGTIMEDWAIT {
		return &Killed{syscall.Signal(result)}
	}
	return fmt.Errorf("short write of %d bytes", result)
}

func (f *flight) degraded() []error {
	var list []error
	for i, st := range f.arena.steps() {
		if st.errno == 0 || st.flags&flagQuiet != 0 || st.flags&flagFollows != 0 && st.errno == uint32(unix.EBADF) {
			continue
		}
		e := &StepError{Index: i + 1, Step: f.program.text(i + 1), PID: int(f.arena.header().pid)}
		if st.errno&unwanted != 0 {
			e.Err = f.program.unwantedError(i+1, int(st.errno&^unwanted))
		} else {
			e.Err = syscall.Errno(st.errno)
		}
		list = append(list, e)
	}
	return list
}

// cancel ends a flight whose context has ended.
func (f *flight) cancel(cause error) error {
	h := f.arena.header()
	atomic.StoreUint32(&h.abort, 1) // a child that runs takes no further step
	close(f.quit)
	index := int(atomic.LoadUint32(&h.index))
	down := make(chan *StepError, 1)
	go func() { down <- f.bringDown() }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case e := <-down:
		e.Err = cause
		return e
	case <-timer.C:
		index = min(max(index, 1), len(f.program.steps)-1)
		return &StepError{Index: index, Step: f.program.text(index), PID: int(atomic.LoadInt32(&h.pid)), Err: cause, Stuck: true}
	}
}

// bringDown kills the child and reaps it, however long that takes, and returns
// where it was.
func (f *flight) bringDown() *StepError {
	// clone3 may not have made the child yet. One that is born frozen would not
	// run to see abort, so it is looked for again.
	if !f.kill() {
		retry := time.NewTicker(10 * time.Millisecond)
		defer retry.Stop()
		for alive := true; alive; {
			select {
			case <-f.done:
				alive = false
			case <-retry.C:
				alive = !f.kill()
			}
		}
	}
	<-f.done
	if f.errno == 0 && f.lost == nil {
		f.kill() // it may have passed execve meanwhile
	}
	child, err := f.land()
	if child != nil {
		_, _ = child.Wait() // killed above; if somebody else reaps it, that does as well
		_ = child.PIDFD.Close()
	}
	var e *StepError
	if !errors.As(err, &e) {
		e = &StepError{Index: len(f.program.steps) - 1, PID: int(f.arena.header().pid)}
		e.Step = f.program.text(e.Index)
	}
	return e
}

// kill kills the child, which nobody has reaped yet, and reports whether there
// is one.
func (f *flight) kill() bool {
	h := f.arena.header()
	// The kernel writes pidfd before it knows whether clone3 succeeds, and pid
	// only after: without pid, pidfd may be a number that somebody else has.
	if atomic.LoadInt32(&h.pid) <= 0 {
		return false
	}
	_ = unix.PidfdSendSignal(int(atomic.LoadInt32(&h.pidfd)), unix.SIGKILL, nil, 0) // ESRCH: it is dead already
	return true
}

// futex sleeps while the word has this value, or wakes that many sleepers.
// Whatever ends the sleep, the caller looks at the word again.
func futex(word *uint32, op, value uintptr) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), op, value, 0, 0, 0)
}

// cloneError explains those errnos of clone3 that mean it is not there.
func cloneError(errno syscall.Errno) error {
	switch errno {
	case unix.ENOSYS:
		return &feature.UnsupportedError{Feature: "clone3", Since: "Linux 5.3",
			Reason: "this kernel, or a seccomp filter over this process, has no such call", Err: errno}
	case unix.EINVAL, unix.E2BIG:
		return &feature.UnsupportedError{Feature: "clone3", Since: "Linux 5.7",
			Reason: "this kernel does not know one of these flags or namespaces", Err: errno}
	}
	return errno
}
