// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A Snapshot is what decisions are made from: everything that was measured at
// one moment, and nothing else. It is plain data, so that the same snapshots
// give the same decisions on another day. Rates and shares are averages over
// Elapsed.
type Snapshot struct {
	Time    time.Time     `json:"time"`    // by the wall clock, for what outlives this process
	At      time.Duration `json:"at"`      // since the first snapshot, by a clock that never jumps
	Elapsed time.Duration `json:"elapsed"` // since the one before; 0 in the first, whose rates are all 0

	// New are the sandboxes, ascending, that were made since the snapshot before, in
	// one that is because of them: it has them besides what that had, nothing else was
	// measured again, and Elapsed is 0. Only a [Greeter] is asked about it.
	New []string `json:"new,omitempty"`

	Machine   MachineUse `json:"machine"`
	Sandboxes []Use      `json:"sandboxes"` // by ID, ascending
}

// MachineUse is what the whole machine has and uses.
type MachineUse struct {
	CPUs float64 `json:"cpus"` // how many there are for sandboxes
	CPU  float64 `json:"cpu"`  // how many are busy, with anything

	// CPUSet is which ones sandboxes may use. It is unset if the fleet is not
	// [Placed], and if no policy of the [Meter] moves cpuset.cpus.
	CPUSet cgroups.Set `json:"cpuset,omitzero"`

	Memory   uint64 `json:"memory"`   // bytes there are, or the limit of a [Bounded] fleet if it is less
	Free     uint64 `json:"free"`     // bytes of it that can be had without swapping: MemAvailable
	Swap     uint64 `json:"swap"`     // bytes of swap there are
	SwapFree uint64 `json:"swapFree"` // bytes of swap that are free

	Stalls Stalls `json:"stalls"`

	// Uplink is the link that sandboxes share, of a fleet that is [Linked], seen from
	// the machine. Its Max is what it can carry.
	Uplink *LinkUse `json:"uplink,omitempty"`
}

// Use is what one sandbox has and uses.
type Use struct {
	ID     string `json:"id"`
	Class  Class  `json:"class"`
	Frozen bool   `json:"frozen,omitempty"`

	CPU       float64 `json:"cpu"`                 // CPUs in use
	CPUMax    float64 `json:"cpuMax,omitempty"`    // its cpu.max in CPUs; 0 is none
	CPUBase   float64 `json:"cpuBase,omitempty"`   // the cpu.max that its owner asked for; 0 is none
	Throttled float64 `json:"throttled,omitempty"` // share of its quota periods that ended throttled
	System    float64 `json:"system,omitempty"`    // CPUs in use in the kernel, of CPU

	// CPUSet is cpuset.cpus, of best effort where MachineUse.CPUSet is set, and
	// CPUSetBase what its owner asked for, of latency-critical sandboxes, too. The
	// default is the parent's.
	CPUSet     cgroups.Set `json:"cpuset,omitzero"`
	CPUSetBase cgroups.Set `json:"cpusetBase,omitzero"`

	Memory    uint64  `json:"memory"`              // bytes charged to it
	MemoryMax uint64  `json:"memoryMax,omitempty"` // its memory.max; 0 is none
	MemoryMin uint64  `json:"memoryMin,omitempty"` // what it is promised: the larger of memory.min and memory.low
	File      uint64  `json:"file,omitempty"`      // page cache that can be dropped, inactive and active
	Cold      uint64  `json:"cold,omitempty"`      // of it what nobody has touched lately: inactive
	Growth    float64 `json:"growth,omitempty"`    // bytes a second by which Memory grew; negative when it shrank
	Refaults  float64 `json:"refaults,omitempty"`  // pages a second that came back after being reclaimed
	Swapped   uint64  `json:"swapped,omitempty"`   // bytes in swap

	// MemoryLow is memory.low, of latency-critical sandboxes; unset where there is no
	// such knob. MemoryLowBase is what its owner asked for, as memory.low or
	// memory.min.
	MemoryLow     cgroups.Limit `json:"memoryLow,omitzero"`
	MemoryLowBase cgroups.Limit `json:"memoryLowBase,omitzero"`

	IO []DeviceUse `json:"io,omitempty"` // by device, ascending

	Stalls Stalls `json:"stalls"`

	// Network is what goes over its own network; nil if it has none, is not
	// [Networked], or no policy goes by it.
	Network *NetworkUse `json:"network,omitempty"`

	Service *Service `json:"service,omitempty"` // what it says of itself; nil if it says nothing
}

