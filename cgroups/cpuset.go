// SPDX-License-Identifier: Apache-2.0

package cgroups

import "path"

const partitionFile = "cpuset.cpus.partition"

// cpuset plans the knobs of the cpuset controller. A group becomes a partition
// when it has its CPUs, and gives its CPUs up when it is none any more.
func (p *planner) cpuset(c CPUSet) error {
	if c == (CPUSet{}) {
		return nil
	}
	v, err := p.under(ControllerCPUSet)
	if err != nil {
		return err
	}
	partition := func(s stage, why string) error {
		if v == 1 {
			return notOnV1(partitionFile, "cpuset.cpu_exclusive is something else")
		}
		return p.simple(ControllerCPUSet, partitionFile, c.Partition.String(), s, why)
	}
	if c.Partition == PartitionMember {
		if err := partition(release, "before the CPUs change, which a partition may not allow"); err != nil {
			return err
		}
	}
	if err := p.set(v, "cpuset.mems", c.Mems, PartitionMember); err != nil {
		return err
	}
	if err := p.set(v, "cpuset.cpus", c.CPUs, c.Partition); err != nil {
		return err
	}
	if c.Partition > PartitionMember {
		return partition(claim, "after the CPUs that it is to have")
	}
	return nil
}

// set plans one list. v2 keeps nothing for "as the parent", but takes nothing
// only while the group has no processes; v1 has no such state, and needs a list
// wherever there are processes.
func (p *planner) set(version int, file string, s Set, partition Partition) error {
	if s.IsZero() {
		return nil
	}
	old, err := p.knob(ControllerCPUSet, file, file)
	if err != nil {
		return err
	}
	want, why := s.list, ""
	if s.IsDefault() && (old != "" || version == 1) {
		if want, why, err = p.likeParent(version, file); err != nil {
			return err
		}
	}
	if old == want {
		return nil
	}
	c := Change{
		Controller: ControllerCPUSet, Knob: file, File: file, Old: old, New: want, Why: why,
	}
	if want == "" {
		c.New = emptyList
	}
	if old == "" {
		c.undo = []write{{file: file, data: emptyList}}
		if version == 2 {
			if c.undo[0].instead, err = p.read(ControllerCPUSet, "../"+file+effective); err != nil {
				return err
			}
		}
	}
	// CPUs that a partition cannot have make it invalid without a word.
	if version == 2 && file == "cpuset.cpus" && partition != PartitionMember {
		if now, err := p.read(ControllerCPUSet, partitionFile); err == nil && now != "" && now != PartitionMember.String() && (partition == PartitionKeep || partition.String() == now) {
			c.other, c.otherWas, c.keeps = partitionFile, now, true
		}
	}
	p.add(c)
	return nil
}

const (
	emptyList = "\n" // a write of nothing is no write
	effective = ".effective"
)

// likeParent is the list that means "as the parent".
func (p *planner) likeParent(version int, file string) (list, why string, err error) {
	if version == 1 {
		list, err = p.parentSet(file, file)
		return list, "what the parent has now: cgroup v1 cannot follow it", err
	}
	events, err := p.read(ControllerCPUSet, "cgroup.events")
	if populated, _ := lineOf(events, "populated"); err != nil || populated != "1" {
		return "", "", err
	}
	// validate_change in kernel/cgroup/cpuset.c.
	list, err = p.parentSet(file, file+effective)
	return list, "what the parent has now: the kernel refuses an empty list while the group has processes", err
}

// parentSet is the list that the parent gets in the same update, or has now.
func (p *planner) parentSet(file, now string) (string, error) {
	for i := range p.changes {
		c := &p.changes[i]
		if c.Controller == ControllerCPUSet && c.File == file && c.want != "" && c.place == path.Dir(p.place(ControllerCPUSet)) {
			return c.want, nil
		}
	}
	return p.read(ControllerCPUSet, "../"+now)
}
