// SPDX-License-Identifier: Apache-2.0

package cgroups

import "slices"

// Knobs calls yield for each knob that r names: its name in v2's words
// ("memory.max", "io.max 8:0 rbps", "devices"), and resources that have it
// alone. It is an iterator: for name, alone := range r.Knobs.
func (r Resources) Knobs(yield func(name string, alone Resources) bool) {
	r.each(func(name string, _ Controller, alone func() Resources) bool { return yield(name, alone()) })
}

// Names are the knobs that r names, as [Resources.Knobs] calls them.
func (r Resources) Names() []string {
	names := make([]string, 0, r.count())
	for i := range simpleKnobs {
		if simpleKnobs[i].named(&r) {
			names = append(names, simpleKnobs[i].name)
		}
	}
	r.others(func(name string, _ Controller, _ func() Resources) bool {
		names = append(names, name)
		return true
	})
	return names
}

// Pick is r without the knobs that are not named, as [Resources.Knobs] calls
// them.
func (r Resources) Pick(names ...string) Resources {
	return r.filter(func(name string) bool { return slices.Contains(names, name) })
}

// Without is r without the knobs that are named.
func (r Resources) Without(names ...string) Resources {
	return r.filter(func(name string) bool { return !slices.Contains(names, name) })
}

func (r Resources) filter(take func(name string) bool) (some Resources) {
	for i := range simpleKnobs {
		if k := &simpleKnobs[i]; k.named(&r) && take(k.name) {
			k.copy(&some, &r)
		}
	}
	r.others(func(name string, _ Controller, alone func() Resources) bool {
		if take(name) {
			some = some.Merge(alone())
		}
		return true
	})
	return some
}

// Controllers are those whose knobs r names. Devices are one on v1.
func (r Resources) Controllers() (set Controllers) {
	r.each(func(_ string, under Controller, _ func() Resources) bool {
		set |= ControllersOf(under)
		return true
	})
	return set
}

// count is about how many knobs r names: what a plan makes room for.
func (r *Resources) count() int {
	n := len(r.IO.Devices) + len(r.HugeTLB) + len(r.RDMA) + len(r.Misc)
	for i := range simpleKnobs {
		if simpleKnobs[i].named(r) {
			n++
		}
	}
	return n
}

// simpleKnob is a knob that is one field of [Resources].
type simpleKnob struct {
	name  string
	under Controller
	named func(r *Resources) bool
	copy  func(to, from *Resources)
}

// simpleKnobs are all of them but the devices.
var simpleKnobs = [...]simpleKnob{
	{"cpu.weight", ControllerCPU, func(r *Resources) bool { return !r.CPU.Weight.IsZero() }, func(to, from *Resources) { to.CPU.Weight = from.CPU.Weight }},
	{"cpu.max", ControllerCPU, func(r *Resources) bool { return !r.CPU.Max.IsZero() }, func(to, from *Resources) { to.CPU.Max = from.CPU.Max }},
	{"cpu.max.burst", ControllerCPU, func(r *Resources) bool { return !r.CPU.Burst.IsZero() }, func(to, from *Resources) { to.CPU.Burst = from.CPU.Burst }},
	{"cpu.idle", ControllerCPU, func(r *Resources) bool { return r.CPU.Idle != Keep }, func(to, from *Resources) { to.CPU.Idle = from.CPU.Idle }},
	{"cpuset.cpus", ControllerCPUSet, func(r *Resources) bool { return !r.CPUSet.CPUs.IsZero() }, func(to, from *Resources) { to.CPUSet.CPUs = from.CPUSet.CPUs }},
	{"cpuset.mems", ControllerCPUSet, func(r *Resources) bool { return !r.CPUSet.Mems.IsZero() }, func(to, from *Resources) { to.CPUSet.Mems = from.CPUSet.Mems }},
	{partitionFile, ControllerCPUSet, func(r *Resources) bool { return r.CPUSet.Partition != PartitionKeep }, func(to, from *Resources) { to.CPUSet.Partition = from.CPUSet.Partition }},
	{maxFile, ControllerMemory, func(r *Resources) bool { return !r.Memory.Max.IsZero() }, func(to, from *Resources) { to.Memory.Max = from.Memory.Max }},
	{highFile, ControllerMemory, func(r *Resources) bool { return !r.Memory.High.IsZero() }, func(to, from *Resources) { to.Memory.High = from.Memory.High }},
	{"memory.low", ControllerMemory, func(r *Resources) bool { return !r.Memory.Low.IsZero() }, func(to, from *Resources) { to.Memory.Low = from.Memory.Low }},
	{"memory.min", ControllerMemory, func(r *Resources) bool { return !r.Memory.Min.IsZero() }, func(to, from *Resources) { to.Memory.Min = from.Memory.Min }},
	{"memory.swap.max", ControllerMemory, func(r *Resources) bool { return !r.Memory.Swap.IsZero() }, func(to, from *Resources) { to.Memory.Swap = from.Memory.Swap }},
	{"memory.swap.high", ControllerMemory, func(r *Resources) bool { return !r.Memory.SwapHigh.IsZero() }, func(to, from *Resources) { to.Memory.SwapHigh = from.Memory.SwapHigh }},
	{"memory.oom.group", ControllerMemory, func(r *Resources) bool { return r.Memory.OOMGroup != Keep }, func(to, from *Resources) { to.Memory.OOMGroup = from.Memory.OOMGroup }},
	{"pids.max", ControllerPIDs, func(r *Resources) bool { return !r.PIDs.Max.IsZero() }, func(to, from *Resources) { to.PIDs.Max = from.PIDs.Max }},
	{"io.weight", ControllerIO, func(r *Resources) bool { return !r.IO.Weight.IsZero() }, func(to, from *Resources) { to.IO.Weight = from.IO.Weight }},
	{"io.prio.class", ControllerIO, func(r *Resources) bool { return r.IO.Priority != IOPriorityKeep }, func(to, from *Resources) { to.IO.Priority = from.IO.Priority }},
}

