// SPDX-License-Identifier: Apache-2.0

package life

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// saved is what must be known again after a restart.
type saved struct {
	Group     cgroups.ID            `json:"group"`             // tells the group from another of the same path
	Starting  bool                  `json:"starting,omitzero"` // intent: there may be processes
	PID       int                   `json:"pid,omitzero"`      // with Inode or Since, names one process in one boot
	Inode     uint64                `json:"inode,omitzero"`    // its pidfd's; see sys.PidfdInode
	Since     uint64                `json:"since,omitzero"`    // its start time, in clock ticks after boot
	StartedAt time.Time             `json:"startedAt,omitzero"`
	Exit      *isolation.ExitStatus `json:"exit,omitempty"`
	Missing   []string              `json:"missing,omitempty"`
}

// Life is what a driver knows of one sandbox in this process: its
// [isolation.Container.Private].
type Life struct {
	// Made is the driver's own; it is used by one goroutine at a time.
	Made any

	ended chan struct{} // closed once saved.Exit is set

	mu       sync.Mutex
	saved    saved
	starting bool       // the group may be gone, and is made again if the start fails
	first    *Process   // nil until it was started
	execs    []*Process // some ended
}

// Of is the life of c; nil before it is whole.
func Of(c *isolation.Container) *Life {
	b, _ := c.Private.(*Life)
	return b
}

// Begin writes down that the container, whose group is made, is whole.
func Begin(c *isolation.Container, made any, missing []string) error {
	b := &Life{Made: made, ended: make(chan struct{}), saved: saved{Group: c.Cgroup().ID(), Missing: missing}}
	err := c.Save(b.saved)
	if err == nil {
		c.Private = b
	}
	return err
}

// state is called with b.mu held.
func (b *Life) state() isolation.State {
	switch {
	case b.saved.Exit != nil:
		return isolation.StateExited
	case b.saved.PID != 0:
		return isolation.StateRunning
	}
	return isolation.StateCreated
}

// whole is an error of a container that is still being made.
func (b *Life) whole() error {
	if b == nil {
		return &isolation.StateError{State: isolation.StateCreating, Reason: "it is not whole yet"}
	}
	return nil
}

// in is an error unless the container is in that state.
func (b *Life) in(want isolation.State, reason string) error {
	if err := b.whole(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if st := b.state(); st != want {
		return &isolation.StateError{State: st, Reason: reason}
	}
	return nil
}

const noProcess = "no process runs"

// Running is an error unless the first process runs.
func (b *Life) Running() error { return b.in(isolation.StateRunning, noProcess) }

// Start has try start the first process, and again take back what it did if it fails,
// the group included: that is made again then, and so is another one. A process that
// is born in a frozen group does not come to its end, so nothing is started in one.
func (b *Life) Start(ctx context.Context, c *isolation.Container, try func() error, again func(context.Context) error) error {
	if err := b.in(isolation.StateCreated, "its process was started already"); err != nil {
		return err
	}
	if err := b.Thawed(c); err != nil {
		return err
	}
	b.mu.Lock()
	intent := b.saved
	b.mu.Unlock()
	intent.Starting = true
	if err := c.Save(intent); err != nil {
		return err
	}
	b.begun(true)
	defer b.begun(false)
	err := try()
	if err != nil {
		err = errors.Join(err, b.again(context.WithoutCancel(ctx), c, again))
	}
	return err
}

func (b *Life) begun(on bool) {
	b.mu.Lock()
	b.starting = on
	b.mu.Unlock()
}

// again has what a start has made taken back, and makes the group again.
func (b *Life) again(ctx context.Context, c *isolation.Container, take func(context.Context) error) error {
	if err := take(ctx); err != nil {
		return err
	}
	if _, err := c.MakeGroup(ctx, c.Spec.Resources); err != nil {
		return err
	}
	b.mu.Lock()
	b.saved = saved{Group: c.Cgroup().ID(), Missing: b.saved.Missing}
	now := b.saved
	b.mu.Unlock()
	return c.Save(now)
}

// Run writes the first process down and then lets it go on, by letGo, or ends it. It
// takes over p.
func (b *Life) Run(c *isolation.Container, p *Process, letGo func() error) error {
	b.mu.Lock()
	now := b.saved
	b.mu.Unlock()
	now.PID, now.Inode, now.Since, now.StartedAt = p.PID, p.inode, p.since, time.Now()
	err := c.Save(now)
	if err == nil {
		err = letGo()
	}
	if err != nil {
		return errors.Join(err, p.Kill())
	}
	b.mu.Lock()
	b.saved, b.first = now, p
	b.mu.Unlock()
	p.Tell(func(st isolation.ExitStatus) { b.exited(c, st) })
	return nil
}

// exited is told how the first process ended.
func (b *Life) exited(c *isolation.Container, st isolation.ExitStatus) {
	st = c.GroupExit(st)
	b.mu.Lock()
	now := b.saved
	b.mu.Unlock()
	now.Exit = &st
	// Before anybody is told, who may end this process then. Without this line the
	// next process finds this one gone and reports an unknown status: worse, and true.
	_ = c.Save(now)
	b.mu.Lock()
	b.saved = now
	b.mu.Unlock()
	c.Ended(st)
	close(b.ended)
}

// Add keeps a further process until it has ended.
func (b *Life) Add(p *Process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.execs = append(slices.DeleteFunc(b.execs, func(p *Process) bool { return isClosed(p.over) && p.release() == nil }), p)
}

func (b *Life) processes() []*Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.Clone(b.execs)
	if b.first != nil {
		all = append(all, b.first)
	}
	return all
}

