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

// set plans one list. v2 keeps nothing for "as the parent"; v1 has no such
// state, and needs a list wherever there are processes.
func (p *planner) set(version int, file string, s Set, partition Partition) error {
	if s.IsZero() {
		return nil
	}
	want, why := s.list, ""
	if s.IsDefault() && version == 1 {
		parent, err := p.parentSet(file)
		if err != nil {
			return err
		}
		want, why = parent, "what the parent has now: cgroup v1 cannot follow it"
	}
	old, err := p.knob(ControllerCPUSet, file, file)
	if err != nil || old == want {
		return err
	}
	c := Change{
		Controller: ControllerCPUSet, Knob: file, File: file, Old: old, New: want, Why: why,
	}
	if want == "" {
		c.New = "\n" // a write of nothing is no write
	}
	if old == "" {
		c.undo = []write{{file: file, data: "\n"}}
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

// parentSet is the list that the parent has, or gets in the same update.
func (p *planner) parentSet(file string) (string, error) {
	for i := range p.changes {
		c := &p.changes[i]
		if c.Controller == ControllerCPUSet && c.File == file && c.place == path.Dir(p.place(ControllerCPUSet)) {
			return c.want, nil
		}
	}
	return p.read(ControllerCPUSet, "../"+file)
}
