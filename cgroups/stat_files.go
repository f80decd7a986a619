// SPDX-License-Identifier: Apache-2.0

package cgroups

// statFile is one kernel file with figures of a group. The descriptors that a
// group holds are numbered by it.
type statFile uint8

const (
	fileCPUStatUnified statFile = iota
	fileCPUStatLegacy
	fileCPUAcctUsage
	fileCPUAcctStat

	fileMemoryCurrent
	fileMemoryPeak
	fileMemoryMax
	fileMemoryStat
	fileMemoryEvents
	fileMemorySwapCurrent
	fileMemorySwapPeak
	fileMemorySwapMax
	fileMemorySwapEvents
	fileMemoryUsageLegacy
	fileMemoryPeakLegacy
	fileMemoryLimitLegacy
	fileMemoryMemswLegacy
	fileMemoryStatLegacy
	fileMemoryKernelLegacy
	fileMemoryFailcntLegacy
	fileMemoryMemswFailcntLegacy
	fileMemoryOOMLegacy

	fileIOStat
	fileIOBytesLegacy
	fileIOOpsLegacy

	filePIDsCurrent
	filePIDsPeak
	filePIDsMax
	filePIDsEvents

	fileRDMACurrent
	fileMiscCurrent
	fileMiscEvents

	fileCgroupEvents
	filePressureCPU
	filePressureMemory
	filePressureIO

	numStatFiles
)

// What reads a file.
const (
	inStat   = 1 << iota // Stat
	inEvents             // Events
)

// Which tree a file is in.
const (
	onBoth    = iota // its controller's, of either version
	onV1             // its controller's, if that is v1
	onV2             // its controller's, if that is v2
	onUnified        // the unified tree, controller or not
)

// statFiles says where each file is. Part is the controller to whose figures it
// belongs. The order is the order of reading.
var statFiles = [numStatFiles]struct {
	name  string
	part  Controller
	under Controller // whose tree it is in
	on    uint8
	use   uint8
}{
	// The unified tree accounts CPU time of every group, and throttling of
	// those under the cpu controller.
	fileCPUStatUnified: {"cpu.stat", ControllerCPU, ControllerCPU, onUnified, inStat},
	fileCPUStatLegacy:  {"cpu.stat", ControllerCPU, ControllerCPU, onV1, inStat},
	fileCPUAcctUsage:   {"cpuacct.usage", ControllerCPU, ControllerCPUAcct, onV1, inStat},
	fileCPUAcctStat:    {"cpuacct.stat", ControllerCPU, ControllerCPUAcct, onV1, inStat},

	fileMemoryCurrent:            {"memory.current", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemoryPeak:               {"memory.peak", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemoryMax:                {"memory.max", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemoryStat:               {"memory.stat", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemoryEvents:             {"memory.events", ControllerMemory, ControllerMemory, onV2, inStat | inEvents},
	fileMemorySwapCurrent:        {"memory.swap.current", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemorySwapPeak:           {"memory.swap.peak", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemorySwapMax:            {"memory.swap.max", ControllerMemory, ControllerMemory, onV2, inStat},
	fileMemorySwapEvents:         {"memory.swap.events", ControllerMemory, ControllerMemory, onV2, inEvents},
	fileMemoryUsageLegacy:        {"memory.usage_in_bytes", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryPeakLegacy:         {"memory.max_usage_in_bytes", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryLimitLegacy:        {"memory.limit_in_bytes", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryMemswLegacy:        {"memory.memsw.limit_in_bytes", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryStatLegacy:         {"memory.stat", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryKernelLegacy:       {"memory.kmem.usage_in_bytes", ControllerMemory, ControllerMemory, onV1, inStat},
	fileMemoryFailcntLegacy:      {"memory.failcnt", ControllerMemory, ControllerMemory, onV1, inStat | inEvents},
	fileMemoryMemswFailcntLegacy: {"memory.memsw.failcnt", ControllerMemory, ControllerMemory, onV1, inStat | inEvents},
	fileMemoryOOMLegacy:          {"memory.oom_control", ControllerMemory, ControllerMemory, onV1, inStat | inEvents},

	fileIOStat:        {"io.stat", ControllerIO, ControllerIO, onV2, inStat},
	fileIOBytesLegacy: {"blkio.throttle.io_service_bytes_recursive", ControllerIO, ControllerIO, onV1, inStat},
	fileIOOpsLegacy:   {"blkio.throttle.io_serviced_recursive", ControllerIO, ControllerIO, onV1, inStat},

	filePIDsCurrent: {"pids.current", ControllerPIDs, ControllerPIDs, onBoth, inStat},
	filePIDsPeak:    {"pids.peak", ControllerPIDs, ControllerPIDs, onBoth, inStat},
	filePIDsMax:     {"pids.max", ControllerPIDs, ControllerPIDs, onBoth, inStat},
	filePIDsEvents:  {"pids.events", ControllerPIDs, ControllerPIDs, onBoth, inStat | inEvents},

	fileRDMACurrent: {"rdma.current", ControllerRDMA, ControllerRDMA, onBoth, inStat},
	fileMiscCurrent: {"misc.current", ControllerMisc, ControllerMisc, onBoth, inStat},
	fileMiscEvents:  {"misc.events", ControllerMisc, ControllerMisc, onBoth, inStat},

	fileCgroupEvents:   {"cgroup.events", numControllers, numControllers, onUnified, inEvents},
	filePressureCPU:    {"cpu.pressure", numControllers, numControllers, onUnified, 0},
	filePressureMemory: {"memory.pressure", numControllers, numControllers, onUnified, 0},
	filePressureIO:     {"io.pressure", numControllers, numControllers, onUnified, 0},
}

// measured are the controllers that have figures.
var measured = ControllersOf(ControllerCPU, ControllerCPUAcct, ControllerMemory, ControllerIO,
	ControllerPIDs, ControllerHugeTLB, ControllerRDMA, ControllerMisc)

func fileName(f statFile) string { return statFiles[f].name }
