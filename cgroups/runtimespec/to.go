// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"fmt"
	"math"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/cgroups"
)

// ToSpec converts limits to those of a runtime specification. left is what r
// names besides. [FromSpec] makes of the result what the kernel would take for
// r.
//
// It returns the errors of [cgroups.Resources.Validate].
func ToSpec(r cgroups.Resources) (spec *specs.LinuxResources, left []Leftover, err error) {
	if err := r.Validate(); err != nil {
		return nil, nil, fmt.Errorf("resources: %w", err)
	}
	w := &writer{spec: &specs.LinuxResources{Devices: devicesToSpec(r.Devices)}}
	w.cpu(r.CPU, r.CPUSet)
	w.memory(r.Memory)
	if n := signed(r.PIDs.Max, -1); n != nil {
		w.spec.Pids = &specs.LinuxPids{Limit: n}
	}
	w.io(r.IO)
	w.hugetlb(r.HugeTLB)
	w.rdma(r.RDMA)
	for _, m := range r.Misc {
		if !m.Max.IsZero() {
			w.line("misc.max", m.Name+" "+word(m.Max, "max"))
		}
	}
	return w.spec, w.left, nil
}

// writer is a conversion under way.
type writer struct {
	spec *specs.LinuxResources
	left []Leftover
}

// line adds a line to a file of the unified map.
func (w *writer) line(file, text string) {
	if w.spec.Unified == nil {
		w.spec.Unified = make(map[string]string)
	}
	if old := w.spec.Unified[file]; old != "" {
		text = old + "\n" + text
	}
	w.spec.Unified[file] = text
}

// limit is line for a limit of its own; def is the kernel's default.
func (w *writer) limit(file string, l cgroups.Limit, def string) {
	if !l.IsZero() {
		w.line(file, word(l, def))
	}
}

// word is a limit as a v2 file has it.
func word(l cgroups.Limit, def string) string {
	if l.IsDefault() {
		return def
	}
	return l.String()
}

// signed is a limit as a number with -1 for unlimited, and def for the kernel's
// default; nil if it is unset. Validate has seen to it that it fits.
func signed(l cgroups.Limit, def int64) *int64 {
	switch n, ok := l.Value(); {
	case ok:
		return ref(int64(n))
	case l.IsMax():
		return ref(int64(-1))
	case l.IsDefault():
		return ref(def)
	}
	return nil
}

func onOff(s cgroups.Switch) string {
	if s == cgroups.On {
		return "1"
	}
	return "0"
}

func (w *writer) cpu(c cgroups.CPU, set cgroups.CPUSet) {
	var s specs.LinuxCPU
	if n, ok := c.Weight.Shares(); ok {
		s.Shares = &n
	}
	switch quota, period, ok := c.Max.Value(); {
	case ok:
		s.Quota, s.Period = ref(int64(quota/time.Microsecond)), ref(uint64(period/time.Microsecond))
	case c.Max.IsMax():
		s.Quota = ref(int64(-1))
	case c.Max.IsDefault():
		s.Quota, s.Period = ref(int64(-1)), ref(uint64(defaultPeriod))
	}
	if !c.Burst.IsZero() {
		d, _ := c.Burst.Value() // 0 is the default
		s.Burst = ref(uint64(d / time.Microsecond))
	}
	if c.Idle != cgroups.Keep {
		s.Idle = ref(int64(0))
		if c.Idle == cgroups.On {
			*s.Idle = 1
		}
	}
	for _, k := range []struct {
		file string
		set  cgroups.Set
		to   *string
	}{{"cpuset.cpus", set.CPUs, &s.Cpus}, {"cpuset.mems", set.Mems, &s.Mems}} {
		if k.set.IsDefault() {
			w.left = append(w.left, Leftover{k.file, k.set.String(), "there is no word for what the parent has"})
		} else {
			*k.to = k.set.String()
		}
	}
	if set.Partition != cgroups.PartitionKeep {
		w.line("cpuset.cpus.partition", set.Partition.String())
	}
	if s != (specs.LinuxCPU{}) {
		w.spec.CPU = &s
	}
}

