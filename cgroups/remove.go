// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// Remove removes the group from every tree in which Create, or an update that
// put it under another controller, has made it; after [Cgroup.Own] from every
// tree. The groups that the workload made below it go with it, leaves first.
// Nothing else is touched: a tree where somebody has made another group of the
// same path meanwhile is left alone.
//
// Only groups without processes can be removed. The first attempt is made at
// once; if there are processes, Remove waits until they have ended or ctx
// does, and kills nobody. What is left then is in a [RemainingError]. A group
// that is gone already, also by an earlier Remove, is nil.
func (c *Cgroup) Remove(ctx context.Context) error {
	for _, n := range c.places() {
		if err := n.slow.end(ctx); err != nil {
			return err
		}
	}
	places := c.places() // the unified tree, which tells when the group is empty, is last
	var errs []error
	var over error
	for _, n := range places {
		if !n.created.Load() {
			continue
		}
		err := c.removeFrom(ctx, n)
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			over = err // the other trees get their attempt
		} else {
			errs = append(errs, err)
		}
	}
	if over != nil {
		errs = append(errs, c.left(over))
	}
	return errors.Join(errs...)
}

// Destroy ends every process of the group and removes the group: [Cgroup.Kill]
// and [Cgroup.Remove], whose errors it returns. A group without processes is
// removed at once, without a look at it beforehand.
func (c *Cgroup) Destroy(ctx context.Context) error {
	err := c.removeEmpty()
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	if err := c.Kill(ctx); err != nil {
		return err
	}
	return c.Remove(ctx)
}

// removeEmpty removes a group that is believed to be empty. If there are
// processes in it, or groups below it, the error matches EBUSY. It may then be
// gone from some v1 trees, but is still in the unified one, so that Kill and
// Remove work.
func (c *Cgroup) removeEmpty() error {
	busy := slices.ContainsFunc(c.places(), func(n *node) bool { return len(n.slow.interrupt()) > 0 })
	if c.unified() == nil || busy { // there is no telling
		return syscall.EBUSY
	}
	for _, n := range c.places() { // the unified tree is last
		if !n.created.Load() {
			continue
		}
		if err := n.in.dir.Rmdir(c.path, n.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeFrom removes the group from one tree.
func (c *Cgroup) removeFrom(ctx context.Context, n *node) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := remove(n.in.dir, c.path, n.dir)
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		if err := c.awaitEmpty(ctx, pause); err != nil {
			return err
		}
	}
}

// remove removes dir, which is name below parent, and all groups below it. Gone
// is nil.
func remove(parent *kernfs.Dir, name string, dir *kernfs.Dir) error {
	err := parent.Rmdir(name, dir)
	if errors.Is(err, syscall.EBUSY) {
		if err := removeBelow(dir); err != nil {
			return err
		}
		err = parent.Rmdir(name, dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeBelow removes every group below dir that can be; the error is the last
// of those that cannot.
func removeBelow(dir *kernfs.Dir) (last error) {
	n, err := dir.Subdirs()
	if err != nil || n == 0 {
		return err
	}
	names, err := dir.Dirs()
	if kernfs.IsGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		child, err := dir.OpenDir(name)
		if kernfs.IsGone(err) {
			continue
		}
		if err == nil {
			err = errors.Join(remove(dir, name, child), child.Close())
		}
		if err != nil {
			last = err
		}
	}
	return last
}

// awaitEmpty returns when the group may have become empty. The unified tree
// announces it; where that says that nobody is there, somebody is in a v1 tree
// alone, or has just left, and only time tells.
func (c *Cgroup) awaitEmpty(ctx context.Context, pause time.Duration) error {
	if uni := c.unified(); uni != nil {
		events, err := uni.dir.Open(fileEvents, os.O_RDONLY)
		if err != nil && !kernfs.IsGone(err) {
			return err
		}
		if err == nil {
			defer events.Close()
			if is, err := isEvent(events, "populated", true); err == nil && is {
				return events.Wait(ctx)
			}
		}
	}
	return rest(ctx, pause)
}

// left describes what Remove could not remove.
func (c *Cgroup) left(err error) error {
	e := &RemainingError{Path: c.path, Err: err}
	var nodes []*node
	for _, n := range c.places() {
		if !n.created.Load() || n.gone() {
			continue
		}
		nodes = append(nodes, n)
		_ = walk(n.dir, func(dir *kernfs.Dir) error {
			e.Groups = append(e.Groups, dir.Path())
			return nil
		})
	}
	pids, _ := everyone(nodes)
	for _, pid := range pids {
		e.Processes = append(e.Processes, c.root.process(pid))
	}
	return e
}
