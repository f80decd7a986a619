// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/sys"
)

// Settle finishes the birth of a process by CLONE_INTO_CGROUP. Kernels from 5.7
// on do not give such a process the CPUs of the group's cpuset, until 42a11bf5c543
// ("cgroup/cpuset: Make cpuset_fork() handle CLONE_INTO_CGROUP properly", Linux
// 6.4 and later stable ones): it runs on its parent's. Where that is so, every
// process of the group is bound to the group's CPUs. The group's memory nodes
// stay forgotten there; no call can give them from outside.
//
// On v1, where processes join the cpuset by themselves, and on kernels without
// the fault, nothing is written. A process that has ended is nil.
func (c *Cgroup) Settle(pid int) error {
	n := c.node(ControllerCPUSet)
	if n == nil || !n.in.v2 {
		return nil
	}
	text, err := n.dir.ReadFile("cpuset.cpus.effective", nil)
	if err != nil {
		return n.failed(err)
	}
	cpus, err := ParseSet(strings.TrimSpace(string(text)))
	if err != nil {
		return &FileError{Op: "parse", Path: n.dir.Join("cpuset.cpus.effective"), Data: string(text), Err: err}
	}
	var mask sys.CPUMask
	for cpu := range cpus.Each {
		mask.Set(cpu)
	}
	if ok, err := bound(pid, &mask); ok || err != nil {
		return err
	}
	// Its children were born as wrong, by fork.
	pids, err := c.Procs(nil)
	for _, pid := range append(pids, pid) {
		if e := sys.SetAffinity(pid, &mask); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// bound reports whether the task runs on CPUs of the mask only, or not at all.
func bound(pid int, mask *sys.CPUMask) (bool, error) {
	has, err := sys.Affinity(pid)
	if errors.Is(err, syscall.ESRCH) {
		return true, nil
	}
	return has.Within(mask), err
}
