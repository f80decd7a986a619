// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
)

// Join is what a new process needs to be born in a group. The descriptors
// belong to the [Cgroup] and are valid until its CloseJoin or Close.
type Join struct {
	// Unified is the group's directory in the cgroup2 tree, for clone3(2) with
	// CLONE_INTO_CGROUP; -1 if there is none, or if this kernel would not give
	// a process that is born there the group's cpuset.
	Unified int

	// Tasks are files open for writing: a thread that writes "0" moves itself.
	// They are the group's v1 tasks files, which do without the lock that makes
	// moving another process slow, and the unified cgroup.procs where Unified
	// is -1 for the sake of the cpuset.
	Tasks []int
}

// Join opens what a new process needs to be born in the group. The descriptors
// are opened once and held.
func (c *Cgroup) Join() (Join, error) { return c.JoinFrom(0) }

// JoinFrom is Join for a child of the process parent, or of the caller if that is 0:
// which CPUs the parent may use decides, before Linux 6.4, about how the child gets
// into a cpuset. That the parent has ended is no error.
func (c *Cgroup) JoinFrom(parent int) (Join, error) {
	c.joining.Lock()
	defer c.joining.Unlock()
	j := Join{Unified: -1}
	for _, n := range c.places() {
		if n.in.v2 {
			if j.Unified = n.dir.FD(); j.Unified < 0 {
				return Join{}, &FileError{Op: "open", Path: n.dir.Path(), Err: os.ErrClosed}
			}
			if !n.in.controllers.Has(ControllerCPUSet) {
				continue
			}
			// The cpuset may have changed since an earlier Join.
			f, err := n.bornElsewhere(parent)
			if err != nil {
				return Join{}, err
			}
			if err := n.tasks.Close(); err != nil {
				return Join{}, errors.Join(err, f.Close())
			}
			if n.tasks = f; f != nil {
				j.Unified = -1
				j.Tasks = append(j.Tasks, f.FD())
			}
			continue
		}
		if n.tasks == nil {
			f, err := n.dir.Open("tasks", os.O_WRONLY)
			if err != nil {
				return Join{}, n.failed(err)
			}
			n.tasks = f
		}
		j.Tasks = append(j.Tasks, n.tasks.FD())
	}
	return j, nil
}

// CloseJoin frees what Join has opened besides the group's directories. A later
// Join opens it anew.
func (c *Cgroup) CloseJoin() error {
	c.joining.Lock()
	defer c.joining.Unlock()
	var errs []error
	for _, n := range c.places() {
		errs = append(errs, n.tasks.Close())
		n.tasks = nil
	}
	return errors.Join(errs...)
}
