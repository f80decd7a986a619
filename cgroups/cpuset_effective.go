// SPDX-License-Identifier: Apache-2.0

package cgroups

import "fmt"

// EffectiveCPUs is the set of CPUs that processes of the group may run on: those
// that are online, of its own cpuset.cpus and of all above it. On v1 a group that
// was given none yet, and so can have no processes, has none.
//
// It returns an error that matches [ErrNotSupported] if the group is not under the
// cpuset controller, and [ErrGone] if it was removed. It reads
// cpuset.cpus.effective, on v1 cpuset.effective_cpus (Linux 3.17).
func (c *Cgroup) EffectiveCPUs() (Set, error) {
	t := filesOf(c)
	defer t.close()
	file := "cpuset.cpus" + effective
	switch {
	case t.version(ControllerCPUSet) == 0:
		return Set{}, noController(ControllerCPUSet)
	case t.in(ControllerCPUSet) == nil:
		return Set{}, &UnsupportedError{Feature: file, Reason: "the group is not under the cpuset controller"}
	case t.version(ControllerCPUSet) == 1:
		file = "cpuset.effective_cpus"
	}
	text, err := t.read(ControllerCPUSet, file)
	if err != nil {
		return Set{}, err
	}
	if text == "" {
		return SetOf(), nil
	}
	s, err := ParseSet(text)
	if err != nil {
		return Set{}, fmt.Errorf("%s of cgroup %s: %w", file, c.path, err)
	}
	return s, nil
}
