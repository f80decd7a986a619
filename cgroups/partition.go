// SPDX-License-Identifier: Apache-2.0

package cgroups

import "strconv"

// A Partition is what a group's CPUs are to the scheduler. The zero Partition
// leaves the knob as it is.
type Partition uint8

// The partitions.
const (
	PartitionKeep     Partition = iota
	PartitionMember             // part of the parent's partition; the kernel's default
	PartitionRoot               // a scheduling domain of its own, with exclusive CPUs
	PartitionIsolated           // the same without load balancing. Linux 6.1
)

// String is the kernel's word, or nothing when unset.
func (p Partition) String() string {
	switch p {
	case PartitionKeep:
		return ""
	case PartitionMember:
		return "member"
	case PartitionRoot:
		return "root"
	case PartitionIsolated:
		return "isolated"
	}
	return "partition(" + strconv.Itoa(int(p)) + ")"
}

// MarshalText is [Partition.String].
func (p Partition) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads "member", "root", "isolated" or nothing.
func (p *Partition) UnmarshalText(text []byte) error {
	for v := PartitionKeep; v <= PartitionIsolated; v++ {
		if v.String() == string(text) {
			*p = v
			return nil
		}
	}
	return &InvalidError{Field: "cpuset.cpus.partition", Value: string(text), Reason: "neither member nor root nor isolated"}
}
