// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"strconv"
	"syscall"
)

// Reclaim has the kernel take up to n bytes of memory from the group that it does
// not use now: file pages are dropped, others go to swap. It writes memory.reclaim,
// changes no limit, and kills nobody. It returns by how much the usage is smaller
// afterwards, which is less than n if there is not as much to take, and says little
// about a group that grows meanwhile.
//
// When ctx ends the kernel is interrupted; a [BlockedError] says that it could not
// be. It returns [ErrNotSupported] on cgroup v1, and before Linux 5.19.
//
// https://docs.kernel.org/admin-guide/cgroup-v2.html
func (c *Cgroup) Reclaim(ctx context.Context, n uint64) (taken uint64, err error) {
	t := filesOf(c)
	defer t.close()
	switch t.version(ControllerMemory) {
	case 0:
		return 0, noController(ControllerMemory)
	case 1:
		return 0, notOnV1(reclaimFile, "")
	}
	before, err := t.usage()
	if isAbsent(err) {
		return 0, &UnsupportedError{Feature: reclaimFile, Reason: "the group is not under the memory controller", Err: err}
	}
	if err != nil || n == 0 {
		return 0, err
	}
	err = t.writeSlow(ctx, ControllerMemory, reclaimFile, strconv.FormatUint(n, 10), 0)
	switch {
	case isAbsent(err):
		return 0, &UnsupportedError{Feature: reclaimFile, Since: "Linux 5.19", Reason: "this kernel has no such file", Err: err}
	case errors.Is(err, syscall.EAGAIN): // there was less
		err = nil
	}
	after, e := t.usage()
	if e != nil {
		return 0, errors.Join(err, e)
	}
	return before - min(before, after), err
}

func (t *groupTree) usage() (uint64, error) {
	text, err := t.read(ControllerMemory, usageFile)
	if err != nil {
		return 0, err
	}
	return parseAmount(text)
}
