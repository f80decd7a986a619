// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
)

// saved is what must be known again after a restart.
type saved struct {
	Group     cgroups.ID            `json:"group"`             // tells the group from another of the same path
	Starting  bool                  `json:"starting,omitzero"` // intent: the runtime may have made processes
	PID       int                   `json:"pid,omitzero"`      // with Inode or Since, names one process in one boot
	Inode     uint64                `json:"inode,omitzero"`    // its pidfd's; see sys.PidfdInode
	Since     uint64                `json:"since,omitzero"`    // its start time, in clock ticks after boot
	StartedAt time.Time             `json:"startedAt,omitzero"`
	Exit      *isolation.ExitStatus `json:"exit,omitempty"`
	Missing   []string              `json:"missing,omitempty"`
}

// box is what the driver knows of one sandbox in this process.
type box struct {
	mu       sync.Mutex
	saved    saved
	remaking bool          // the group is being replaced
	pidfd    *sys.FD       // the first process; nil until it was started
	drop     func()        // stops listening for its end
	ended    chan struct{} // closed once saved.Exit is set
}

// remake says whether the group is being replaced.
func (b *box) remake(on bool) {
	b.mu.Lock()
	b.remaking = on
	b.mu.Unlock()
}

func newBox() *box { return &box{ended: make(chan struct{})} }

// boxOf is the driver's part of c; nil before it is made.
func boxOf(c *isolation.Container) *box {
	b, _ := c.Private.(*box)
	return b
}

// state is called with b.mu held.
func (b *box) state() isolation.State {
	switch {
	case b.saved.Exit != nil:
		return isolation.StateExited
	case b.saved.PID != 0:
		return isolation.StateRunning
	}
	return isolation.StateCreated
}

// in is an error unless the sandbox is in that state.
func (b *box) in(want isolation.State, reason string) error {
	if b == nil {
		return &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if st := b.state(); st != want {
		return &isolation.StateError{State: st, Reason: reason}
	}
	return nil
}

const noProcess = "no process runs"

// process is one that is held: its number cannot become another's unnoticed.
type process struct {
	pid          int
	pidfd        *sys.FD
	inode, since uint64
}

// hold takes hold of a process. None is fs.ErrNotExist.
func hold(pid int) (p process, err error) {
	p.pid = pid
	if p.pidfd, err = sys.PidfdOpen(pid); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			err = fs.ErrNotExist
		}
		return process{}, err
	}
	if p.inode, p.since, err = linux.Identify(pid, p.pidfd.Int()); err == nil {
		err = linux.Exists(p.pidfd.Int()) // what was read is about this one
	}
	if err != nil {
		return process{}, errors.Join(err, p.pidfd.Close())
	}
	return p, nil
}

// follow has the end of the first process noticed. It takes over p.pidfd.
func (d *Driver) follow(c *isolation.Container, b *box, p process) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	drop, err := d.engine.OnExit(p.pidfd.Int(), func() { d.exited(c, b) })
	if err != nil {
		return errors.Join(err, p.pidfd.Close())
	}
	b.pidfd, b.drop = p.pidfd, drop
	return nil
}

// exited runs once, on the engine's goroutine, and does not block.
func (d *Driver) exited(c *isolation.Container, b *box) {
	st := isolation.ExitStatus{At: time.Now()}
	b.mu.Lock()
	pidfd, err := b.pidfd.Dup()
	b.mu.Unlock()
	if err != nil { // the sandbox was let go
		b.finish(c, st)
		return
	}
	if end, ended, err := (&launch.Child{PIDFD: pidfd}).Reap(); err == nil && ended {
		st.Known, st.Code, st.Signal = true, end.Code, int(end.Signal)
		_ = pidfd.Close()
		b.finish(c, st)
		return
	}
	go func() {
		// Whoever has inherited it may take a moment to wait for it.
		if ws, err := sys.PidfdExit(pidfd.Int(), time.Second); err == nil {
			st.Known, st.Code = true, ws.ExitStatus()
			if ws.Signaled() {
				st.Signal = int(ws.Signal())
			}
		}
		_ = pidfd.Close()
		b.finish(c, st)
	}()
}

// finish makes known how the first process ended.
func (b *box) finish(c *isolation.Container, st isolation.ExitStatus) {
	st = c.GroupExit(st)
	b.mu.Lock()
	b.saved.Exit = &st
	now := b.saved
	b.mu.Unlock()
	// Without this line the next process finds this one gone and reports an
	// unknown status: worse, and true.
	_ = c.Save(now)
	c.Ended(st)
	close(b.ended)
}

// wait waits until the end of the first process, if there is one, is told.
func (b *box) wait(ctx context.Context) error {
	b.mu.Lock()
	running, pid := b.state() == isolation.StateRunning, b.saved.PID
	b.mu.Unlock()
	if !running {
		return nil
	}
	select {
	case <-b.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of process %d: %w", pid, context.Cause(ctx))
	}
}

// release lets go of the process, which may live on.
func (b *box) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drop != nil {
		b.drop()
		b.drop = nil
	}
	return b.pidfd.Close()
}

// Signal sends sig to the first process.
func (d *Driver) Signal(_ context.Context, c *isolation.Container, sig syscall.Signal) error {
	b := boxOf(c)
	if err := b.in(isolation.StateRunning, noProcess); err != nil {
		return err
	}
	err := sys.PidfdSignal(b.pidfd.Int(), sig)
	if errors.Is(err, syscall.ESRCH) {
		return &isolation.StateError{State: isolation.StateExited, Reason: noProcess}
	}
	return err
}

// Wait waits for the end of the first process.
func (d *Driver) Wait(ctx context.Context, c *isolation.Container) (isolation.ExitStatus, error) {
	b := boxOf(c)
	if b == nil || b.in(isolation.StateCreated, "") == nil {
		return isolation.ExitStatus{}, &isolation.StateError{State: isolation.StateCreated, Reason: "no process was started"}
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
		return isolation.ExitStatus{}, context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.saved.Exit, nil
}