func (w *writer) memory(m cgroups.Memory) {
	s := specs.LinuxMemory{Limit: signed(m.Max, -1)}
	if s.Limit != nil && *s.Limit == 0 {
		s.Limit = nil // runtimes would take it for unset
		w.line("memory.max", "0")
	}
	if n := signed(m.Low, 0); n != nil && *n != 0 {
		s.Reservation = n
	} else {
		w.limit("memory.low", m.Low, "0")
	}
	if n := signed(m.Swap, -1); n != nil {
		switch {
		case *n == -1:
			s.Swap = n
		case s.Limit != nil && *s.Limit > 0:
			s.Swap = ref(*s.Limit + *n) // each is below 2^62
		default:
			w.limit("memory.swap.max", m.Swap, "")
		}
	}
	w.limit("memory.high", m.High, "max")
	w.limit("memory.min", m.Min, "0")
	w.limit("memory.swap.high", m.SwapHigh, "max")
	if m.OOMGroup != cgroups.Keep {
		w.line("memory.oom.group", onOff(m.OOMGroup))
	}
	if s != (specs.LinuxMemory{}) {
		w.spec.Memory = &s
	}
}

func (w *writer) io(k cgroups.IO) {
	s := &specs.LinuxBlockIO{}
	any := false
	if n := exactBFQ(k.Weight); n != nil {
		s.Weight, any = n, true
	} else if !k.Weight.IsZero() {
		w.line("io.weight", "default "+k.Weight.String())
	}
	for _, d := range k.Devices {
		dev := specs.LinuxBlockIODevice{Major: int64(d.Device.Major), Minor: int64(d.Device.Minor)}
		if n := exactBFQ(d.Weight); n != nil && !d.Weight.IsDefault() {
			s.WeightDevice = append(s.WeightDevice, specs.LinuxWeightDevice{LinuxBlockIODevice: dev, Weight: n})
			any = true
		} else if !d.Weight.IsZero() {
			w.line("io.weight", d.Device.String()+" "+d.Weight.String())
		}
		for _, t := range throttles {
			if l := *t.knob(&d); !l.IsZero() {
				n, _ := l.Value() // 0 lifts it
				*t.list(s) = append(*t.list(s), specs.LinuxThrottleDevice{LinuxBlockIODevice: dev, Rate: n})
				any = true
			}
		}
		if !d.Latency.IsZero() {
			t, _ := d.Latency.Value() // 0 is the default
			w.line("io.latency", d.Device.String()+" target="+strconv.FormatInt(int64(t/time.Microsecond), 10))
		}
	}
	if any {
		w.spec.BlockIO = s
	}
}

// exactBFQ is the weight as one of bfq, if that means the same weight.
func exactBFQ(w cgroups.Weight) *uint16 {
	n, ok := w.BFQ()
	if v, is := w.Value(); !ok || is && cgroups.WeightOfBFQ(n) != cgroups.WeightOf(v) {
		return nil
	}
	return &n
}

func (w *writer) hugetlb(pages []cgroups.HugeTLB) {
	for _, h := range pages {
		name := cgroups.PageSizeName(h.PageSize)
		if h.Max == h.Reserved && !h.Max.IsZero() {
			n, ok := h.Max.Value()
			if !ok {
				n = math.MaxUint64
			}
			w.spec.HugepageLimits = append(w.spec.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: name, Limit: n})
			continue
		}
		w.limit("hugetlb."+name+".max", h.Max, "max")
		w.limit("hugetlb."+name+".rsvd.max", h.Reserved, "max")
	}
}

func (w *writer) rdma(devices []cgroups.RDMA) {
	for _, d := range devices {
		var s specs.LinuxRdma
		for _, l := range []struct {
			from cgroups.Limit
			to   **uint32
		}{{d.Handles, &s.HcaHandles}, {d.Objects, &s.HcaObjects}} {
			if n := signed(l.from, -1); n != nil {
				if *l.to = ref(uint32(*n)); *n == -1 {
					*l.to = ref(uint32(unlimitedRDMA))
				}
			}
		}
		if s == (specs.LinuxRdma{}) {
			continue
		}
		if w.spec.Rdma == nil {
			w.spec.Rdma = make(map[string]specs.LinuxRdma)
		}
		w.spec.Rdma[d.Device] = s
	}
}
