// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// Add moves a process, with all its threads, into the group in every tree. If
// one of them refuses, it is put back in the others. What the process has been
// charged for stays where it was. Moving a process that runs waits for an RCU
// grace period in each tree, some milliseconds: [Cgroup.Join] lets new
// processes begin in the group at no cost.
//
// A process that does not exist is an error matching [syscall.ESRCH]. A v2
// group that passes controllers on to groups below it takes no processes: EBUSY.
// A thread of the kernel that is bound to a CPU is EINVAL, after a quarter of a
// second: kernels before 6.1 say the same of a process that is just starting a
// thread, which is moved once they let it.
func (c *Cgroup) Add(ctx context.Context, pid int) error {
	if pid <= 0 {
		return &InvalidError{Field: "pid", Value: strconv.Itoa(pid), Reason: "not positive"}
	}
	nodes := c.places()
	before, err := c.root.memberships(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	for i, n := range nodes {
		err := ctx.Err()
		if err == nil {
			err = n.add(ctx, pid)
		}
		if err == nil {
			continue
		}
		errs := []error{err}
		for _, done := range slices.Backward(nodes[:i]) {
			if err := done.in.putBack(context.WithoutCancel(ctx), pid, before); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("undo: %w", err))
			}
		}
		return errors.Join(errs...)
	}
	return nil
}

func (n *node) add(ctx context.Context, pid int) error {
	err := moveTo(ctx, n.dir, fileProcs, pid)
	if errors.Is(err, syscall.ESRCH) {
		return err // the process is gone, not the group
	}
	if n.in.v2 && errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("the group passes controllers on to child groups, so it cannot have processes: %w", err)
	}
	return n.failed(err)
}

// movesTried is how often a move is tried that the kernel calls invalid, with
// pauses of 1 ms, 2 ms and so on: a quarter of a second in all.
const movesTried = 9

// moveTo writes a process to a cgroup.procs in dir.
//
// Before Linux 6.1 the cpu controller answers EINVAL while the process has a new
// thread that has not run yet (commit df16b71c686c, "sched/fair: Allow changing
// cgroup of new forked task"), as every Go program has at its beginning; so that
// is tried again. What EINVAL means otherwise does not change by waiting.
func moveTo(ctx context.Context, dir *kernfs.Dir, file string, pid int) error {
	for tried, pause := 1, time.Millisecond; ; tried, pause = tried+1, 2*pause {
		err := dir.WriteFile(file, strconv.Itoa(pid))
		if !errors.Is(err, syscall.EINVAL) {
			return err
		}
		if tried == movesTried {
			return fmt.Errorf("%w (a thread of the kernel, or a real-time process without a share of real time in the group)", err)
		}
		if over := rest(ctx, pause); over != nil {
			return fmt.Errorf("%w: %w", err, over)
		}
	}
}