// each calls yield for each knob that r names, until it returns false. alone makes
// resources that have it alone.
func (r *Resources) each(yield func(name string, under Controller, alone func() Resources) bool) {
	for i := range simpleKnobs {
		k := &simpleKnobs[i]
		if k.named(r) && !yield(k.name, k.under, func() (alone Resources) { k.copy(&alone, r); return alone }) {
			return
		}
	}
	r.others(yield)
}

// others is each for the knobs that are entries of lists, and for the devices.
func (r *Resources) others(yield func(name string, under Controller, alone func() Resources) bool) {
	more := true
	add := func(isUnset bool, under Controller, name string, alone Resources) {
		if more && !isUnset {
			more = yield(name, under, func() Resources { return alone })
		}
	}
	for _, d := range r.IO.Devices {
		name := d.Device.String()
		alone := func(k IODevice) Resources {
			k.Device = d.Device
			return Resources{IO: IO{Devices: []IODevice{k}}}
		}
		add(d.Weight.IsZero(), ControllerIO, "io.weight "+name, alone(IODevice{Weight: d.Weight}))
		add(d.ReadBytes.IsZero(), ControllerIO, "io.max "+name+" rbps", alone(IODevice{ReadBytes: d.ReadBytes}))
		add(d.WriteBytes.IsZero(), ControllerIO, "io.max "+name+" wbps", alone(IODevice{WriteBytes: d.WriteBytes}))
		add(d.ReadOps.IsZero(), ControllerIO, "io.max "+name+" riops", alone(IODevice{ReadOps: d.ReadOps}))
		add(d.WriteOps.IsZero(), ControllerIO, "io.max "+name+" wiops", alone(IODevice{WriteOps: d.WriteOps}))
		add(d.Latency.IsZero(), ControllerIO, "io.latency "+name, alone(IODevice{Latency: d.Latency}))
	}
	for _, h := range r.HugeTLB {
		alone := func(k HugeTLB) Resources {
			k.PageSize = h.PageSize
			return Resources{HugeTLB: []HugeTLB{k}}
		}
		add(h.Max.IsZero(), ControllerHugeTLB, hugetlbFile(2, h.PageSize, false), alone(HugeTLB{Max: h.Max}))
		add(h.Reserved.IsZero(), ControllerHugeTLB, hugetlbFile(2, h.PageSize, true), alone(HugeTLB{Reserved: h.Reserved}))
	}
	for _, d := range r.RDMA {
		add(d.Handles.IsZero(), ControllerRDMA, rdmaFile+" "+d.Device+" hca_handle", Resources{RDMA: []RDMA{{Device: d.Device, Handles: d.Handles}}})
		add(d.Objects.IsZero(), ControllerRDMA, rdmaFile+" "+d.Device+" hca_object", Resources{RDMA: []RDMA{{Device: d.Device, Objects: d.Objects}}})
	}
	for _, k := range r.Misc {
		add(k.Max.IsZero(), ControllerMisc, miscFile+" "+k.Name, Resources{Misc: []Misc{k}})
	}
	if !r.Devices.IsZero() {
		add(false, ControllerDevices, "devices", Resources{Devices: r.Devices})
	}
}
