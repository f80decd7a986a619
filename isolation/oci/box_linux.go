// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// state is what must be known again after a restart.
type state struct {
	Group     cgroups.ID            `json:"group"`             // tells the group from another of the same path
	Starting  bool                  `json:"starting,omitzero"` // intent: a process may exist
	PID       int                   `json:"pid,omitzero"`      // with Inode or Since, names one process in one boot
	Inode     uint64                `json:"inode,omitzero"`    // its pidfd's
	Since     uint64                `json:"since,omitzero"`    // its start time, in clock ticks after boot
	StartedAt time.Time             `json:"startedAt,omitzero"`
	Exit      *isolation.ExitStatus `json:"exit,omitempty"`
	Missing   []string              `json:"missing,omitempty"`
}

// box is what the driver knows of one sandbox in this process.
type box struct {
	container *libcontainer.Container // nil if it has to be made or loaded

	mu    sync.Mutex
	saved state
	first *process      // nil until it was started
	ended chan struct{} // closed once saved.Exit is set
	execs []*process    // some ended
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

// Signal sends sig to the first process.
func (d *Driver) Signal(_ context.Context, c *isolation.Container, sig syscall.Signal) error {
	b := boxOf(c)
	if err := b.in(isolation.StateRunning, noProcess); err != nil {
		return err
	}
	return b.first.signal(sig)
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

// exited is told how the first process ended.
func (b *box) exited(c *isolation.Container, st isolation.ExitStatus) {
	st = c.GroupExit(st)
	b.mu.Lock()
	b.saved.Exit = &st
	saved := b.saved
	b.mu.Unlock()
	// Without this line the next process finds this one gone and reports an
	// unknown status: worse, and true.
	_ = c.Save(saved)
	c.Ended(st)
	close(b.ended)
}

// waitAll waits until the processes, which are killed, are reaped.
func (b *box) waitAll(ctx context.Context) error {
	b.mu.Lock()
	all := slices.Clone(b.execs)
	if b.first != nil {
		all = append(all, b.first)
	}
	b.mu.Unlock()
	for _, p := range all {
		select {
		case <-p.over:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of process %d: %w", p.pid, context.Cause(ctx))
		}
	}
	return nil
}

// release lets go of the processes.
func (b *box) release() error {
	b.mu.Lock()
	all := b.execs
	if b.first != nil {
		all = append(all, b.first)
	}
	b.execs = nil
	b.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}

// holdsFrozen is an error if the group is frozen: a process that libcontainer
// starts in it would not come to its end.
func holdsFrozen(c *isolation.Container) error {
	frozen, err := c.Cgroup.Frozen()
	if err == nil && frozen {
		return &isolation.StateError{State: isolation.StateRunning, Reason: "it is frozen: thaw it first"}
	}
	if errors.Is(err, isolation.ErrNotSupported) {
		return nil
	}
	return err
}