// Over waits until the end of the processes, which are killed, is told.
func (b *Life) Over(ctx context.Context) error {
	if b == nil {
		return nil
	}
	for _, p := range b.processes() {
		select {
		case <-p.over:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of process %d: %w", p.PID, context.Cause(ctx))
		}
	}
	return nil
}

// release lets go of the processes, which may live on.
func (b *Life) release() error {
	var errs []error
	for _, p := range b.processes() {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}

// Thawed is an error if the group is frozen.
func (b *Life) Thawed(c *isolation.Container) error {
	frozen, err := c.Cgroup().Frozen()
	if err == nil && frozen {
		b.mu.Lock()
		defer b.mu.Unlock()
		return &isolation.StateError{State: b.state(), Reason: "it is frozen: thaw it first"}
	}
	if errors.Is(err, isolation.ErrNotSupported) {
		return nil
	}
	return err
}

// Recovery is how a driver finds a container of an earlier process again.
type Recovery struct {
	// CutOff says that a start was under way.
	CutOff func() bool
	// Again takes back what that start has made.
	Again func(context.Context) error
}

// Recover finds the group and the first process of a container that an earlier
// process made.
func Recover(ctx context.Context, l *Lives, c *isolation.Container, r Recovery) error {
	b := &Life{ended: make(chan struct{})}
	if ok, err := c.Saved(&b.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", isolation.ErrNotFound))
	}
	starting := b.saved.Exit == nil && (b.saved.Starting && b.saved.PID == 0 || r.CutOff())
	err := c.OpenGroup()
	switch {
	case starting && errors.Is(err, isolation.ErrNotFound): // whoever makes the container removes it when that fails
	case err != nil:
		return err
	case c.Cgroup().ID() != b.saved.Group && !starting:
		return errors.Join(fmt.Errorf("%w: its group was removed and made again", isolation.ErrNotFound), c.Cgroup().Close())
	}
	c.Private = b
	switch {
	case starting: // it did not live to say how that went
		err = b.again(ctx, c, r.Again)
	case b.saved.Exit != nil:
		close(b.ended)
	case b.saved.PID != 0:
		err = b.takeOver(l, c)
	}
	if err != nil {
		return errors.Join(err, l.Release(c))
	}
	return nil
}

// takeOver holds the first process, or finds that it has ended.
func (b *Life) takeOver(l *Lives, c *isolation.Container) error {
	p, err := Hold(l, b.saved.PID, nil)
	if err == nil && (p.inode != b.saved.Inode || p.since != b.saved.Since) {
		err = errors.Join(fs.ErrNotExist, p.release())
	}
	if errors.Is(err, os.ErrNotExist) {
		b.saved.Exit = &isolation.ExitStatus{At: time.Now()}
		close(b.ended)
		return nil
	}
	if err != nil {
		return err
	}
	b.first = p
	p.Tell(func(st isolation.ExitStatus) { b.exited(c, st) })
	return nil
}
