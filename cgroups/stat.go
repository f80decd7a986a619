// SPDX-License-Identifier: Apache-2.0

package cgroups

import "time"

// Stats is what a group and its descendants use, in v2's words and units
// whatever the mode. A figure that this kernel or mode lacks is absent (see
// [Reading]); a limit that the kernel does not have here is the zero [Limit].
//
// A Stats value that is used again keeps its slices, so a caller that wants no
// allocation has one Stats and fills it again and again.
type Stats struct {
	// Has is the controllers that were read.
	Has Controllers `json:"has"`

	CPU     CPUStats       `json:"cpu,omitzero"`
	Memory  MemoryStats    `json:"memory,omitzero"`
	IO      IOStats        `json:"io,omitzero"`
	PIDs    PIDsStats      `json:"pids,omitzero"`
	HugeTLB []HugeTLBStats `json:"hugetlb,omitempty"` // one entry a page size
	RDMA    []RDMAStats    `json:"rdma,omitempty"`    // one entry a device
	Misc    []MiscStats    `json:"misc,omitempty"`    // one entry a resource

	// The pressures are absent where the kernel does not account them for
	// this group; [Cgroup.Pressure] says why.
	CPUPressure    Pressure `json:"cpuPressure,omitzero"`
	MemoryPressure Pressure `json:"memoryPressure,omitzero"`
	IOPressure     Pressure `json:"ioPressure,omitzero"`
}

// CPUStats is cpu.stat; on v1 cpu.stat, cpuacct.usage and cpuacct.stat.
//
// Usage, User and System are there also without the cpu controller, as long as
// the group is in a cgroup2 tree or under cpuacct. From cpuacct, User and System
// come in steps of 10 ms, and older kernels sample them, so that they do not add
// up to Usage.
type CPUStats struct {
	Usage  Reading[time.Duration] `json:"usageNs,omitzero"`
	User   Reading[time.Duration] `json:"userNs,omitzero"`
	System Reading[time.Duration] `json:"systemNs,omitzero"`

	Periods       Reading[uint64]        `json:"periods,omitzero"`     // nr_periods, with a quota
	Throttled     Reading[uint64]        `json:"throttled,omitzero"`   // nr_throttled: periods that ended throttled
	ThrottledTime Reading[time.Duration] `json:"throttledNs,omitzero"` // throttled_usec, summed over CPUs
	Bursts        Reading[uint64]        `json:"bursts,omitzero"`      // nr_bursts; Linux 5.14
	BurstTime     Reading[time.Duration] `json:"burstNs,omitzero"`     // burst_usec; Linux 5.14
}

// MemoryStats is memory.current, memory.stat and what surrounds them, in bytes.
// On v1 Anon, File and the like are memory.stat's total_ lines.
type MemoryStats struct {
	Current  Reading[uint64] `json:"current,omitzero"`
	Peak     Reading[uint64] `json:"peak,omitzero"` // memory.peak, Linux 5.19; v1 max_usage_in_bytes
	Max      Limit           `json:"max,omitzero"`
	Swap     Reading[uint64] `json:"swap,omitzero"`     // swap alone, without memory
	SwapPeak Reading[uint64] `json:"swapPeak,omitzero"` // memory.swap.peak; v2 only, Linux 6.5
	SwapMax  Limit           `json:"swapMax,omitzero"`

	Anon          Reading[uint64] `json:"anon,omitzero"`   // v1 rss
	File          Reading[uint64] `json:"file,omitzero"`   // v1 cache
	Kernel        Reading[uint64] `json:"kernel,omitzero"` // Linux 5.18; v1 kmem.usage_in_bytes
	KernelStack   Reading[uint64] `json:"kernelStack,omitzero"`
	PageTables    Reading[uint64] `json:"pageTables,omitzero"`
	PerCPU        Reading[uint64] `json:"perCPU,omitzero"`
	Sock          Reading[uint64] `json:"sock,omitzero"`
	Shmem         Reading[uint64] `json:"shmem,omitzero"`
	Zswap         Reading[uint64] `json:"zswap,omitzero"`    // memory that compressed swap takes
	Zswapped      Reading[uint64] `json:"zswapped,omitzero"` // what it would take uncompressed
	FileMapped    Reading[uint64] `json:"fileMapped,omitzero"`
	FileDirty     Reading[uint64] `json:"fileDirty,omitzero"`
	FileWriteback Reading[uint64] `json:"fileWriteback,omitzero"`
	SwapCached    Reading[uint64] `json:"swapCached,omitzero"`
	AnonTHP       Reading[uint64] `json:"anonTHP,omitzero"` // v1 rss_huge
	InactiveAnon  Reading[uint64] `json:"inactiveAnon,omitzero"`
	ActiveAnon    Reading[uint64] `json:"activeAnon,omitzero"`
	InactiveFile  Reading[uint64] `json:"inactiveFile,omitzero"`
	ActiveFile    Reading[uint64] `json:"activeFile,omitzero"`
	Unevictable   Reading[uint64] `json:"unevictable,omitzero"`
	Slab          Reading[uint64] `json:"slab,omitzero"`

	SlabReclaimable   Reading[uint64] `json:"slabReclaimable,omitzero"`
	SlabUnreclaimable Reading[uint64] `json:"slabUnreclaimable,omitzero"`

	// Counts of pages and faults since the group was made. v1 has the two
	// faults and, of the working set, the refaults.
	RefaultAnon  Reading[uint64] `json:"refaultAnon,omitzero"`  // workingset_refault_anon
	RefaultFile  Reading[uint64] `json:"refaultFile,omitzero"`  // workingset_refault_file
	ActivateAnon Reading[uint64] `json:"activateAnon,omitzero"` // workingset_activate_anon
	ActivateFile Reading[uint64] `json:"activateFile,omitzero"` // workingset_activate_file
	RestoreAnon  Reading[uint64] `json:"restoreAnon,omitzero"`  // workingset_restore_anon
	RestoreFile  Reading[uint64] `json:"restoreFile,omitzero"`  // workingset_restore_file
	NodeReclaim  Reading[uint64] `json:"nodeReclaim,omitzero"`  // workingset_nodereclaim
	Faults       Reading[uint64] `json:"faults,omitzero"`       // pgfault
	MajorFaults  Reading[uint64] `json:"majorFaults,omitzero"`  // pgmajfault
	Scanned      Reading[uint64] `json:"scanned,omitzero"`      // pgscan: pages that reclaim looked at
	Stolen       Reading[uint64] `json:"stolen,omitzero"`       // pgsteal: pages that reclaim took
	Refilled     Reading[uint64] `json:"refilled,omitzero"`     // pgrefill
	Activated    Reading[uint64] `json:"activated,omitzero"`    // pgactivate
	Deactivated  Reading[uint64] `json:"deactivated,omitzero"`  // pgdeactivate
	LazyFree     Reading[uint64] `json:"lazyFree,omitzero"`     // pglazyfree
	LazyFreed    Reading[uint64] `json:"lazyFreed,omitzero"`    // pglazyfreed
	THPFaults    Reading[uint64] `json:"thpFaults,omitzero"`    // thp_fault_alloc
	THPCollapses Reading[uint64] `json:"thpCollapses,omitzero"` // thp_collapse_alloc

	Events MemoryEvents `json:"events,omitzero"`
}

