// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/supervise"
	"github.com/caisson-run/caisson/internal/sys"
)

// listen arranges for the end of the first process to be noticed.
func (d *nativeDriver) listen(c *Container, b *box) error {
	end, err := d.onExit(b.pidfd, b.saved.StartedAt, func() { d.exited(c, b) })
	b.mu.Lock()
	b.end = end
	b.mu.Unlock()
	return err
}

// exited runs once, on the engine's goroutine or one that waits, and does not block.
func (d *nativeDriver) exited(c *Container, b *box) {
	st := ExitStatus{At: time.Now()}
	child := b.child
	if child == nil {
		// It may be this process's all the same, by a host that was closed.
		child = &launch.Child{PIDFD: b.pidfd}
	}
	end, ended, err := child.Reap()
	switch {
	case err == nil && ended:
		st = known(end.Code, end.Signal, st.At)
	case err == nil && b.child != nil:
		reapLater(b.pidfd)
	case b.child == nil:
		// It may take a moment, in which the sandbox may be let go.
		pidfd, _ := b.pidfd.Dup()
		go d.inherited(c, b, pidfd, st)
		return
	}
	d.finished(c, b, st)
}

// reapLater waits for a child that has ended and that its tracer, somebody else, has
// not heard of yet: until then nobody can reap it, and how it ended is not known.
func reapLater(pidfd *sys.FD) {
	own, err := pidfd.Dup()
	if err != nil {
		return
	}
	go func() {
		_, _ = (&launch.Child{PIDFD: own}).Wait()
		_ = own.Close()
	}()
}

// reaperPatience is how long whoever has inherited an earlier process's child may
// take to wait for it. Until then Wait waits too; Destroy does not.
const (
	reaperPatience = time.Second
	reaperLook     = 20 * time.Millisecond
)

// inherited is for a process that was another's child. It owns pidfd.
func (d *nativeDriver) inherited(c *Container, b *box, pidfd *sys.FD, st ExitStatus) {
	st, told, ok := d.learn(b, c.Spec.ID, b.process(), pidfd, st)
	if !ok {
		return // whoever takes over asks again
	}
	d.finished(c, b, st)
	if told && c.record.flush() == nil {
		d.supervisor.ack(c.Spec.ID, b.process())
	}
}

// learn is how another's child ended, st if nobody knows: the supervisor tells, or the
// kernel may. It owns pidfd, which is nil if the sandbox was let go already. told is
// true if it was the supervisor; ok is false if the sandbox was let go meanwhile.
func (d *nativeDriver) learn(b *box, id string, p supervise.Process, pidfd *sys.FD, st ExitStatus) (_ ExitStatus, told, ok bool) {
	if pidfd == nil {
		return st, false, true
	}
	defer pidfd.Close()
	if d.supervisor.client != nil {
		end, told, asked := d.askSupervisor(b, id, p)
		if !asked || told {
			return end, told, asked
		}
	}
	for left := reaperPatience; left > 0 && !d.deaf; left -= reaperLook {
		ws, err := sys.PidfdExit(pidfd.Int(), reaperLook)
		if err == nil {
			code, signal := ws.ExitStatus(), syscall.Signal(0)
			if ws.Signaled() {
				signal = ws.Signal()
			}
			st = known(code, signal, st.At)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || isClosed(b.hurry) {
			break
		}
	}
	return st, false, true
}

// known is how a process ended that somebody has waited for.
func known(code int, signal syscall.Signal, at time.Time) ExitStatus {
	if signal != 0 {
		code = 128 + int(signal)
	}
	return ExitStatus{Known: true, Code: code, Signal: int(signal), At: at}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// finished makes known how the first process ended.
func (d *nativeDriver) finished(c *Container, b *box, st ExitStatus) {
	st = c.GroupExit(st)
	// The record is for the next process. Without it, that one finds the
	// process gone and reports an unknown status: worse, and true. Who waits
	// writes it, or who closes the host; only if nobody does is it worth waking
	// another thread for.
	b.mu.Lock()
	b.saved.Exit = &st
	c.saveLater(b.saved)
	b.mu.Unlock()
	if c.ended != nil {
		c.ended(st)
	}
	close(b.ended)
	if b.waiters.Load() == 0 {
		go func() { _ = c.record.flush() }()
	}
}

// state is the truth about the first process.
func (b *box) state() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.saved.Exit != nil:
		return StateExited
	case b.saved.PID != 0:
		return StateRunning
	}
	return StateCreated
}

// Wait waits for the end of the first process.
func (d *nativeDriver) Wait(ctx context.Context, c *Container) (ExitStatus, error) {
	b := boxOf(c)
	if b == nil || b.state() == StateCreated {
		return ExitStatus{}, &StateError{State: StateCreated, Reason: "no process was started"}
	}
	b.waiters.Add(1)
	var err error
	if !isClosed(b.ended) {
		b.mu.Lock()
		end := b.end
		b.mu.Unlock()
		end.look(ctx)
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.waiters.Add(-1)
	// It may have ended just now all the same, and whoever saw that have left it
	// to this one to write it down.
	if isClosed(b.ended) {
		_ = c.record.flush()
	}
	if err != nil {
		return ExitStatus{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.saved.Exit, nil
}
