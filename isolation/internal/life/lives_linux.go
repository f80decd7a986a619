// SPDX-License-Identifier: Apache-2.0

package life

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// Lives are those of one driver's containers: the calls of it that are the same for
// whoever makes the container, for the driver to embed.
type Lives struct {
	engine *elastic.Engine // notices the end of processes
}

// Open begins to notice ends.
func Open() (Lives, error) {
	engine, err := elastic.NewEngine()
	return Lives{engine: engine}, err
}

// Close frees what is held for all of them. The containers live on.
func (l *Lives) Close() error { return l.engine.Close() }

// Check asks the kernel.
func (l *Lives) Check(_ context.Context, c *isolation.Container) (isolation.Status, error) {
	b := Of(c)
	if b == nil {
		return isolation.Status{State: isolation.StateCreating}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st, err := c.GroupStatus()
	switch {
	case err == nil:
	case b.starting && isGone(err): // a start fails; nothing is in the group
		st = isolation.Status{Cgroup: c.Cgroup().Path()}
	case errors.Is(err, fs.ErrNotExist): // it is removed from one tree after the other
		return isolation.Status{}, fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
	default:
		return isolation.Status{}, err
	}
	st.State, st.StartedAt, st.Missing = b.state(), b.saved.StartedAt, slices.Clone(b.saved.Missing)
	if b.saved.Exit != nil {
		exit := *b.saved.Exit
		st.Exit = &exit
	} else {
		st.PID = b.saved.PID
	}
	return st, nil
}

// isGone reports whether err says that a group is, or that its value was replaced.
func isGone(err error) bool {
	return errors.Is(err, cgroups.ErrGone) || errors.Is(err, isolation.ErrNotFound) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrClosed)
}

// Signal sends sig to the first process.
func (l *Lives) Signal(_ context.Context, c *isolation.Container, sig syscall.Signal) error {
	b := Of(c)
	if err := b.Running(); err != nil {
		return err
	}
	return b.first.Signal(sig)
}

// Wait waits for the end of the first process.
func (l *Lives) Wait(ctx context.Context, c *isolation.Container) (isolation.ExitStatus, error) {
	b := Of(c)
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

// Freeze stops every process of the group.
func (l *Lives) Freeze(ctx context.Context, c *isolation.Container) error {
	return c.Cgroup().Freeze(ctx)
}

// Thaw lets them go on.
func (l *Lives) Thaw(ctx context.Context, c *isolation.Container) error {
	return c.Cgroup().Thaw(ctx)
}

// Plan is what Update would write to the group.
func (l *Lives) Plan(c *isolation.Container, r cgroups.Resources) (cgroups.Plan, error) {
	if err := Of(c).whole(); err != nil {
		return cgroups.Plan{}, err
	}
	return c.Cgroup().Plan(r)
}

// Update changes the group.
func (l *Lives) Update(ctx context.Context, c *isolation.Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if err := Of(c).whole(); err != nil {
		return cgroups.Result{}, err
	}
	return c.UpdateGroup(ctx, r, cfg)
}

// Stat measures the group.
func (l *Lives) Stat(c *isolation.Container, s *cgroups.Stats) error {
	if err := Of(c).whole(); err != nil {
		return err
	}
	return c.Cgroup().Stat(s)
}

// Watch merges the group's events with the end of the first process.
func (l *Lives) Watch(ctx context.Context, c *isolation.Container, pressure []elastic.Threshold) iter.Seq2[isolation.Event, error] {
	b := Of(c)
	if err := b.whole(); err != nil {
		return func(yield func(isolation.Event, error) bool) { yield(nil, err) }
	}
	return c.GroupEvents(ctx, l.engine, pressure, b.ended, func() isolation.Event {
		b.mu.Lock()
		defer b.mu.Unlock()
		return isolation.Exited{Time: b.saved.Exit.At, Status: *b.saved.Exit}
	})
}

// Release frees what this process holds of a container.
func (l *Lives) Release(c *isolation.Container) error {
	var errs []error
	if b := Of(c); b != nil {
		errs = append(errs, b.release())
	}
	if g := c.Cgroup(); g != nil {
		errs = append(errs, g.Close())
	}
	return errors.Join(errs...)
}
