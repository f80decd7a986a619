// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"
)

// Validate reports everything about r that no kernel would take, or that a
// kernel would quietly make something else of, as [InvalidError]s joined. It
// asks no kernel: what this one lacks is for [Cgroup.Plan] to say.
func (r Resources) Validate() error {
	var v validator
	v.cpu(r.CPU)
	v.set("cpuset.cpus", r.CPUSet.CPUs)
	v.set("cpuset.mems", r.CPUSet.Mems)
	if r.CPUSet.Partition > PartitionIsolated {
		v.bad(partitionFile, r.CPUSet.Partition, "no such partition")
	}
	v.memory(r.Memory)
	v.io(r.IO)
	v.limit("pids.max", r.PIDs.Max, maxPIDs)
	v.hugetlb(r.HugeTLB)
	v.rdma(r.RDMA)
	v.misc(r.Misc)
	for _, rule := range r.Devices.rules {
		if err := rule.validate(); err != nil {
			v = append(v, err)
		}
	}
	return errors.Join(v...)
}

// validator collects what is wrong.
type validator []error

func (v *validator) bad(field string, value any, reason string) {
	*v = append(*v, &InvalidError{Field: field, Value: fmt.Sprint(value), Reason: reason})
}

func (v *validator) limit(field string, l Limit, most uint64) {
	if l.is == set && l.n > most {
		v.bad(field, l, fmt.Sprintf("above %d, the most that there can be; Max lifts the limit", most))
	}
}

// bytes refuses what v1 and v2 alike would take for unlimited or overflow on.
func (v *validator) bytes(field string, l Limit) { v.limit(field, l, hugeV1-1) }

func (v *validator) weight(field string, w Weight) {
	if w.is == set && (w.n < 1 || w.n > 10000) {
		v.bad(field, w, "not in 1 to 10000")
	}
}

func (v *validator) onOff(field string, s Switch) {
	if s > Off {
		v.bad(field, s, "neither on nor off")
	}
}

func (v *validator) micros(field string, d Duration) {
	switch {
	case d.is != set:
	case d.d < 0:
		v.bad(field, d, "negative")
	case d.d%time.Microsecond != 0:
		v.bad(field, d, "not whole microseconds, which is what the kernel keeps")
	case d.d > maxQuota:
		v.bad(field, d, "above "+maxQuota.String())
	}
}

func (v *validator) cpu(c CPU) {
	v.weight("cpu.weight", c.Weight)
	v.onOff("cpu.idle", c.Idle)
	if c.Idle == On && !c.Weight.IsZero() {
		v.bad("cpu.weight", c.Weight, "together with Idle on: an idle group has no weight")
	}
	v.micros("cpu.max.burst", c.Burst)
	b := c.Max
	if b.is != set {
		return
	}
	switch {
	case b.quota%time.Microsecond != 0 || b.period%time.Microsecond != 0:
		v.bad("cpu.max", b, "not whole microseconds, which is what the kernel keeps")
	case b.period < minBandwidth || b.period > maxPeriod:
		v.bad("cpu.max", b, "the period is not in 1ms to 1s")
	case b.quota < minBandwidth:
		v.bad("cpu.max", b, "the quota is below 1ms; less CPU than that takes a longer period")
	case b.quota > maxQuota:
		v.bad("cpu.max", b, "the quota is above "+maxQuota.String()+"; NoQuota lifts the limit")
	case c.Burst.is == set && c.Burst.d > b.quota:
		v.bad("cpu.max.burst", c.Burst, "above the quota of cpu.max, "+b.String())
	case c.Burst.is == set && c.Burst.d > maxQuota-b.quota:
		v.bad("cpu.max.burst", c.Burst, "with the quota above "+maxQuota.String())
	}
}

func (v *validator) set(field string, s Set) {
	if s.is != set {
		return
	}
	if reason := checkSpans(s.list); reason != "" {
		v.bad(field, s, reason)
	}
}

