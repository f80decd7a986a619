// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/caisson-run/caisson/internal/linux"
)

// Do calls fn once on a thread that is in the given namespaces, and in the
// process's own of every other kind, and returns what fn returned. With no
// namespace it only calls fn. Handles must stay open until Do returns.
//
// Only fn itself runs there: goroutines that it starts do not, and a Do inside
// fn begins again from the process's namespaces. What fn opens (sockets above
// all) stays in the namespace wherever it is used later, which is often all
// that has to be done inside. A pid namespace holds for the children that fn
// starts, not for fn. In a mount namespace the root and working directory are
// the root of that namespace.
//
// fn cannot be interrupted. If it panics, Do panics with a [*Panic]; if it calls
// [runtime.Goexit], as the FailNow of a test does, so does Do. Before either,
// the thread is brought back or ended.
//
// Errors: [*InvalidError] if two handles are of one kind; [os.ErrClosed] if a
// handle is closed; [*UnsupportedError] for a user or time namespace, which
// the kernel refuses to threads; [*EnterError] if a namespace refuses, matching
// [os.ErrPermission] without CAP_SYS_ADMIN (CAP_SYS_CHROOT as well for a mount
// namespace). fn was called in none of these. [*LeaveError] if fn was called,
// but the thread could not be brought back and was ended.
//
// setns(2).
func Do(fn func() error, in ...*Handle) error { return do(fn, in, linux.Setns) }

// do is Do with the system call as a parameter, for the tests.
func do(fn func() error, in []*Handle, setns func(fd, flag int) error) error {
	if err := check(in); err != nil {
		return err
	}
	v := &visit{in: in, setns: setns}
	onThread(func() (clean bool) { return v.run(fn) })
	switch {
	case v.panicked != nil:
		panic(v.panicked)
	case v.exited:
		runtime.Goexit()
	}
	return v.err
}

func check(in []*Handle) error {
	var seen Kinds
	for _, h := range in {
		if h == nil {
			return &InvalidError{Field: "namespace", Value: "nil", Reason: "no handle"}
		}
		if h.FD() < 0 {
			return &EnterError{ID: h.ID(), Err: os.ErrClosed}
		}
		kind := h.Kind()
		switch {
		case seen.Has(kind):
			return &InvalidError{Field: "namespace", Value: h.String(), Reason: "a second one of its kind"}
		case kind == User, kind == Time:
			return &UnsupportedError{Feature: "enter " + h.String(),
				Reason: "the kernel lets only processes with a single thread change their " + kind.String() + " namespace"}
		}
		seen = seen.With(KindsOf(kind))
	}
	return nil
}

// onThread calls f in a new goroutine that is locked to a thread other than the
// first of the process, and returns when that goroutine is done with it. Unless
// f returns true, the thread ends with the goroutine.
func onThread(f func() bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if linux.OnMainThread() {
			// The runtime parks this thread for ever instead of ending it, in
			// whatever namespace it is. While this goroutine keeps it locked, the
			// next one is surely elsewhere.
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		if f() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// visit is one call of Do, seen from its thread.
type visit struct {
	in    []*Handle
	setns func(fd, flag int) error

	err      error
	panicked *Panic
	exited   bool // fn ended its goroutine
}

// run reports whether the thread is as it was before.
func (v *visit) run(fn func() error) (clean bool) {
	home, err := v.enter()
	defer func() {
		for _, h := range home {
			_ = h.Close()
		}
	}()
	if err != nil {
		v.err = err
		return v.leave(home) == nil && !v.throwAway()
	}
	v.exited = true
	defer func() {
		if v.exited {
			_ = v.leave(home)
		}
	}()
	v.call(fn)
	v.exited = false
	if err := v.leave(home); err != nil {
		err.Result = v.err
		v.err = err
		return false
	}
	return !v.throwAway()
}

func (v *visit) call(fn func() error) {
	defer func() {
		if value := recover(); value != nil {
			v.panicked = &Panic{Value: value, Stack: debug.Stack()}
		}
	}()
	v.err = fn()
}

// throwAway reports whether the thread cannot be made what it was: a thread in
// another mount namespace no longer shares root and working directory with the
// rest of the process.
func (v *visit) throwAway() bool {
	for _, h := range v.in {
		if h.Kind() == Mount {
			return true
		}
	}
	return false
}

// enter returns handles on the namespaces that the thread has left, in order.
func (v *visit) enter() (home []*Handle, err error) {
	// All are opened before the first is left, for /proc may be another inside.
	own := make([]*Handle, 0, len(v.in))
	defer func() {
		for _, h := range own[len(home):] {
			_ = h.Close()
		}
	}()
	for _, h := range v.in {
		o, err := Current(h.Kind())
		if err != nil {
			return nil, &EnterError{ID: h.ID(), Err: err}
		}
		own = append(own, o)
	}
	if v.throwAway() {
		if err := linux.UnshareFS(); err != nil {
			return nil, &EnterError{ID: v.in[0].ID(), Err: err}
		}
	}
	for i, h := range v.in {
		if err := v.setns(h.FD(), int(h.Kind().Flag())); err != nil {
			return own[:i], &EnterError{ID: h.ID(), Err: err}
		}
	}
	return own, nil
}

// leave enters the namespaces of home again, all that it can. A mount namespace
// is left by ending the thread: its root could not be brought back.
func (v *visit) leave(home []*Handle) (failed *LeaveError) {
	for _, h := range home {
		if h.Kind() == Mount {
			continue
		}
		if err := v.setns(h.FD(), int(h.Kind().Flag())); err != nil && failed == nil {
			failed = &LeaveError{ID: h.ID(), Err: err}
		}
	}
	return failed
}
