// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

const fileKill = "cgroup.kill"

// Kill ends every process in the group and below it, in any of its trees, and
// returns when none is left. It does not reap: a process whose parent waits for
// it stays a zombie, which is in no group. The group stays. A group without
// processes, or that is gone, is nil.
//
// Where the kernel has cgroup.kill (Linux 5.14) that does it, against any rate
// of forking. Else the group is frozen, each process gets SIGKILL, and again
// until none is left, with pids.max at 0 meanwhile if the group is under pids;
// both are put back as they were. Groups of v1's freezer are thawed, also those
// below that the workload froze itself: SIGKILL would wait for ever.
//
// If ctx ends first, the error is a [RemainingError] that names the processes
// and what they wait for in the kernel. They are marked to die all the same, and
// Kill may be called again. A group that holds the calling process is refused,
// and so is one that was adopted.
func (c *Cgroup) Kill(ctx context.Context) error {
	if c.foreign != nil {
		return c.notOurs("kill")
	}
	if c.HoldsCaller() {
		return c.holdsUs("kill")
	}
	done, err := c.killUnified(ctx)
	if err != nil {
		return err
	}
	nodes := c.places()
	if done {
		// Only who left the unified tree by himself can be in the others.
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n.in.v2 })
	}
	if is, err := occupied(nodes); err != nil || !is {
		return err
	}
	for !c.hunting.TryLock() {
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return c.remaining(err)
		}
	}
	defer c.hunting.Unlock()
	return c.hunt(ctx)
}

// killUnified writes cgroup.kill and waits. done is false if the kernel has no
// such file, in a threaded group, and if the group is gone from that tree.
func (c *Cgroup) killUnified(ctx context.Context) (done bool, err error) {
	uni := c.unified()
	if uni == nil {
		return false, nil
	}
	dying := uni.hold()
	defer dying.close()
	err = uni.dir.WriteFile(fileKill, "1")
	if kernfs.IsGone(err) || errors.Is(err, syscall.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := c.thawBelow(); err != nil {
		return false, err
	}
	events, err := uni.dir.Open(fileEvents, os.O_RDONLY)
	if kernfs.IsGone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer events.Close()
	err = dying.await(ctx, events)
	switch {
	case kernfs.IsGone(err):
		return false, nil
	case err != nil && ctx.Err() != nil:
		return false, c.remaining(ctx.Err())
	}
	return err == nil, err
}

// hunt freezes, kills and thaws until nobody is left. c.hunting is held: two
// hunters would restore each other's settings.
func (c *Cgroup) hunt(ctx context.Context) (err error) {
	release, err := c.brake()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	thaw, err := c.stun()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, thaw(), c.thawBelow()) }()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		c.holdStill(ctx, pause)
		is, err := occupied(c.places())
		if err != nil || !is {
			return err
		}
		pids, err := everyone(c.places())
		if err != nil {
			return err
		}
		if err := c.signal(pids); err != nil {
			return err
		}
		if err := c.thawBelow(); err != nil {
			return err
		}
		if err := rest(ctx, pause); err != nil {
			return c.remaining(err)
		}
	}
}

// brake sets pids.max to 0, so that a fork bomb stops growing.
func (c *Cgroup) brake() (release func() error, err error) {
	n := c.node(ControllerPIDs)
	if n == nil {
		return func() error { return nil }, nil
	}
	return n.set("pids.max", "0")
}

// stun begins to freeze through the unified tree. On v2 the frozen die of
// SIGKILL.
func (c *Cgroup) stun() (thaw func() error, err error) {
	n := c.unified()
	if n == nil {
		return func() error { return nil }, nil
	}
	return n.set(fileFreeze, "1")
}

// set writes value to file and returns what puts the old one back. A kernel
// without the file, and a group that is gone from n's tree, are nothing to do.
func (n *node) set(file, value string) (restore func() error, err error) {
	old, err := n.word(file)
	if err == nil {
		err = n.failed(n.dir.WriteFile(file, value))
	}
	restore = func() error {
		err := n.failed(n.dir.WriteFile(file, old))
		if errors.Is(err, ErrGone) {
			return nil
		}
		return err
	}
	if errors.Is(err, ErrNotSupported) || errors.Is(err, ErrGone) {
		restore, err = func() error { return nil }, nil
	}
	return restore, err
}

// holdStill freezes with v1's freezer, for at most the given time: what cannot
// be frozen is killed running.
func (c *Cgroup) holdStill(ctx context.Context, d time.Duration) {
	if n := c.node(ControllerFreezer); n != nil {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		_ = n.freezeLegacy(ctx)
	}
}

// thawBelow thaws the group and all below it in v1's freezer.
func (c *Cgroup) thawBelow() error {
	n := c.node(ControllerFreezer)
	if n == nil {
		return nil
	}
	return walk(n.dir, func(dir *kernfs.Dir) error {
		err := dir.WriteFile(fileFreezer, "THAWED")
		if kernfs.IsGone(err) {
			return nil
		}
		return err
	})
}

// signal sends SIGKILL to those of pids that are in the group. Each is held
// first and looked for in the group again, so that a number which meanwhile
// belongs to a process elsewhere does no harm.
func (c *Cgroup) signal(pids []int) error {
	const atOnce = 256 // descriptors
	for len(pids) > 0 {
		batch := pids[:min(atOnce, len(pids))]
		pids = pids[len(batch):]
		held := make(map[int]victim, len(batch))
		for _, pid := range batch {
			if p, err := c.root.hold(pid); err == nil {
				held[pid] = p
			}
		}
		still, err := everyone(c.places())
		for _, pid := range still {
			if p := held[pid]; p != nil {
				if e := p.Kill(); e != nil && !errors.Is(e, os.ErrProcessDone) {
					err = errors.Join(err, &FileError{Op: "kill", Path: "/proc/" + strconv.Itoa(pid), Err: e})
				}
			}
		}
		for _, p := range held {
			_ = p.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
