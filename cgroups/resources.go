// SPDX-License-Identifier: Apache-2.0

package cgroups

// Resources is what a group may use: plain data, without I/O. In an update the
// zero value of each knob means "leave as it is", so Resources{} changes
// nothing.
type Resources struct {
	CPU     CPU       `json:"cpu,omitzero"`
	CPUSet  CPUSet    `json:"cpuset,omitzero"`
	Memory  Memory    `json:"memory,omitzero"`
	IO      IO        `json:"io,omitzero"`
	PIDs    PIDs      `json:"pids,omitzero"`
	HugeTLB []HugeTLB `json:"hugetlb,omitempty"` // one entry a page size
	RDMA    []RDMA    `json:"rdma,omitempty"`    // one entry a device
	Misc    []Misc    `json:"misc,omitempty"`    // one entry a resource
	Devices Devices   `json:"devices,omitzero"`
}

// CPU holds the knobs of the cpu controller.
type CPU struct {
	// Weight is cpu.weight, the share of CPU time under contention. On v1 it
	// is written as cpu.shares by the runtimes' current quadratic formula.
	Weight Weight `json:"weight,omitzero"`

	// Max is cpu.max: how much CPU time the group gets in each period.
	Max Bandwidth `json:"max,omitzero"`

	// Burst is cpu.max.burst: unused quota that may be saved up, at most the
	// quota. Linux 5.14.
	Burst Duration `json:"burst,omitzero"`

	// Idle is cpu.idle: the group runs only when nobody else wants to. While
	// it is on, the kernel refuses to change Weight. Linux 5.15.
	Idle Switch `json:"idle,omitzero"`
}

// CPUSet holds the knobs of the cpuset controller.
type CPUSet struct {
	// CPUs is cpuset.cpus, the CPUs the group may run on. Default means the
	// parent's.
	CPUs Set `json:"cpus,omitzero"`

	// Mems is cpuset.mems, the memory nodes the group may allocate from.
	Mems Set `json:"mems,omitzero"`

	// Partition is cpuset.cpus.partition. v2 only; Linux 5.0, isolated 6.1.
	Partition Partition `json:"partition,omitzero"`
}

// Memory holds the knobs of the memory controller, in bytes. The kernel rounds
// down to pages.
type Memory struct {
	// Max is memory.max, the hard limit: above it the kernel reclaims and
	// then kills.
	Max Limit `json:"max,omitzero"`

	// High is memory.high: above it the kernel reclaims and slows the group
	// down, and kills nobody. v2 only.
	High Limit `json:"high,omitzero"`

	// Low is memory.low: below it memory is taken only when nobody
	// unprotected has any. v2 only.
	Low Limit `json:"low,omitzero"`

	// Min is memory.min: below it memory is never taken. v2 only; Linux 4.18.
	Min Limit `json:"min,omitzero"`

	// Swap is memory.swap.max: swap alone, not memory plus swap. On v1 it is
	// written as memory.memsw.limit_in_bytes, Max and Swap added, and needs
	// Max as a number.
	Swap Limit `json:"swap,omitzero"`

	// SwapHigh is memory.swap.high: above it the group is slowed down. v2
	// only; Linux 5.8.
	SwapHigh Limit `json:"swapHigh,omitzero"`

	// OOMGroup is memory.oom.group: an out-of-memory kill takes the whole
	// group. v2 only; Linux 4.19.
	OOMGroup Switch `json:"oomGroup,omitzero"`
}

// IO holds the knobs of the io controller (blkio on v1).
type IO struct {
	// Weight is io.weight's default: the share of each device under
	// contention. It needs io.cost (see [Root.SetIOCost]) or, as bfq.weight,
	// the bfq scheduler.
	Weight Weight `json:"weight,omitzero"`

	// Priority is io.prio.class (blkio.prio.class on v1): the I/O priority
	// class of the group's requests, for schedulers that heed it: bfq and
	// mq-deadline. Linux 5.14, CONFIG_BLK_CGROUP_IOPRIO.
	Priority IOPriority `json:"prio,omitzero"`

	// Devices are the knobs of single block devices, at most one entry a
	// device. Devices not named are left as they are.
	Devices []IODevice `json:"devices,omitempty"`
}

// IODevice holds the io knobs of one block device.
type IODevice struct {
	Device Device `json:"device"`

	// Weight is the device's own line of io.weight.
	Weight Weight `json:"weight,omitzero"`

	// The four fields of io.max. On v1 they are blkio.throttle files.
	ReadBytes  Limit `json:"rbps,omitzero"`  // bytes a second
	WriteBytes Limit `json:"wbps,omitzero"`  // bytes a second
	ReadOps    Limit `json:"riops,omitzero"` // operations a second
	WriteOps   Limit `json:"wiops,omitzero"` // operations a second

	// Latency is io.latency's target: peers with a longer target are slowed
	// down while this group misses its own. v2 only; Linux 4.19.
	Latency Duration `json:"latency,omitzero"`
}

// PIDs holds the knobs of the pids controller.
type PIDs struct {
	// Max is pids.max, the number of tasks; fork fails with EAGAIN above it.
	Max Limit `json:"max,omitzero"`
}

// HugeTLB limits huge pages of one size.
type HugeTLB struct {
	PageSize uint64 `json:"pageSize"`          // bytes, a power of two that the kernel has
	Max      Limit  `json:"max,omitzero"`      // hugetlb.<size>.max, bytes in use
	Reserved Limit  `json:"reserved,omitzero"` // hugetlb.<size>.rsvd.max, bytes reserved; Linux 5.7
}

// RDMA limits one RDMA device.
type RDMA struct {
	Device  string `json:"device"`
	Handles Limit  `json:"handles,omitzero"` // hca_handle
	Objects Limit  `json:"objects,omitzero"` // hca_object
}

// Misc limits one scalar resource of the misc controller. Linux 5.13.
type Misc struct {
	Name string `json:"name"` // "sev", "sgx_epc": as in misc.capacity
	Max  Limit  `json:"max,omitzero"`
}