func (v *validator) memory(m Memory) {
	v.bytes(maxFile, m.Max)
	v.bytes(highFile, m.High)
	v.bytes("memory.low", m.Low)
	v.bytes("memory.min", m.Min)
	v.bytes("memory.swap.max", m.Swap)
	v.bytes("memory.swap.high", m.SwapHigh)
	v.onOff("memory.oom.group", m.OOMGroup)
}

func (v *validator) io(k IO) {
	v.weight("io.weight", k.Weight)
	if k.Priority > IOPriorityNoneToRT {
		v.bad(prioKnob, k.Priority, "no such policy")
	}
	if len(k.Devices) == 0 {
		return
	}
	seen := make(map[Device]bool, len(k.Devices))
	for _, d := range k.Devices {
		name := d.Device.String()
		switch {
		case d.Device.IsZero():
			v.bad("io", name, "an entry without a device")
		case d.Device.Major > maxMajor || d.Device.Minor > maxMinor:
			v.bad("io", name, "no such device number")
		case seen[d.Device]:
			v.bad("io", name, "a second entry for the device")
		}
		seen[d.Device] = true
		v.weight("io.weight "+name, d.Weight)
		v.micros("io.latency "+name, d.Latency)
		for _, f := range []struct {
			field string
			limit Limit
			most  uint64
		}{
			{"rbps", d.ReadBytes, math.MaxInt64}, {"wbps", d.WriteBytes, math.MaxInt64},
			{"riops", d.ReadOps, math.MaxUint32 - 1}, {"wiops", d.WriteOps, math.MaxUint32 - 1},
		} {
			field := "io.max " + name + " " + f.field
			v.limit(field, f.limit, f.most)
			if f.limit.is == set && f.limit.n == 0 {
				v.bad(field, f.limit, "the kernel takes no limit of nothing")
			}
		}
	}
}

func (v *validator) hugetlb(pages []HugeTLB) {
	if len(pages) == 0 {
		return
	}
	seen := make(map[uint64]bool, len(pages))
	for _, h := range pages {
		switch {
		case h.PageSize < 1<<12 || h.PageSize > 1<<40 || bits.OnesCount64(h.PageSize) != 1:
			v.bad("hugetlb", h.PageSize, "not a size of huge pages")
			continue
		case seen[h.PageSize]:
			v.bad("hugetlb", h.PageSize, "a second entry for the page size")
		}
		seen[h.PageSize] = true
		v.bytes(hugetlbFile(2, h.PageSize, false), h.Max)
		v.bytes(hugetlbFile(2, h.PageSize, true), h.Reserved)
	}
}

func (v *validator) rdma(devices []RDMA) {
	if len(devices) == 0 {
		return
	}
	seen := make(map[string]bool, len(devices))
	for _, d := range devices {
		v.name(rdmaFile, d.Device, seen)
		v.limit(rdmaFile+" "+d.Device+" hca_handle", d.Handles, math.MaxInt32-1)
		v.limit(rdmaFile+" "+d.Device+" hca_object", d.Objects, math.MaxInt32-1)
	}
}

func (v *validator) misc(all []Misc) {
	if len(all) == 0 {
		return
	}
	seen := make(map[string]bool, len(all))
	for _, m := range all {
		v.name(miscFile, m.Name, seen)
		v.limit(miscFile+" "+m.Name, m.Max, math.MaxInt64-1)
	}
}

// name refuses what is not one word: it goes into a file whose lines begin with
// it.
func (v *validator) name(field, name string, seen map[string]bool) {
	odd := func(c rune) bool {
		return c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}
	switch {
	case name == "" || strings.ContainsFunc(name, odd):
		v.bad(field, name, "not a name")
	case len(name) > 64:
		v.bad(field, name, "longer than 64 bytes")
	case seen[name]:
		v.bad(field, name, "a second entry for the name")
	}
	seen[name] = true
}
