// SPDX-License-Identifier: Apache-2.0

package cgroups

import "github.com/caisson-run/caisson/internal/compact"

// MarshalJSON writes the knobs that are set, under the names of the fields'
// tags, and does it fast.
func (r Resources) MarshalJSON() ([]byte, error) {
	o := compact.NewObject(256)
	if r.CPU != (CPU{}) {
		o.Object("cpu", r.CPU.members)
	}
	if r.CPUSet != (CPUSet{}) {
		o.Object("cpuset", r.CPUSet.members)
	}
	if r.Memory != (Memory{}) {
		o.Object("memory", r.Memory.members)
	}
	if !r.IO.Weight.IsZero() || r.IO.Priority != 0 || r.IO.Devices != nil {
		o.Object("io", r.IO.members)
	}
	if !r.PIDs.Max.IsZero() {
		o.Object("pids", func(o *compact.Object) { member(o, "max", r.PIDs.Max) })
	}
	if len(r.HugeTLB) > 0 {
		o.Any("hugetlb", r.HugeTLB)
	}
	if len(r.RDMA) > 0 {
		o.Any("rdma", r.RDMA)
	}
	if len(r.Misc) > 0 {
		o.Any("misc", r.Misc)
	}
	if !r.Devices.IsZero() {
		o.Any("devices", r.Devices)
	}
	return o.Bytes()
}

func (c CPU) members(o *compact.Object) {
	member(o, "weight", c.Weight)
	member(o, "max", c.Max)
	member(o, "burst", c.Burst)
	word(o, "idle", c.Idle)
}

func (c CPUSet) members(o *compact.Object) {
	member(o, "cpus", c.CPUs)
	member(o, "mems", c.Mems)
	word(o, "partition", c.Partition)
}

func (m Memory) members(o *compact.Object) {
	member(o, "max", m.Max)
	member(o, "high", m.High)
	member(o, "low", m.Low)
	member(o, "min", m.Min)
	member(o, "swap", m.Swap)
	member(o, "swapHigh", m.SwapHigh)
	word(o, "oomGroup", m.OOMGroup)
}

func (i IO) members(o *compact.Object) {
	member(o, "weight", i.Weight)
	word(o, "prio", i.Priority)
	if len(i.Devices) > 0 {
		o.Any("devices", i.Devices)
	}
}

// member adds a knob that is set.
func member[K interface {
	IsZero() bool
	String() string
}](o *compact.Object, name string, k K) {
	if !k.IsZero() {
		o.Text(name, k.String())
	}
}

// word adds a knob that is one of several words, if it is.
func word[K interface {
	~uint8
	String() string
}](o *compact.Object, name string, k K) {
	if k != 0 {
		o.Text(name, k.String())
	}
}
