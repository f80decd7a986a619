// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
)

// Add moves a process, with all its threads, into the group in every tree. If
// one of them refuses, it is put back in the others. What the process has been
// charged for stays where it was. Moving a process that runs waits for an RCU
// grace period in each tree, some milliseconds: [Cgroup.Join] lets new
// processes begin in the group at no cost.
//
// A process that does not exist is an error matching [syscall.ESRCH]. A v2
// group that passes controllers on to groups below it takes no processes: EBUSY.
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
			err = n.add(pid)
		}
		if err == nil {
			continue
		}
		errs := []error{err}
		for _, done := range slices.Backward(nodes[:i]) {
			if err := done.in.putBack(pid, before); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("undo: %w", err))
			}
		}
		return errors.Join(errs...)
	}
	return nil
}

func (n *node) add(pid int) error {
	err := n.dir.WriteFile(fileProcs, strconv.Itoa(pid))
	if errors.Is(err, syscall.ESRCH) {
		return err // the process is gone, not the group
	}
	if n.in.v2 && errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("the group passes controllers on to child groups, so it cannot have processes: %w", err)
	}
	return n.failed(err)
}