// DeviceUse is what one sandbox does with one block device, a second.
type DeviceUse struct {
	Device     cgroups.Device `json:"device"`
	ReadBytes  float64        `json:"rbps,omitempty"`
	WriteBytes float64        `json:"wbps,omitempty"`
	Ops        float64        `json:"iops,omitempty"`    // reads and writes
	Cost       float64        `json:"cost,omitempty"`    // share of the device's time, where io.cost knows it
	Limited    bool           `json:"limited,omitempty"` // a limit of io.max is set
}

// Service is what a latency-critical sandbox reports of its own work: figures
// that no kernel has.
type Service struct {
	Target  time.Duration `json:"target"`            // the latency that it must keep, at whatever quantile it means
	Latency time.Duration `json:"latency"`           // the latency that it had since the snapshot before
	Load    float64       `json:"load,omitempty"`    // of what it can serve at most, 0 to 1; 0 if it does not know
	Samples int           `json:"samples,omitempty"` // how many requests that is from; 0 says that Latency is unknown
}

// Slack is by how much of the target the service stays below it: 0.1 is a tenth
// below, negative is above. ok is false if it says nothing.
func (s *Service) Slack() (slack float64, ok bool) {
	if s == nil || s.Target <= 0 || s.Samples <= 0 {
		return 0, false
	}
	return 1 - float64(s.Latency)/float64(s.Target), true
}

// Stalls are the shares of Elapsed lost for want of each resource, 0 to 1.
type Stalls struct {
	// CPU is without what the sandbox's own cpu.max took, as far as that can
	// be told apart.
	CPU    Stall `json:"cpu,omitzero"`
	Memory Stall `json:"memory,omitzero"`
	IO     Stall `json:"io,omitzero"`
}

// Stall is one resource's: Some task stood still, or all of them did.
type Stall struct {
	Some float64 `json:"some,omitempty"`
	Full float64 `json:"full,omitempty"`
}

// Of is the stall for one resource.
func (s *Stalls) Of(r cgroups.PressureResource) Stall {
	switch r {
	case cgroups.PressureCPU:
		return s.CPU
	case cgroups.PressureMemory:
		return s.Memory
	case cgroups.PressureIO:
		return s.IO
	}
	return Stall{}
}

// Find is the sandbox called id, or nil.
func (s *Snapshot) Find(id string) *Use {
	i, ok := slices.BinarySearchFunc(s.Sandboxes, id, func(u Use, id string) int { return strings.Compare(u.ID, id) })
	if !ok {
		return nil
	}
	return &s.Sandboxes[i]
}

// isNew reports whether nothing is known yet of what the sandbox does.
func (s *Snapshot) isNew(id string) bool {
	_, found := slices.BinarySearch(s.New, id)
	return found || s.New == nil && s.Elapsed <= 0
}

// running is the sandboxes of a class that are not frozen.
func (s *Snapshot) running(c Class) iter.Seq[*Use] {
	return func(yield func(*Use) bool) {
		for i := range s.Sandboxes {
			if u := &s.Sandboxes[i]; u.Class == c && !u.Frozen && !yield(u) {
				return
			}
		}
	}
}

// worst is the largest value of f among the sandboxes above best effort, and
// whose it is; nil if f is 0 for all.
func (s *Snapshot) worst(f func(*Use) float64) (*Use, float64) {
	var who *Use
	most := 0.0
	for i := range s.Sandboxes {
		if u := &s.Sandboxes[i]; u.Class != BestEffort && !u.Frozen {
			if v := f(u); v > most {
				who, most = u, v
			}
		}
	}
	return who, most
}