// IOStats is io.stat; on v1 blkio's throttle.io_service_bytes_recursive and
// throttle.io_serviced_recursive. v1 does not count for the group what is
// written back later from the page cache, and since Linux 6.10 it counts only on
// devices for which some group has a throttle limit.
type IOStats struct {
	Total   IOCounters      `json:"total,omitzero"` // all devices together
	Devices []IODeviceStats `json:"devices,omitempty"`
}

// IODeviceStats is what went to and from one block device. Devices that the
// group never used are not listed.
type IODeviceStats struct {
	Device Device `json:"device"`
	IOCounters

	// Cost is the time of the device that the group's IO has taken, by the
	// model of io.cost, where that is enabled (see [Root.SetIOCost]). v2 only;
	// Linux 5.10.
	Cost Reading[time.Duration] `json:"costNs,omitzero"`
}

// IOCounters count since the group was made.
type IOCounters struct {
	ReadBytes    Reading[uint64] `json:"readBytes,omitzero"`
	WriteBytes   Reading[uint64] `json:"writeBytes,omitzero"`
	DiscardBytes Reading[uint64] `json:"discardBytes,omitzero"`
	ReadOps      Reading[uint64] `json:"readOps,omitzero"`
	WriteOps     Reading[uint64] `json:"writeOps,omitzero"`
	DiscardOps   Reading[uint64] `json:"discardOps,omitzero"`
}

// PIDsStats counts tasks, which are threads.
type PIDsStats struct {
	Current Reading[uint64] `json:"current,omitzero"`
	Peak    Reading[uint64] `json:"peak,omitzero"` // Linux 6.1
	Max     Limit           `json:"max,omitzero"`
	Events  PIDsEvents      `json:"events,omitzero"`
}

// HugeTLBStats is the use of huge pages of one size, in bytes.
type HugeTLBStats struct {
	PageSize uint64          `json:"pageSize"`
	Current  Reading[uint64] `json:"current,omitzero"`
	Reserved Reading[uint64] `json:"reserved,omitzero"` // rsvd.current; Linux 5.7
	Max      Limit           `json:"max,omitzero"`
	Failures Reading[uint64] `json:"failures,omitzero"` // allocations refused by a limit
}

// RDMAStats is the use of one RDMA device.
type RDMAStats struct {
	Device  string          `json:"device"`
	Handles Reading[uint64] `json:"handles,omitzero"`
	Objects Reading[uint64] `json:"objects,omitzero"`
}

// MiscStats is the use of one resource of the misc controller.
type MiscStats struct {
	Name     string          `json:"name"`
	Current  Reading[uint64] `json:"current,omitzero"`
	Failures Reading[uint64] `json:"failures,omitzero"` // charges refused by a limit; Linux 5.16
}
