// SPDX-License-Identifier: Apache-2.0

package cgroups

import "slices"

// Knobs calls yield for each knob that r names: its name in v2's words
// ("memory.max", "io.max 8:0 rbps", "devices"), and resources that have it
// alone. It is an iterator: for name, alone := range r.Knobs.
func (r Resources) Knobs(yield func(name string, alone Resources) bool) {
	for _, k := range r.knobs() {
		if !yield(k.name, k.alone) {
			return
		}
	}
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
	for _, k := range r.knobs() {
		if take(k.name) {
			some = some.Merge(k.alone)
		}
	}
	return some
}

// count is about how many knobs r names: what a plan makes room for.
func (r *Resources) count() int {
	n := len(r.IO.Devices) + len(r.HugeTLB) + len(r.RDMA) + len(r.Misc)
	c, s, m := &r.CPU, &r.CPUSet, &r.Memory
	for _, named := range [...]bool{
		!c.Weight.IsZero(), !c.Max.IsZero(), !c.Burst.IsZero(), c.Idle != Keep,
		!s.CPUs.IsZero(), !s.Mems.IsZero(), s.Partition != PartitionKeep,
		!m.Max.IsZero(), !m.High.IsZero(), !m.Low.IsZero(), !m.Min.IsZero(), !m.Swap.IsZero(), !m.SwapHigh.IsZero(), m.OOMGroup != Keep,
		!r.PIDs.Max.IsZero(), !r.IO.Weight.IsZero(), r.IO.Priority != IOPriorityKeep, !r.Devices.IsZero(),
	} {
		if named {
			n++
		}
	}
	return n
}

// Controllers are those whose knobs r names. Devices are one on v1.
func (r Resources) Controllers() (set Controllers) {
	for _, k := range r.knobs() {
		set |= ControllersOf(k.under)
	}
	return set
}

// oneKnob is a knob by itself.
type oneKnob struct {
	name  string
	under Controller
	alone Resources
}

func (r Resources) knobs() (list []oneKnob) {
	add := func(isUnset bool, under Controller, name string, alone Resources) {
		if !isUnset {
			list = append(list, oneKnob{name, under, alone})
		}
	}
	c, s, m := r.CPU, r.CPUSet, r.Memory
	add(c.Weight.IsZero(), ControllerCPU, "cpu.weight", Resources{CPU: CPU{Weight: c.Weight}})
	add(c.Max.IsZero(), ControllerCPU, "cpu.max", Resources{CPU: CPU{Max: c.Max}})
	add(c.Burst.IsZero(), ControllerCPU, "cpu.max.burst", Resources{CPU: CPU{Burst: c.Burst}})
	add(c.Idle == Keep, ControllerCPU, "cpu.idle", Resources{CPU: CPU{Idle: c.Idle}})
	add(s.CPUs.IsZero(), ControllerCPUSet, "cpuset.cpus", Resources{CPUSet: CPUSet{CPUs: s.CPUs}})
	add(s.Mems.IsZero(), ControllerCPUSet, "cpuset.mems", Resources{CPUSet: CPUSet{Mems: s.Mems}})
	add(s.Partition == PartitionKeep, ControllerCPUSet, partitionFile, Resources{CPUSet: CPUSet{Partition: s.Partition}})
	add(m.Max.IsZero(), ControllerMemory, maxFile, Resources{Memory: Memory{Max: m.Max}})
	add(m.High.IsZero(), ControllerMemory, highFile, Resources{Memory: Memory{High: m.High}})
	add(m.Low.IsZero(), ControllerMemory, "memory.low", Resources{Memory: Memory{Low: m.Low}})
	add(m.Min.IsZero(), ControllerMemory, "memory.min", Resources{Memory: Memory{Min: m.Min}})
	add(m.Swap.IsZero(), ControllerMemory, "memory.swap.max", Resources{Memory: Memory{Swap: m.Swap}})
	add(m.SwapHigh.IsZero(), ControllerMemory, "memory.swap.high", Resources{Memory: Memory{SwapHigh: m.SwapHigh}})
	add(m.OOMGroup == Keep, ControllerMemory, "memory.oom.group", Resources{Memory: Memory{OOMGroup: m.OOMGroup}})
	add(r.PIDs.Max.IsZero(), ControllerPIDs, "pids.max", Resources{PIDs: r.PIDs})
	add(r.IO.Weight.IsZero(), ControllerIO, "io.weight", Resources{IO: IO{Weight: r.IO.Weight}})
	add(r.IO.Priority == IOPriorityKeep, ControllerIO, "io.prio.class", Resources{IO: IO{Priority: r.IO.Priority}})
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
	add(r.Devices.IsZero(), ControllerDevices, "devices", Resources{Devices: r.Devices})
	return list
}
