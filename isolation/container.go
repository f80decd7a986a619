// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"iter"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// GroupPath is where the container's group belongs, relative to each hierarchy's
// top: below the host's Parent, and with others of its class where they are kept
// together; empty on a host without groups.
func (c *Container) GroupPath() string {
	if c.groups.can() != nil {
		return ""
	}
	return c.groups.path(c)
}

// MakeGroup makes the container's group, at GroupPath, with the limits r and those of
// its class, whole or not at all, for drivers that have their containers in it. What
// this machine lacks of the class is missing. A group that the container had before is
// closed; it has to be gone.
//
// It fails with [ErrNotSupported] on a host without groups.
func (c *Container) MakeGroup(ctx context.Context, r cgroups.Resources) (missing []string, err error) {
	if err := c.groups.can(); err != nil {
		return nil, err
	}
	g, err := c.groups.root.CreateWith(ctx, c.GroupPath(), c.Spec.Controllers, r)
	if err != nil {
		return nil, err
	}
	before := c.Cgroup()
	c.SetCgroup(g)
	if missing, err = c.groups.settle(ctx, c, g); err != nil {
		err = errors.Join(err, c.RemoveGroup(context.WithoutCancel(ctx)))
		c.SetCgroup(before)
		return nil, errors.Join(err, g.Close())
	}
	if before != nil {
		err = before.Close()
	}
	return missing, err
}

// OpenGroup finds the group that MakeGroup has made, in an earlier process for
// instance. None is an error that matches [ErrNotFound].
func (c *Container) OpenGroup() error {
	if err := c.groups.can(); err != nil {
		return err
	}
	return c.groups.open(c)
}

// UpdateGroup changes the limits of the group that MakeGroup has made: all of them or
// nothing.
func (c *Container) UpdateGroup(ctx context.Context, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	result, err := c.Cgroup().UpdateWith(ctx, r, cfg)
	if err != nil {
		return result, err
	}
	if err := c.groups.Update(ctx, c, r); err != nil {
		return cgroups.Result{}, errors.Join(err, result.Revert())
	}
	return result, nil
}

// RemoveGroup ends every process in the group and removes it. One that is gone, or was
// never made or opened, is nil.
func (c *Container) RemoveGroup(ctx context.Context) error {
	if c.Cgroup() == nil {
		return nil
	}
	if err := c.Cgroup().Destroy(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
		return err
	}
	if promises(c.Spec.Resources) {
		return c.groups.parent.promise(ctx)
	}
	return nil
}

// GroupStatus is what [Container.Cgroup] tells of a container, for the Check of a
// driver that sets it: processes, whether they are frozen, the path. A group that
// is gone is an error that matches [ErrNotFound].
func (c *Container) GroupStatus() (Status, error) { return checkGroup(c.Cgroup()) }

// GroupEvents is a Watch for drivers that set [Container.Cgroup]: the events of the
// group, drift included, until ended is closed, and then last as the last one. It goes
// on with the group that a start which failed has made in the place of another.
func (c *Container) GroupEvents(ctx context.Context, engine *elastic.Engine, pressure []elastic.Threshold,
	ended <-chan struct{}, last func() Event,
) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for g := c.Cgroup(); ; {
			replaced := false
			watchGroup(ctx, engine, c, g, pressure, ended, func() (Event, error) { return last(), nil }, func(ev Event, err error) bool {
				if _, gone := ev.(Gone); gone && err == nil {
					replaced = c.replaced(ctx, g)
					return !replaced && yield(ev, err)
				}
				return yield(ev, err)
			})
			if !replaced {
				return
			}
			g = c.Cgroup()
		}
	}
}

// replaced reports whether the container has another group than g, which is gone, once
// no change of it is under way.
func (c *Container) replaced(ctx context.Context, g *cgroups.Cgroup) bool {
	return c.settled(ctx) == nil && c.Cgroup() != g
}

// GroupExit is st with what follows from it, the code of a signal, and with what the
// group knows about it: whether the kernel killed in there for lack of memory.
func (c *Container) GroupExit(st ExitStatus) ExitStatus {
	if st.Signal != 0 {
		st.Code = 128 + st.Signal
	}
	if g := c.Cgroup(); g != nil {
		st = st.inGroup(g)
	}
	return st
}

// inGroup is st with whether the kernel killed in the group for lack of memory. Only a
// kill can have been that, also one that a reaper or a shell passed on as its code; an
// unknown end too.
func (st ExitStatus) inGroup(g *cgroups.Cgroup) ExitStatus {
	const killed = 128 + int(syscall.SIGKILL)
	if st.Known && st.Signal != int(syscall.SIGKILL) && st.Code != killed {
		return st
	}
	var ev cgroups.Events
	if g.Events(&ev) == nil {
		kills, _ := ev.Memory.OOMKill.Value()
		st.OOM = kills > 0
	}
	return st
}

// Ended tells the host, for its journal, how the first process ended. A driver
// calls it once, when it knows.
func (c *Container) Ended(st ExitStatus) {
	if c.ended != nil {
		c.ended(st)
	}
}
