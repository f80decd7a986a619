// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"math"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/godbus/dbus/v5"
)

// property is one entry of systemd's a(sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// deviceValue is one entry of systemd's a(st).
type deviceValue struct {
	Path  string
	Value uint64
}

// unlimited is systemd's word for "no limit", and for a weight that is not set.
const unlimited = uint64(math.MaxUint64)

// properties translates r, which is valid, or says which knob systemd has no
// property for.
//
// https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html
func properties(r cgroups.Resources) ([]property, error) {
	for name, alone := range r.Knobs {
		if len(translate(alone)) == 0 {
			return nil, &cgroups.UnsupportedError{
				Feature: name + " of a systemd unit",
				Reason:  "systemd has no property for it, and the unit's files are not ours to write; set it on a group below a delegated unit",
			}
		}
	}
	if quota, period, ok := r.CPU.Max.Value(); ok && perSecond(quota, period)*uint64(period/time.Microsecond)/1e6 != uint64(quota/time.Microsecond) {
		return nil, &cgroups.InvalidError{
			Field: "cpu.max", Value: r.CPU.Max.String(),
			Reason: "systemd keeps the quota of a second, in whole microseconds, and would round this one",
		}
	}
	return translate(r), nil
}

// translate leaves out what there is no property for.
func translate(r cgroups.Resources) (list []property) {
	add := func(name string, value any) { list = append(list, property{name, dbus.MakeVariant(value)}) }
	limit := func(name string, l cgroups.Limit, byDefault uint64) {
		switch n, ok := l.Value(); {
		case ok:
			add(name, n)
		case l.IsMax():
			add(name, unlimited)
		case l.IsDefault():
			add(name, byDefault)
		}
	}
	weight := func(name string, w cgroups.Weight) {
		if n, ok := w.Value(); ok {
			add(name, uint64(n))
		} else if w.IsDefault() {
			add(name, unlimited)
		}
	}
	set := func(name string, s cgroups.Set) {
		if !s.IsZero() {
			add(name, bitmap(s))
		}
	}

	weight("CPUWeight", r.CPU.Weight)
	if quota, period, ok := r.CPU.Max.Value(); ok {
		add("CPUQuotaPerSecUSec", perSecond(quota, period))
		add("CPUQuotaPeriodUSec", uint64(period/time.Microsecond))
	} else if r.CPU.Max.IsMax() || r.CPU.Max.IsDefault() {
		add("CPUQuotaPerSecUSec", unlimited)
		add("CPUQuotaPeriodUSec", unlimited) // systemd's default period, the kernel's 100 ms
	}
	set("AllowedCPUs", r.CPUSet.CPUs)
	set("AllowedMemoryNodes", r.CPUSet.Mems)
	limit("MemoryMax", r.Memory.Max, unlimited)
	limit("MemoryHigh", r.Memory.High, unlimited)
	limit("MemoryLow", r.Memory.Low, 0)
	limit("MemoryMin", r.Memory.Min, 0)
	limit("MemorySwapMax", r.Memory.Swap, unlimited)
	weight("IOWeight", r.IO.Weight)
	for _, d := range r.IO.Devices {
		path := "/dev/block/" + d.Device.String()
		one := func(name string, l cgroups.Limit) {
			if n, ok := l.Value(); ok {
				add(name, []deviceValue{{path, n}})
			} else if l.IsMax() || l.IsDefault() {
				add(name, []deviceValue{{path, unlimited}})
			}
		}
		one("IOReadBandwidthMax", d.ReadBytes)
		one("IOWriteBandwidthMax", d.WriteBytes)
		one("IOReadIOPSMax", d.ReadOps)
		one("IOWriteIOPSMax", d.WriteOps)
		if n, ok := d.Weight.Value(); ok {
			add("IODeviceWeight", []deviceValue{{path, uint64(n)}})
		}
		if target, ok := d.Latency.Value(); ok {
			add("IODeviceLatencyTargetUSec", []deviceValue{{path, uint64(target / time.Microsecond)}})
		}
	}
	limit("TasksMax", r.PIDs.Max, unlimited)
	return list
}

// perSecond is the CPU time a second in microseconds, rounded up.
func perSecond(quota, period time.Duration) uint64 {
	q, p := uint64(quota/time.Microsecond), uint64(period/time.Microsecond)
	return (q*1e6 + p - 1) / p
}

// bitmap is the set as systemd wants it: bit 0 of byte 0 is member 0. The
// default is the empty one.
func bitmap(s cgroups.Set) []byte {
	bits := []byte{}
	for n := range s.Each {
		for len(bits) <= n/8 {
			bits = append(bits, 0)
		}
		bits[n/8] |= 1 << (n % 8)
	}
	return bits
}
