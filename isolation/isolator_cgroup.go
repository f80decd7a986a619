// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/netns"
)

// cgroupIsolator owns the sandbox's group: it is prepared first and cleaned up
// last, and ends the processes on the way.
type cgroupIsolator struct {
	root    *cgroups.Root
	parent  *parent // nil: the host works without groups
	lacking error   // why
}

func (*cgroupIsolator) Name() string { return "cgroup" }

// can is an error where the host works without groups.
func (i *cgroupIsolator) can() error {
	if i.parent == nil {
		return &UnsupportedError{Feature: "group", Reason: "the host works without groups", Err: i.lacking}
	}
	return nil
}

func (i *cgroupIsolator) path(c *Container) string {
	return i.parent.path(c.Spec.Class) + "/" + c.Spec.ID
}

// subgroups reports whether the sandbox's processes are in groups below its own.
func (i *cgroupIsolator) subgroups(c *Container) bool {
	return c.Spec.Subgroups && controllersOfV2(i.root) != 0
}

// Prepare makes the group with its limits.
func (i *cgroupIsolator) Prepare(ctx context.Context, c *Container) error {
	now, later := heldBack(c.Spec.Resources)
	g, err := i.root.CreateWith(ctx, i.path(c), c.Spec.Controllers, now)
	if err != nil {
		c.groupless = true // whatever is at the path is somebody else's
		return i.parentless(c, err)
	}
	c.SetCgroup(g)
	if !later.IsZero() {
		// What cannot be in force is an error of Create, not of Start.
		if _, err := g.Plan(later); err != nil {
			return err
		}
	}
	missing, err := i.settle(ctx, c, g)
	c.missing = append(c.missing, missing...)
	if err == nil && i.subgroups(c) {
		c.main, err = g.CreateBelow(ctx, mainGroup, cgroups.Resources{})
	}
	return err
}

// parentless says so if a group could not be made because the one above it is gone.
func (i *cgroupIsolator) parentless(c *Container, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	path := i.parent.path(c.Spec.Class)
	g, open := i.root.Open(path)
	if open == nil {
		_ = g.Close()
		return err
	}
	return fmt.Errorf("somebody removed the parent group %q: a host that is opened anew makes it: %w", path, err)
}

// settle gives the group of c what its class comes with, unless all of the class have
// that together, and has what it is promised count above it. It returns what the machine
// lacks of the class.
func (i *cgroupIsolator) settle(ctx context.Context, c *Container, g *cgroups.Cgroup) (missing []string, err error) {
	if promises(c.Spec.Resources) {
		if err := i.parent.promise(ctx); err != nil {
			return nil, err
		}
	}
	if class := c.Spec.Class; class.Together() {
		return i.parent.missing[class], nil
	}
	sends := c.Spec.Network.Mode != netns.ModeNew // or else its interfaces have a priority
	return rank(ctx, g, c.Spec.Class, c.Spec.Resources, sends)
}

// rankEgress gives what a group sends the priority of a class. It returns what the
// machine does not have, or does not let this process have.
func rankEgress(g *cgroups.Cgroup, class elastic.Class) (missing []string, err error) {
	n, ok := class.NetworkPriority()
	if !ok {
		return nil, nil
	}
	err = g.SetEgressPriority(uint32(n))
	if errors.Is(err, ErrNotSupported) || errors.Is(err, fs.ErrPermission) {
		return []string{"class " + class.String() + ": " + err.Error()}, nil
	}
	return nil, err
}

// rank gives a group what a class comes with, where asked does not say otherwise
// and the machine has it; the priority of what it sends as well, if sends is true. It
// returns what the machine does not have.
func rank(ctx context.Context, g *cgroups.Cgroup, class elastic.Class, asked cgroups.Resources, sends bool) (missing []string, err error) {
	for _, alternatives := range class.Limits() {
		var lacking error
		for _, r := range alternatives {
			cpu, io := r.CPU != cgroups.CPU{}, !r.IO.Weight.IsZero()
			if cpu && (!asked.CPU.Weight.IsZero() || asked.CPU.Idle != cgroups.Keep) || io && !asked.IO.Weight.IsZero() {
				lacking = nil
				break
			}
			if _, lacking = g.Update(ctx, r); lacking == nil {
				break
			}
			if !errors.Is(lacking, ErrNotSupported) {
				return missing, lacking
			}
		}
		if lacking != nil {
			missing = append(missing, "class "+class.String()+": "+lacking.Error())
		}
	}
	if !sends {
		return missing, nil
	}
	lacks, err := rankEgress(g, class)
	return append(missing, lacks...), err
}

// heldBack splits off what is only set once the process runs. Until its exec
// the child shares the caller's memory, and an OOM kill that memory.oom.group
// turns into one of the whole group would reach the caller; see internal/launch.
func heldBack(r cgroups.Resources) (now, later cgroups.Resources) {
	if r.Memory.OOMGroup == cgroups.On {
		later.Memory.OOMGroup = cgroups.On
		r.Memory.OOMGroup = cgroups.Keep
	}
	return r, later
}

// Update has what the sandbox is promised count in the groups above it.
func (i *cgroupIsolator) Update(ctx context.Context, _ *Container, r cgroups.Resources) error {
	if !promises(r) {
		return nil
	}
	return i.parent.promise(ctx)
}

// Launch has the process born in the group.
func (i *cgroupIsolator) Launch(c *Container, l *Launch) error {
	join, err := c.home().JoinFrom(l.from)
	if err != nil {
		return err
	}
	l.UnifiedFD, l.TaskFDs = join.Unified, join.Tasks
	return nil
}

// Started sets what was held back, and gives up the descriptors that only a
// start needs.
func (i *cgroupIsolator) Started(ctx context.Context, c *Container, _ int) error {
	if _, later := heldBack(c.Spec.Resources); !later.IsZero() {
		if _, err := c.Cgroup().Update(ctx, later); err != nil {
			return err
		}
	}
	return c.home().CloseJoin()
}

// Recover opens the group of an earlier process.
func (i *cgroupIsolator) Recover(_ context.Context, c *Container) error { return i.open(c) }

func (i *cgroupIsolator) open(c *Container) error {
	g, err := i.root.Open(i.path(c))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	g.Own()
	c.SetCgroup(g)
	if !i.subgroups(c) {
		return nil
	}
	// A Create that was cut off may not have come to it.
	if c.main, err = i.root.Open(g.Path() + "/" + mainGroup); errors.Is(err, fs.ErrNotExist) {
		c.main, err = nil, nil
	}
	return err
}

// Cleanup ends every process and removes the group.
func (i *cgroupIsolator) Cleanup(ctx context.Context, c *Container) error {
	if c.groupless {
		return nil
	}
	if c.Cgroup() == nil {
		// Made by an earlier process, or not at all.
		if err := i.Recover(ctx, c); err != nil {
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		}
		if theirs, err := markedByOther(c.Cgroup(), i.parent.scope); theirs || err != nil {
			return err
		}
	}
	return c.RemoveGroup(ctx)
}

// Release frees the group's descriptors.
func (i *cgroupIsolator) Release(c *Container) error {
	if c.Cgroup() == nil {
		return nil
	}
	err := c.Cgroup().Close()
	if c.main != nil {
		err = errors.Join(err, c.main.Close())
	}
	return err
}
